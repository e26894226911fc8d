"""Schaeffer, Casademunt & Mudur 2020."""

from eigencode.papers.schaeffer2020.study import PAPER

__all__ = ["PAPER"]
