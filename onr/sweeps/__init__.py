"""Sweeps: train a grid of configurations on the cores of one machine, or on a cluster."""
