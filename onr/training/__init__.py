"""Training runs: the configuration, the training loop, the folder on disk, and evaluation."""
