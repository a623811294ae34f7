"""Modules to measure and train: from architectures, from torchvision, from the user, from files."""
