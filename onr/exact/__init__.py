"""Exact numbers for the core: rationals with a square root, and balls that enclose reals."""
