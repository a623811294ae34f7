"""Exact numbers for the core: rationals with one square root, and balls that enclose reals."""
