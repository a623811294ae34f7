"""Sweeps: a grid of configurations, trained on the cores of one machine or on a cluster."""
