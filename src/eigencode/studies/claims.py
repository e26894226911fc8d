"""Claims: a paper's finding as a check on results, with the numbers, their spread, and the test that was used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from eigencode.studies.evidence import Evidence, NotTestedError

Verdict = Literal["holds", "does not hold", "not tested"]

LEVEL = 0.95


@dataclass(frozen=True)
class Finding:
    """What came out.

    Attributes:
        verdict: "holds", "does not hold" or "not tested".
        found: The numbers with their spread; for "not tested", what is needed.
        test: The criterion, in words.
    """

    verdict: Verdict
    found: str
    test: str


@dataclass(frozen=True)
class Claim:
    """A paper's finding made checkable.

    Attributes:
        name: Such as J5.
        figure: Figure whose cells are needed.
        statement: What the paper says.
        check: Results -> Finding; raises ``NotTestedError`` where results are missing.
        also: Other figures whose cells it can be checked with.
        window: Whose exponents it needs: of "any" ranks; of the study's "own", since it compares them with numbers that were
            found over these, or needs exponents of which no spectra are kept; or "none".
    """

    name: str
    figure: str
    statement: str
    check: Callable[[Evidence], Finding]
    also: tuple[str, ...] = ()
    window: Literal["any", "own", "none"] = "any"

    def judged(self, evidence: Evidence) -> Finding:
        """The finding, or why there is none."""
        if evidence.ranks and self.window == "own":
            return Finding("not tested", "needs exponents over the study's own ranks", "")
        try:
            return self.check(evidence)
        except NotTestedError as missing:
            return Finding("not tested", f"needs {missing}", "")
        except (KeyError, IndexError, ValueError) as lacking:  # an unfinished study, or one's own, lacks some column or row
            if evidence.cells.empty:
                return Finding("not tested", f"needs networks of {self.figure}; none is finished here", "")
            needs = "more of its cells to be finished" if evidence.missing else "other networks or readings than these"
            return Finding("not tested", f"needs {needs} ({type(lacking).__name__}: {lacking})", "")


@dataclass(frozen=True)
class Published:
    """A number that a paper states, beside which the same quantity is measured.

    Attributes:
        quantity: What it is, and of which networks.
        figure: Figure whose cells are needed.
        low: The number, or the lower end of the range that is stated.
        high: Upper end; None for a single number.
        measure: Results -> values of the quantity, one for each network; raises ``NotTestedError`` where results are missing.
        exponents: Whether it is made of exponents, which are the paper's over the study's own ranks alone.
    """

    quantity: str
    figure: str
    low: float
    high: float | None
    measure: Callable[[Evidence], pd.Series]
    exponents: bool = False

    @property
    def told(self) -> str:
        """What the paper says."""
        return f"{self.low:g}" if self.high is None else f"{self.low:g} to {self.high:g}"

    @property
    def not_measured(self) -> dict[str, str]:
        """The paper's number beside nothing."""
        return {
            "quantity": self.quantity,
            "figure": self.figure,
            "paper": self.told,
            "here": "not measured",
            "difference": "",
        }

    def compared(self, evidence: Evidence) -> dict[str, str]:
        """The paper's number, what came out, and the difference of the mean, from the nearer end of a range."""
        row = self.not_measured
        if evidence.ranks and self.exponents:
            return row | {"here": "of other ranks"}
        try:
            found = interval(self.measure(evidence))
        except (NotTestedError, KeyError, IndexError, ValueError):
            return row
        nearest = min(max(found.mean, self.low), self.low if self.high is None else self.high)
        digits = max(3, len(f"{self.low:g}".partition(".")[2]))
        return row | {"here": f"{found.text(digits)}, n = {found.count}", "difference": f"{found.mean - nearest:+.{digits}f}"}


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

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval is above 0.

        Raises:
            NotTestedError: a single value has no interval.
        """
        return self._ends()[0] > 0

    def within(self, size: float) -> bool:
        """Whether the whole interval lies within ``size`` of 0.

        Raises:
            NotTestedError: a single value has no interval.
        """
        return max(map(abs, self._ends())) < size

    @property
    def below_zero(self) -> bool:
        """Whether the whole interval is below 0.

        Raises:
            NotTestedError: a single value has no interval.
        """
        return self._ends()[1] < 0

    def _ends(self) -> tuple[float, float]:
        if self.count < 2:
            raise NotTestedError("two networks at least")
        return self.low, self.high

    def text(self, digits: int = 3, factor: float = 1.0) -> str:
        """Mean and interval in a few characters."""
        if np.isnan(self.low):
            return f"{factor * self.mean:.{digits}f}"
        return f"{factor * self.mean:.{digits}f} [{factor * self.low:.{digits}f}, {factor * self.high:.{digits}f}]"


def spread(values: pd.Series | pd.DataFrame, digits: int = 3) -> str:
    """Largest standard deviation, in words."""
    return f"standard deviation over networks at most {np.nanmax(np.asarray(values, dtype=float)):.{digits}f}"


def interval(values: Sequence[float] | np.ndarray | pd.Series) -> Interval:
    """Interval of a mean; for paired differences, give the differences."""
    array = np.asarray(values, dtype=float)
    array = array[np.isfinite(array)]
    if len(array) == 0:
        raise NotTestedError("finished cells")
    if len(array) == 1:
        return Interval(float(array[0]), np.nan, np.nan, 1)
    half = half_width(array.std(ddof=1), len(array))
    return Interval(float(array.mean()), float(array.mean() - half), float(array.mean() + half), len(array))


def half_width(deviation: Any, count: Any) -> Any:
    """Half of the Student interval of a mean, from the standard deviation and number of values; NaN for a single one."""
    return stats.t.ppf((1 + LEVEL) / 2, count - 1) * deviation / np.sqrt(count)


def rank_correlation(table: pd.DataFrame) -> Interval:
    """Spearman correlation of each row with the order of its columns: mean and interval over rows."""
    order = np.arange(table.shape[1])
    found = interval([stats.spearmanr(order, row).statistic for row in table.to_numpy()])
    return replace(found, low=max(found.low, -1.0), high=min(found.high, 1.0))


def correlation(first: pd.Series, second: pd.Series) -> tuple[float, float]:
    """Spearman correlation and its p value.

    Raises:
        NotTestedError: fewer than three pairs, a missing value, or no spread.
    """
    if len(first) < 3 or first.isna().any() or second.isna().any() or first.nunique() < 2 or second.nunique() < 2:
        raise NotTestedError("three settings at least, with an exponent for each, and some spread")
    found = stats.spearmanr(first, second)
    return float(found.statistic), float(found.pvalue)


def needed(table: pd.DataFrame, what: str) -> pd.DataFrame:
    """The table, if it has two rows at least.

    Raises:
        NotTestedError: it has not.
    """
    if len(table) < 2:
        raise NotTestedError(f"{what}, 2 networks at least; there are {len(table)}")
    return table


def verdict(*conditions: bool) -> Verdict:
    """Holds if all conditions do."""
    return "holds" if all(conditions) else "does not hold"


def listed(values: pd.Series, digits: int = 2, factor: float = 1.0) -> str:
    """Numbers in a few characters."""
    return ", ".join(f"{factor * value:.{digits}f}" for value in values)
