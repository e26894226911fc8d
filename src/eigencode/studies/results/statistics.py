"""Statistics of networks: intervals of means, correlations and paired differences, and what they say of a limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import special, stats

from eigencode.studies.results.table import NotTestedError

Decision = bool | None
"""What an interval says of a limit: yes, no, or None where it includes the limit."""

LEVEL = 0.95

MONOTONE = 0.8
"""Rank correlation from which a quantity is said to grow with another."""

_ROUNDING = 1e-9

_ALIKE = 6
"""Equal values, whose interval has no width, that decide: fewer would lie on one side of a limit by chance (sign test)."""

_MOST_NETWORKS = 1000
"""A number of networks above which it is no plan."""

_FEWEST = 3
"""Rank correlations whose spread says something of their mean."""


@dataclass(frozen=True)
class Interval:
    """Mean with a two-sided Student interval of level 0.95 over networks.

    Attributes:
        mean: Mean.
        low: Lower end; NaN for a single value.
        high: Upper end.
        count: Values.
    """

    mean: float
    low: float
    high: float
    count: int

    def above(self, limit: float = 0.0) -> Limits:
        """That the mean is above a limit."""
        return Limits(self, over=limit)

    def below(self, limit: float = 0.0) -> Limits:
        """That the mean is below a limit."""
        return Limits(self, under=limit)

    def within(self, size: float) -> Limits:
        """That the mean lies within ``size`` of 0."""
        return Limits(self, -size, size)

    def between(self, low: float, high: float) -> Limits:
        """That the mean lies between two limits."""
        return Limits(self, low, high)

    def widened(self, family: int) -> Interval:
        """The interval that holds together with those of a family, by Bonferroni's inequality.

        Args:
            family: Number of intervals.

        Raises:
            NotTestedError: a single value has no interval.
        """
        low, high = self._ends()
        levels = [(1 + LEVEL) / 2, 1 - (1 - LEVEL) / (2 * max(family, 1))]
        usual, wide = special.stdtrit(self.count - 1, levels)  # many times as fast as stats.t.ppf, and the same
        return replace(self, low=self.mean - (self.mean - low) * wide / usual, high=self.mean + (high - self.mean) * wide / usual)

    def _ends(self) -> tuple[float, float]:
        if self.count < 2:
            raise NotTestedError("two networks at least")
        if self.count < _ALIKE and self.high - self.low <= _ROUNDING * abs(self.mean):  # values too coarse to show a spread
            return -np.inf, np.inf
        return self.low, self.high

    def text(self, digits: int = 3, factor: float = 1.0) -> str:
        """Mean and interval in a few characters."""
        if np.isnan(self.low):
            return f"{factor * self.mean:.{digits}f}"
        return f"{factor * self.mean:.{digits}f} [{factor * self.low:.{digits}f}, {factor * self.high:.{digits}f}]"

    def told(self, digits: int = 3, factor: float = 1.0, unit: str = "") -> str:
        """Mean, interval, unit and number of values."""
        return f"{self.text(digits, factor)}{unit and ' '}{unit}, n = {self.count}"


@dataclass(frozen=True)
class Limits:
    """An interval, and the limits between which a claim puts its mean.

    Attributes:
        interval: Interval.
        over: Limit above which the mean is said to lie.
        under: Limit below which it is said to lie.
    """

    interval: Interval
    over: float = -np.inf
    under: float = np.inf

    def decided(self, family: int = 1) -> Decision:
        """Yes if the interval lies within the limits; no if it lies beyond one, together with those of its family; else None.

        Args:
            family: Number of intervals that are judged together.

        Raises:
            NotTestedError: a single value has no interval.
        """
        alone, together = self.interval.widened(1), self.interval.widened(family)
        if self.over < alone.low and alone.high < self.under:
            return True
        return False if together.high <= self.over or together.low >= self.under else None

    def values_needed(self) -> int | None:
        """How many values would leave the nearest limit outside the interval, if their mean and spread stay what they are.

        Returns:
            The number; None if it is above 1000, or the spread is not known from so few values.
        """
        low, high = self.interval._ends()
        apart = min(abs(self.interval.mean - limit) for limit in (self.over, self.under) if np.isfinite(limit))
        half = max(high - self.interval.mean, self.interval.mean - low)  # correlations end at 1
        deviation = half / half_width(1.0, self.interval.count)
        if not np.isfinite(deviation) or (low, high) == (-1.0, 1.0):
            return None
        counts = np.arange(2, _MOST_NETWORKS + 1)
        enough = counts[half_width(deviation, counts) < apart]
        return int(max(enough[0], self.interval.count)) if enough.size else None


def interval(values: Sequence[float] | np.ndarray | pd.Series) -> Interval:
    """Interval of a mean; for paired differences, give the differences."""
    array = np.asarray(values, dtype=float)
    array = array[~np.isnan(array)]
    if len(array) == 0 or np.isinf(array).any():
        raise NotTestedError("finite numbers of finished cells")
    if len(array) == 1:
        return Interval(float(array[0]), np.nan, np.nan, 1)
    half = half_width(array.std(ddof=1), len(array))
    return Interval(float(array.mean()), float(array.mean() - half), float(array.mean() + half), len(array))


def level(accuracies: Sequence[float] | np.ndarray | pd.Series, images: int) -> Interval:
    """Interval of a mean accuracy over networks and over the test images, of which all networks see the same.

    Args:
        accuracies: Of the networks.
        images: Number of test images.
    """
    found = interval(accuracies)
    chosen = special.ndtri((1 + LEVEL) / 2) * np.sqrt(max(found.mean * (1 - found.mean), 0.0) / images)
    half = float(np.hypot(found.high - found.mean, chosen))
    return replace(found, low=found.mean - half, high=found.mean + half)


def lowest(intervals: dict[Any, Interval]) -> tuple[Any, Interval]:
    """That of some intervals which reaches lowest, the last to lie above a limit, and what it is of."""
    return min(intervals.items(), key=lambda each: each[1].low)


def highest(intervals: dict[Any, Interval]) -> tuple[Any, Interval]:
    """That of some intervals which reaches highest, the last to lie below a limit, and what it is of."""
    return max(intervals.items(), key=lambda each: each[1].high)


def half_width(deviation: Any, count: Any) -> Any:
    """Half of the Student interval of a mean, from the standard deviation and number of values; NaN for a single one."""
    return special.stdtrit(count - 1, (1 + LEVEL) / 2) * deviation / np.sqrt(count)


def rank_correlation(table: pd.DataFrame) -> Interval:
    """Spearman correlation of each row with the order of its columns: mean and interval over rows.

    It takes few values, so that two rows, or more that happen to agree on another value than 1 or -1, say nothing of its spread:
    the interval is then all of -1 to 1. If all rows are in perfect order, it is that of rows one of which has two neighbours in
    the wrong order.

    Raises:
        NotTestedError: a row without spread.
    """
    if (table.nunique(axis=1) < 2).any():
        raise NotTestedError("numbers with some spread")
    count = table.shape[1]
    values = np.array([stats.spearmanr(np.arange(count), row).statistic for row in table.to_numpy()])
    found = interval(values)
    if found.count < _FEWEST or (found.high - found.low < _ROUNDING < 1 - abs(found.mean)):
        return replace(found, low=-1.0, high=1.0)
    if found.high - found.low < _ROUNDING:
        values[0] *= 1 - 12 / (count * (count**2 - 1))
        found = replace(interval(values), mean=found.mean)
    return replace(found, low=max(found.low, -1.0), high=min(found.high, 1.0))


def correlation(first: pd.Series, second: pd.Series) -> Interval:
    """Spearman correlation of two quantities over settings, with its interval by Fisher's transformation.

    The standard error is that of Fieller, Hartley and Pearson (1957), sqrt(1.06 / (n - 3)).

    Raises:
        NotTestedError: fewer than five pairs, a missing value, or no spread.
    """
    count = len(first)
    if count < 5 or first.isna().any() or second.isna().any() or first.nunique() < 3 or second.nunique() < 3:
        raise NotTestedError("five settings at least that differ, with both numbers of each")
    found = float(stats.spearmanr(first, second).statistic)
    half = special.ndtri((1 + LEVEL) / 2) * np.sqrt(1.06 / (count - 3))
    centre = np.arctanh(np.clip(found, -1 + 1e-12, 1 - 1e-12))
    return Interval(found, float(np.tanh(centre - half)), float(np.tanh(centre + half)), count)


def jackknife(measure: Callable[[list[Any]], float], networks: Sequence[Any]) -> Interval:
    """A number made of several networks together, with its Student interval by leaving out each network in turn.

    Args:
        measure: Networks -> number.
        networks: Networks, such as their seeds.

    Returns:
        The number from all of them, with its interval.

    Raises:
        NotTestedError: fewer than three networks.
    """
    every, count = list(networks), len(networks)
    if count < 3:
        raise NotTestedError("three networks at least")
    found = measure(every)
    others = np.array([measure([each for each in every if each != left]) for left in every])
    if not np.isfinite([found, *others]).all():
        raise NotTestedError("a number of every network")
    half = half_width(np.sqrt(count - 1) * others.std() * np.sqrt(count), count)
    return Interval(found, found - half, found + half, count)


@dataclass(frozen=True)
class Paired:
    """Networks of several settings with the same seeds.

    Attributes:
        table: Seeds x settings; seeds that lack a setting are not there.
    """

    table: pd.DataFrame

    @classmethod
    def of(cls, rows: pd.DataFrame, settings: list[str], value: str) -> Paired:
        """From rows with seed, the columns that name a setting, and the value; seeds that lack a setting are left out."""
        return cls(rows.pivot_table(index="seed", columns=settings, values=value).dropna())

    def difference(self, first: Any, second: Any) -> Interval:
        """Mean over seeds of the first setting minus the second.

        Args:
            first: Setting, or a list of settings whose mean is taken.
            second: Setting, or a list of others.

        Returns:
            Difference with its interval.

        Raises:
            NotTestedError: no seed has every setting.
        """
        both = [each if isinstance(each, list) else [each] for each in (first, second)]
        if any(setting not in self.table for each in both for setting in each):
            raise NotTestedError("networks of these settings with the same seeds")
        sides = [self.table[each].mean(axis=1) for each in both]
        return interval(sides[0] - sides[1])

    def best(self, settings: Iterable[Any]) -> Any:
        """That of some settings whose mean is largest.

        Raises:
            NotTestedError: there are none.
        """
        own = [setting for setting in settings if setting in self.table]
        if not own or self.table.empty:
            raise NotTestedError("networks of these settings with the same seeds")
        return self.table[own].mean().idxmax()

    def lead(self, settings: Iterable[Any]) -> Interval:
        """How far the best of some settings is ahead of the best of all others; both are chosen by their means."""
        inside = set(settings)
        return self.difference(self.best(inside), self.best(set(self.table) - inside))


def needed(table: pd.DataFrame, what: str) -> pd.DataFrame:
    """The table, if it has two rows at least.

    Raises:
        NotTestedError: it has not.
    """
    if len(table) < 2:
        raise NotTestedError(f"{what}, 2 networks at least; there are {len(table)}")
    return table


def kleene_and(*decisions: Decision) -> Decision:
    """Whether all is so: no where anything is not, None where that cannot be told."""
    if any(decision is not None and not decision for decision in decisions):
        return False
    return None if any(decision is None for decision in decisions) else True


def kleene_not(decision: Decision) -> Decision:
    """The opposite; None where that cannot be told."""
    return None if decision is None else not decision


def kleene_or(*decisions: Decision) -> Decision:
    """Whether anything is so; None where that cannot be told."""
    return kleene_not(kleene_and(*map(kleene_not, decisions)))
