"""Is it a power law? Exponents of both halves of a window, whether they differ, and the rank from which the decay changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import chdtri, stdtr, stdtrit

from eigencode._arguments import check_fields, checked
from eigencode._shown import Shown
from eigencode.errors import SpectrumError
from eigencode.spectra.eigenvalues import Numbers
from eigencode.spectra.intervals import Interval
from eigencode.spectra.population import PopulationFit, PopulationSpectrum
from eigencode.spectra.resampling import GROUPS, degrees_of_freedom
from eigencode.spectra.uncertainty import checked_halves, objection
from eigencode.spectra.window import Ranks, Window

Array = np.ndarray

Answer = Literal["bends", "no bend", "cannot tell"]

_STRAIGHT, _FREE = 1e4, 1e-2
"""Precisions, by their roots, of bends inside the window and at its ends."""

_FEWEST_KNOTS = 5
"""Knots within a window, at least: below, a bend and two lines are not told apart."""

_UNSURE = 1.0
"""Standard error of half a window's exponent above which the expansion about the fit says nothing of a spectrum's shape."""

_ROUNDING = 1e-9
"""Standard errors below which all half-samples are the same."""

_BREAKS = 61
"""Places of the break that are tried."""


@dataclass(frozen=True, repr=False)
class PowerLawTest(Shown):
    """Whether the population's spectrum is straight in log-log coordinates over a window, against one bend in its middle.

    Attributes:
        first: Exponent of the first half of the window, which ends at the geometric mean of its ranks.
        second: Exponent of the second half.
        bend: The second exponent minus the first; NaN with open ends where it is not determined.
        p: Probability of so large a bend in a sample from a population without one.
        rank: Where the decay changes, if it changes once.
        before: Exponent up to that rank.
        after: Exponent beyond it.
        answer: "bends" if p is below 1 - level; "no bend" if the interval of the bend holds 0 and no bend as large as
            ``relevant``; else "cannot tell".
        relevant: Bend that matters.
        level: Nominal coverage.
        ranks: Window.
        note: Why there is no answer, else "".
    """

    first: Interval
    second: Interval
    bend: Interval
    p: float
    rank: Interval
    before: float
    after: float
    answer: Answer
    relevant: float
    level: float
    ranks: tuple[int, int]
    note: str = ""

    def _shown(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in ("answer", "first", "second", "bend", "p", "rank", "ranks", "note")}

    def __post_init__(self) -> None:
        """Checks what types cannot."""
        check_fields(self, SpectrumError, choices_only=True)


@checked(SpectrumError)
def power_law_test(
    population: PopulationSpectrum,
    half_samples: Numbers,
    *,
    ranks: Ranks,
    half_counts: Sequence[int],
    half_groups: int = GROUPS,
    level: float = 0.95,
    relevant: float = 0.5,
) -> PowerLawTest:
    """Tests whether the spectrum behind a sample is a power law over a window.

    R² is near one for spectra that bend: eigenvalues are in order. Here two straight lines that meet in the middle of the window,
    in log-log coordinates, are fitted to the population's spectrum, which is left as it is outside the window. The standard
    errors come from half-samples alone, and the test is Student's, of as many degrees of freedom as these leave. The break is
    the rank at which two lines fit best, and its interval holds the ranks whose fits are not worse than the level allows
    (likelihood ratio); it reaches to the end of the window where they do to the last that is tried. Weights of ranks do not
    matter.

    A power law is never proved: "no bend" says that a bend of ``relevant`` in the middle would have been seen. Nor need a bend
    matter that many images show: compare it with ``relevant``.

    Args:
        population: Of the whole sample.
        half_samples: Eigenvalues of b half-samples, shape (b, h).
        ranks: Window.
        half_counts: Samples in each half.
        half_groups: Images, or groups of images, from which the halves were drawn.
        level: Of all intervals and of the test.
        relevant: Bend that matters.

    Returns:
        PowerLawTest; "cannot tell", with a note, where the images are no independent sample (see ``alpha_interval``), and where
        they say too little of the spectrum's shape, such as of spectra that are flat.

    Raises:
        SpectrumError: as ``alpha_interval``; a ``relevant`` bend that is not above 0.

    Source: the idea to compare a power law with other laws rather than to look at its fit: Clauset, Shalizi and Newman 2009,
    SIAM Rev. 51(4).
    """
    window = Window.of(ranks)
    if not 0 < relevant < math.inf:
        raise SpectrumError(f"power_law_test: `relevant` must be above 0; got {relevant}. Pass for example 0.5.")
    halves, within = checked_halves(half_samples, half_counts, window, level=level, caller="power_law_test")
    population.exponent(window)
    moves, misfit = population.fitted.moves_of(halves, degrees=float(np.mean(half_counts)) - 1, within=within)
    note = objection(population, max(population.misfit, misfit))
    inside = _inside(population.fitted.places, window)
    if not note and len(inside) < _FEWEST_KNOTS:
        note = f"{population.name}: `ranks` {window} are too few to tell a bend from a straight line. Take a longer window."
    if note:
        return _unknown(window, relevant, level, note)
    lines = _Lines(population.fitted, inside)
    estimate = lines.exponents(math.log(window.first * window.last) / 2)
    values, errors = estimate @ lines.data, (estimate @ lines.whitened(moves)).std(1, ddof=1)
    if values[:2].min() < 0 or not _ROUNDING < errors.min() <= errors[:2].max() < _UNSURE:
        note = (
            f"{population.name}: these {population.n_samples} samples do not tell whether the spectrum bends over {window}: "
            "they hardly depend on its shape there. Take more images or another window."
        )
        return _unknown(window, relevant, level, note)
    degrees = degrees_of_freedom(len(halves), half_groups)
    reach = float(stdtrit(degrees, (1 + level) / 2))
    first, second, bend = (
        Interval(value, value - reach * error, value + reach * error)
        for value, error in zip(values.tolist(), errors.tolist(), strict=True)
    )
    inflation = max(1.0, float(errors[2] / np.linalg.norm(estimate[2])))
    rank, (before, after, _) = lines.best_break(chdtri(1, 1 - level) * inflation**2, window)
    if bend.low > 0 or bend.high < 0:
        answer: Answer = "bends"
    else:
        answer = "no bend" if max(-bend.low, bend.high) < relevant else "cannot tell"
    p = 2 * float(stdtr(degrees, -abs(bend.value) / errors[2]))
    return PowerLawTest(first, second, bend, p, rank, before, after, answer, relevant, level, window.ranks)


def _unknown(window: Window, relevant: float, level: float, note: str) -> PowerLawTest:
    """No answer, and why."""
    unknown, nan = Interval(math.nan, -math.inf, math.inf), math.nan
    anywhere = Interval(nan, window.first, window.last)
    return PowerLawTest(unknown, unknown, unknown, nan, anywhere, nan, nan, "cannot tell", relevant, level, window.ranks, note)


def _inside(places: Array, window: Window) -> Array:
    """Numbers of the knots within a window."""
    return np.flatnonzero((places > math.log(window.first) - 1e-9) & (places < math.log(window.last) + 1e-9))


class _Lines:
    """Two straight lines that meet within the window, the rest of the spectrum as it was fitted.

    Attributes:
        data: Of the fit, over their errors.
    """

    def __init__(self, fit: PopulationFit, inside: Array) -> None:
        self._fit, places = fit, fit.places
        self._jacobian, self.data = fit.whitened()
        self._inside = places[inside]
        precision = fit.bending.likeliest(self._jacobian, self.data)
        precision[inside[1:-1] + 1] = _STRAIGHT  # the bend at a knot is one row after the knot's own
        ends = inside[[0, -1]] + 1
        precision[ends[ends < len(places)]] = _FREE
        self._rows = np.vstack([self._jacobian, precision[:, None] * fit.bending.changes])
        self._slope = np.zeros(len(places))
        self._slope[inside[:2]] = np.array([1, -1]) / (places[inside[1]] - places[inside[0]])

    def whitened(self, moves: Array) -> Array:
        """Changes of the data, shape (b, n), over their errors, shape (n, b)."""
        changes: Array = self._fit.whitened(moves)[1].T - self.data[:, None]
        return changes

    def _with_break(self, place: float) -> Array:
        bent = np.maximum(0, self._fit.places - place)
        rows: Array = np.c_[self._rows, np.r_[self._jacobian @ bent, np.zeros(len(bent))]]
        return rows

    def exponents(self, place: float) -> Array:
        """Exponents before and after a break, and their difference, as sums over the data, shape (3, n)."""
        orthogonal, triangle = np.linalg.qr(self._with_break(place))
        found = np.linalg.solve(triangle, orthogonal[: len(self.data)].T)
        first, bend = self._slope @ found[:-1], -found[-1]
        return np.stack([first, first + bend, bend])

    def best_break(self, worse: float, window: Window) -> tuple[Interval, list[float]]:
        """The rank at which two lines fit best, with those that are not worse by more than so much; exponents there."""
        places = np.linspace(self._inside[1], self._inside[-2], _BREAKS)
        aim = np.r_[self.data, np.zeros(self._rows.shape[1])]
        misfits = []
        for place in places:
            rows = self._with_break(place)
            misfits.append(float(np.square(aim - rows @ np.linalg.lstsq(rows, aim)[0]).sum()))
        best = int(np.argmin(misfits))
        most = misfits[best] + worse
        likely = np.flatnonzero(np.array(misfits) <= most).tolist()

        def end(inside: int, outside: int) -> float:
            """Rank at which the misfit passes what is allowed, between two places that were tried."""
            place = np.interp(most, [misfits[inside], misfits[outside]], places[[inside, outside]])
            return float(np.exp(place))

        low = float(window.first) if likely[0] == 0 else end(likely[0], likely[0] - 1)
        high = float(window.last) if likely[-1] == len(places) - 1 else end(likely[-1], likely[-1] + 1)
        return Interval(float(np.exp(places[best])), low, high), (self.exponents(places[best]) @ self.data).tolist()
