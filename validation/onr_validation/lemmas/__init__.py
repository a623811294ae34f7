"""Checks of the paper's lemmas and of Table 1."""
