"""Jiang et al. 2020."""

from eigencode.papers.jiang2020.study import PAPER

__all__ = ["PAPER"]
