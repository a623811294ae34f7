"""What the paper measures, each a function of a model and of settings (:mod:`onr.experiments`)."""
