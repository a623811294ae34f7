"""Modules to measure and train, from architectures, torchvision, the user and files."""
