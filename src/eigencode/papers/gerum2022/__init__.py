"""Gerum et al. 2022."""

from eigencode.papers.gerum2022.study import PAPER

__all__ = ["PAPER"]
