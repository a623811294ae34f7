"""The paper's figures and tables as experiments (:mod:`onr.experiments`), one file for each."""
