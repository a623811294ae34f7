"""Attacks that run on every backend: projected gradient ascent, the fast gradient method, noise."""
