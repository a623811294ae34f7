"""Training runs: their configuration, the loop, the folder on disk, and their evaluation."""
