"""How many dimensions a code fills, and what an exponent implies for that number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import zeta

from eigencode._arguments import checked
from eigencode._shown import Shown
from eigencode.errors import SpectrumError
from eigencode.spectra.eigenvalues import Numbers, checked_eigenvalues
from eigencode.spectra.jackknife import Jackknife
from eigencode.spectra.traces import Traces

_LARGEST_LOGARITHM = 600.0
"""Natural logarithm of the largest squared sum, with room to spare in float64."""


@checked(SpectrumError)
def participation_ratio(eigenvalues: Numbers) -> float:
    """Linear dimension of a code: D = (sum lambda)^2 / sum lambda^2.

    Between 1 (one direction carries all variance) and the number of units (all directions carry the same). Sampling fewer
    images than units biases it down; D of a sample of n cannot exceed n - 1 (see ``Eigenspectrum.population_dimension``).

    Args:
        eigenvalues: Non-negative, but for rounding, in any order, shape (k,), any unit.

    Returns:
        Dimension, dimensionless.

    Raises:
        SpectrumError: all eigenvalues are zero, or one is negative or not finite.

    Source: Jiang et al. 2020, Eq. (4).

    Example:
        >>> participation_ratio([1.0] * 7)
        7.0
    """
    values = checked_eigenvalues(eigenvalues, caller="participation_ratio", ordered=False).clamp_min(0)
    if not bool((values > 0).any()):
        raise SpectrumError(
            f"participation_ratio: `eigenvalues` must not all be zero; got {len(values)} zeros. Check that the code "
            "varies over images."
        )
    values = values / values.max()
    return float(values.sum() ** 2 / (values**2).sum())


@dataclass(frozen=True, repr=False)
class DimensionInterval(Shown):
    """Dimension of the population that the images were drawn from, with its confidence interval.

    Attributes:
        dimension: (tr S)^2 / tr S^2 of its covariance S: the ratio of two estimates without bias, less the bias of a ratio.
        low: Lower end.
        high: Upper end.
        stderr: Standard error of its natural logarithm.
        level: Nominal coverage.
    """

    dimension: float
    low: float
    high: float
    stderr: float
    level: float


@checked(SpectrumError)
def dimension_interval(traces: Traces, *, level: float = 0.95, name: str = "dimension_interval") -> DimensionInterval:
    """Linear dimension of the population behind a sample, D = (tr S)^2 / tr S^2, with an interval.

    The participation ratio of a sample of n images cannot exceed n - 1, and is far too small where a code has more dimensions
    than that. Unbiased estimates of both traces need no assumption on the distribution. Their ratio still has a bias of the order
    1/n, of some per cent for heavy tails, which the jackknife takes away. The interval is that of the ratio's logarithm by the
    jackknife, with the cubic transformation that takes its skewness away, and Student's t with as many degrees of freedom as the
    kurtosis of what single images contribute leaves.

    Args:
        traces: Of a sample.
        level: Nominal coverage.
        name: What error messages call the code.

    Returns:
        DimensionInterval; ends are NaN where there are too few images, or groups of images, to leave out one in turn.

    Raises:
        SpectrumError: the images do not determine the dimension, since an estimate is not positive.

    Source: Chun et al. 2026, ICLR (their "row" estimator is the ratio); Himeno and Yamada 2014, J. Multivariate Anal. 130; the
    transformation: Hall 1992, J. R. Stat. Soc. B 54.
    """
    if not 0 < level < 1:
        raise SpectrumError(f"{name}: `level` must lie between 0 and 1; got {level}. Pass for example 0.95.")
    if math.isnan(traces.squared_trace):
        raise SpectrumError(
            f"{name}: the dimension of the population needs 4 images, and half-samples where images have several samples or are "
            "measured in a network. Measure more images, with half_samples=20."
        )
    if not (traces.squared_trace > 0 and traces.trace_of_square > 0):
        raise SpectrumError(
            f"{name}: these images do not determine the dimension of the population: unbiased estimates of (tr S)^2 and tr S^2 "
            f"are {traces.squared_trace:.3g} and {traces.trace_of_square:.3g}. Measure more images."
        )
    ratio = traces.squared_trace / traces.trace_of_square
    dimension = max(1.0, ratio - traces.ratio_bias)
    if math.isnan(traces.stderr):
        return DimensionInterval(dimension, math.nan, math.nan, math.nan, level)
    low, high = Jackknife(stderr=traces.stderr, skewness=traces.skewness, freedom=traces.freedom).reaches(level)
    ends = max(1.0, min(dimension, ratio * math.exp(low))), max(dimension, ratio * math.exp(high))
    return DimensionInterval(dimension, *ends, traces.stderr, level)


@checked(SpectrumError)
def power_law_dimension(
    alpha: float, n_features: int | None = None, *, form: Literal["sum", "integral", "zeta"] = "sum"
) -> float:
    """Dimension D(alpha) of a code whose whole spectrum is n^(-alpha).

    sum: (sum n^-a)^2 / sum n^-2a over n = 1..N; integral: both sums replaced by integrals from 1 to N; zeta: N to infinity,
    zeta(a)^2 / zeta(2a), finite for alpha > 1 only. The sum is exact; the paper compares it with measurements (Fig. 8 b, c).

    Args:
        alpha: Exponent.
        n_features: Number of dimensions N; not used by "zeta".
        form: Which of the three.

    Returns:
        Dimension, dimensionless.

    Raises:
        SpectrumError: N is missing or no whole number of at least 1, alpha is not finite or so far below 0 that sums overflow, or
            the zeta form is asked for at alpha <= 1.

    Source: Jiang et al. 2020, Eq. (5).

    Example:
        >>> round(power_law_dimension(1.0, 35), 3)
        10.636
    """
    if form == "zeta":
        if alpha <= 1:
            raise SpectrumError(
                f"power_law_dimension: the zeta form is finite for `alpha` > 1 only; got {alpha}. Use form='sum' with N."
            )
        return float(zeta(alpha) ** 2 / zeta(2 * alpha))
    if n_features is None or not 1 <= n_features < math.inf or n_features != int(n_features):
        raise SpectrumError(
            f"power_law_dimension: `n_features` must be a whole number of at least 1 for form={form!r}; got {n_features}. Pass "
            "the layer width."
        )
    if (2 - 2 * alpha) * math.log(n_features) > _LARGEST_LOGARITHM:
        raise SpectrumError(f"power_law_dimension: sums over {n_features} ranks overflow at `alpha` = {alpha}. Raise it.")
    if form == "integral":
        if n_features == 1:
            return 1.0
        return _power_integral(alpha, n_features) ** 2 / _power_integral(2 * alpha, n_features)
    decay = np.arange(1, n_features + 1, dtype=np.float64) ** -alpha
    return float(decay.sum() ** 2 / (decay**2).sum())


def _power_integral(alpha: float, upper: float) -> float:
    """Integral of x^-alpha from 1 to ``upper``, accurate also near alpha = 1."""
    log_upper = math.log(upper)
    exponent = (1 - alpha) * log_upper
    return log_upper * (math.expm1(exponent) / exponent if exponent else 1.0)


@checked(SpectrumError)
def smoothness_bound(d: float) -> float:
    """Smallest exponent 1 + 2/d at which a code of d-dimensional stimuli can be differentiable.

    The theorem speaks of the limit of infinitely many dimensions. A window of finitely many ranks can neither prove nor refute
    it, whatever its exponent.

    Args:
        d: Dimension of the stimulus set.

    Returns:
        Exponent, dimensionless.

    Raises:
        SpectrumError: d is not positive.

    Source: Stringer et al. 2019; Schaeffer et al. 2020, section 1.

    Example:
        >>> smoothness_bound(1)
        3.0
    """
    if not d > 0:
        raise SpectrumError(f"smoothness_bound: `d` must be positive; got {d}. Pass the dimension of the stimulus set.")
    return 1 + 2 / d
