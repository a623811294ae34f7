"""The version of the project, which the record of every run contains."""

__version__ = "0.1.0"
