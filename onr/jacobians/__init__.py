"""Computations on Jacobians: the paper's two iterations, operator norms, spectra, ReLU cells."""
