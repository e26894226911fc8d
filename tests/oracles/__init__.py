"""Slow references in NumPy float64, written from the definitions and nothing of the package."""
