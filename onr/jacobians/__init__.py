"""What a Jacobian does to vectors: the two loops of the paper, operator norms, spectra, cells."""
