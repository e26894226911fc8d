"""The demonstration: a small study of our own on the bundled digits."""

from eigencode.papers.demo.study import PAPER

__all__ = ["PAPER"]
