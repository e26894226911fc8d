"""The version of eigencode."""

__version__ = "0.1.0"
