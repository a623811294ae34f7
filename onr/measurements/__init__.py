"""Measurements of a network around inputs: accuracy, norms, spectrum, alignment, linearity."""
