"""Theorem 1, checked on random and trained ReLU networks."""
