"""Checks of Theorem 1 on random and trained ReLU networks."""
