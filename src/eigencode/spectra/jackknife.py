"""Error of an estimate by leaving out one member, or one group of members, in turn."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit
from torch import Tensor

_STRAIGHT = 1e-6
"""Skewness below which the transformation is the identity."""


@dataclass(frozen=True)
class Jackknife:
    """Error of an estimate.

    Attributes:
        bias: Of the order 1/n.
        stderr: Standard error; NaN if nothing changes when members are left out.
        skewness: Of the estimate, divided by 6.
        freedom: Degrees of freedom of the standard error: few where few members carry it.
        shift: Part of the bias by which an interval is moved: that of a sample so small that it counts beside the standard error.
    """

    bias: float = 0.0
    stderr: float = math.nan
    skewness: float = 0.0
    freedom: float = math.nan
    shift: float = 0.0

    @classmethod
    def of(cls, estimate: float | Tensor, without: Tensor, *, of_pairs: float | Tensor = 0.0) -> Jackknife:
        """From an estimate and the same without each of n members.

        Args:
            estimate: From all members.
            without: Shape (n,).
            of_pairs: Variance that pairs of members have and single members do not, which leaving out counts twice.
        """
        count = len(without)
        influence = (count - 1) * (without.mean() - without)
        variance = influence.square().sum() / (count * (count - 1))
        if not bool(variance > 0):
            return cls()
        tails = float(influence.pow(4).mean() / influence.square().mean().square())
        return cls(
            bias=(count - 1) * float(without.mean() - estimate),
            stderr=math.sqrt(max(float(variance - of_pairs), float(variance) / 2)),
            skewness=float(influence.pow(3).sum() / influence.square().sum().pow(1.5)) / 6,
            freedom=2 * count / max(tails - 1, 2 * count / (count - 1)),
        )

    @classmethod
    def crossed(cls, estimate: float | Tensor, rows: Jackknife, columns: Jackknife, both: Tensor) -> Jackknife:
        """Of an estimate from a table whose rows and whose columns are each drawn independently.

        Variance and bias are those by rows and those by columns, less those of single cells, which both contain.

        Args:
            estimate: From the whole table.
            rows: Error when rows are left out.
            columns: Error when columns are left out.
            both: The estimate without each column and each row, shape (n_columns, n_rows).

        Source: Cameron, Gelbach and Miller 2011, J. Bus. Econ. Stat. 29, for the variance.
        """
        if math.isnan(rows.stderr) or math.isnan(columns.stderr):
            return columns if math.isnan(rows.stderr) else rows
        freedom = (both.shape[0] - 1) * (both.shape[1] - 1)
        cells = both - both.mean(0) - both.mean(1, keepdim=True) + both.mean()
        first, second = rows.stderr**2, columns.stderr**2
        variance = max(first + second - float(cells.square().sum()) * freedom / both.numel(), first, second)
        third = rows.skewness * first**1.5 + columns.skewness * second**1.5
        without_rows, without_columns = (
            each.bias / (size - 1) for each, size in zip((rows, columns), both.shape[::-1], strict=True)
        )
        in_both = freedom * (float(both.mean()) - float(estimate) - without_rows - without_columns)
        return cls(
            bias=rows.bias + columns.bias - in_both,
            stderr=math.sqrt(variance),
            skewness=third / variance**1.5,
            freedom=variance**2 / (first**2 / rows.freedom + second**2 / columns.freedom),
            shift=columns.bias - in_both,
        )

    def reaches(self, level: float) -> tuple[float, float]:
        """How far below and above the estimate an interval reaches, both counted upwards: the first is negative.

        Student's t with the skewness of the estimate taken away by a cubic transformation; 0 where nothing changes.

        Args:
            level: Nominal coverage.

        Source: Hall 1992, J. R. Stat. Soc. B 54.
        """
        if math.isnan(self.stderr):
            return 0.0, 0.0
        quantile = float(stdtrit(self.freedom, (1 + level) / 2))
        low, high = (-self.shift - self.stderr * _unskewed(side * quantile, self.skewness) for side in (1, -1))
        return low, high


def _unskewed(quantile: float, skewness: float) -> float:
    """The studentised value t for which t + s (2 t^2 + 1) + 4/3 s^2 t^3 is the quantile."""
    if abs(skewness) < _STRAIGHT:
        return quantile
    return (float(np.cbrt(1 + 6 * skewness * (quantile - skewness))) - 1) / (2 * skewness)
