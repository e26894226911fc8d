"""Power-law fits: the exponent alpha of lambda_n ~ n^(-alpha) over a stated window of ranks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from eigencode._arguments import check_fields, checked
from eigencode._shown import Shown
from eigencode.errors import SpectrumError
from eigencode.spectra.eigenvalues import Numbers, checked_eigenvalues, positive_run
from eigencode.spectra.window import MIN_RANKS, Ranks, Weights, Window

_SIGNED = "cross-validated"
"""The method whose estimates of variances are unbiased, and so may be negative or rise."""


@dataclass(frozen=True, repr=False)
class PowerLawFit(Shown):
    """Least-squares line through log eigenvalue against log rank.

    Attributes:
        alpha: Exponent, positive when variance falls; dimensionless.
        stderr: Standard error of the slope from the residuals of the line. It says how straight the spectrum is, not how
            well the images determine it: for that use ``alpha_interval``.
        r2: Coefficient of determination in log-log coordinates, with the fit's weights.
        intercept: Natural logarithm of the fitted eigenvalue at rank 1, eigenvalues in squared activation units.
        ranks: First and last rank of the window, 1-based, inclusive.
        weights: "equal", or "inverse_rank" for 1/n.
        n_samples: Samples behind the eigenvalues; 0 if unknown.
        n_features: Units behind the eigenvalues; 0 if unknown.
        method: How the eigenvalues were computed: covariance, gram, sketch; "given" if they came from elsewhere.
    """

    alpha: float
    stderr: float
    r2: float
    intercept: float
    ranks: tuple[int, int]
    weights: Weights
    n_samples: int
    n_features: int
    method: str

    def __post_init__(self) -> None:
        """Checks the weights."""
        check_fields(self, SpectrumError, choices_only=True)

    def _shown(self) -> dict[str, object]:
        found = {name: getattr(self, name) for name in ("alpha", "stderr", "r2", "ranks", "weights", "method")}
        return found | {"samples": self.n_samples or None, "units": self.n_features or None}

    @checked(SpectrumError)
    def predict(self, rank: float) -> float:
        """Fitted eigenvalue at a rank, in squared activation units."""
        return float(torch.exp(torch.tensor(self.intercept, dtype=torch.float64)) * rank ** (-self.alpha))


@checked(SpectrumError)
def power_law_line(
    eigenvalues: Float[Tensor, "*batch k"], window: Window
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Exponent and intercept of the least-squares line in log-log coordinates, in closed form and differentiable.

    alpha = -sum w (x - <x>)(y - <y>) / sum w (x - <x>)^2 with x = ln rank, y = ln eigenvalue and w-weighted means. Nothing
    is checked.

    Args:
        eigenvalues: Positive within the window, largest first, shape (..., k).
        window: Ranks and their weights.

    Returns:
        Exponents and intercepts (natural logarithm), each of shape (...).

    Source: Gerum et al. 2022, Eqs. (4)-(5); the 1/n weights are those of Stringer et al. 2019.
    """
    x, weight = _positions(window, eigenvalues)
    y = eigenvalues[..., window.first - 1 : window.last].log()
    x_mean, y_mean = weight @ x, y @ weight
    centred = weight * (x - x_mean)
    alpha = -(y @ centred) / (centred @ (x - x_mean))
    return alpha, y_mean + alpha * x_mean


def slope_weights(window: Window) -> np.ndarray:
    """Change of the exponent with the natural logarithm of each eigenvalue of a window, shape (ranks,)."""
    x, weight = (each.numpy() for each in _positions(window, torch.empty(0, dtype=torch.float64)))
    centred = weight * (x - weight @ x)
    weights: np.ndarray = -centred / (centred @ x)
    return weights


def _positions(window: Window, like: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of the ranks, and their weights, which sum to one."""
    rank = torch.arange(window.first, window.last + 1, dtype=like.dtype, device=like.device)
    weight = torch.ones_like(rank) if window.weights == "equal" else 1 / rank
    return rank.log(), weight / weight.sum()


@checked(SpectrumError)
def fit_power_law(
    eigenvalues: Numbers,
    *,
    ranks: Ranks,
    weights: Weights | None = None,
    rank: int | None = None,
    n_samples: int = 0,
    n_features: int = 0,
    method: str = "given",
    name: str = "fit_power_law",
) -> PowerLawFit:
    """Exponent of an eigenspectrum over a window of ranks.

    The estimator is that of the papers: ordinary least squares in log-log coordinates. Sample eigenvalues are spread out
    by sampling, which biases alpha when n_samples is not far above n_features and the decay is slow: see
    ``alpha_interval``. That the spectrum *is* a power law is not checked; look at r2 and at ``window_sensitivity``.

    Args:
        eigenvalues: Largest first, shape (k,), squared activation units; in any order and with negative ones if ``method`` is
            "cross-validated".
        ranks: A window: an object, a name of ``WINDOWS``, a text such as "6-50", or first and last rank, 1-based, inclusive.
        weights: "equal" (all three papers), or "inverse_rank" (Stringer et al. 2019); default: those of the window.
        rank: Numerical rank of the code; default: the number of positive eigenvalues.
        n_samples: Carried into the result.
        n_features: Carried into the result.
        method: How they were computed; carried into the result.
        name: What error messages call this code.

    Returns:
        PowerLawFit.

    Raises:
        SpectrumError: the window goes beyond the numerical rank, holds fewer than three ranks, or a value that is not positive;
            eigenvalues are not finite, negative beyond rounding, or not in order.

    Source: Gerum et al. 2022, Eqs. (4)-(5).

    Example:
        >>> fit = fit_power_law(torch.arange(1, 101, dtype=torch.float64) ** -1.5, ranks="gerum")
        >>> round(fit.alpha, 6)
        1.5
    """
    window = Window.of(ranks, weights)
    first, last = window.ranks
    values = checked_eigenvalues(eigenvalues, caller=name, signed=method == _SIGNED)
    if method == _SIGNED:
        _check_positive(values, window, name)
    else:
        _check_rank(values, window, rank, name, (n_samples, n_features))
    alpha, intercept = power_law_line(values, window)
    x, weight = _positions(window, values)
    y = values[first - 1 : last].log()
    residual = float((weight * (y - intercept + alpha * x) ** 2).sum())
    spread_x = float((weight * (x - (weight * x).sum()) ** 2).sum())
    spread_y = float((weight * (y - (weight * y).sum()) ** 2).sum())
    return PowerLawFit(
        alpha=float(alpha),
        stderr=(residual / (len(x) - 2) / spread_x) ** 0.5,
        r2=1 - residual / spread_y if spread_y > 0 else 1.0,
        intercept=float(intercept),
        ranks=window.ranks,
        weights=window.weights,
        n_samples=n_samples,
        n_features=n_features,
        method=method,
    )


def _check_rank(values: Tensor, window: Window, rank: int | None, name: str, size: tuple[int, int]) -> None:
    """``size``: samples and units, which tell what would help; 0 if unknown."""
    first, last = window.ranks
    positive = int((values > 0).long().cumprod(0).sum())
    available = positive if rank is None else min(rank, positive)
    if last <= available:
        return
    largest = f"the largest window possible is ({min(first, available)}, {available})"
    remedy = "Lower the last rank, or pass more images or units."
    if 0 < available == size[1] < size[0]:
        remedy = f"Lower the last rank: there are {available} units."
    elif size[0]:
        remedy = "Lower the last rank, or pass more images."
    if available < MIN_RANKS:
        largest, remedy = "no window of 3 ranks is possible", "Pass more images or another layer."
    elif available - first + 1 < MIN_RANKS:
        largest = f"the largest window possible is (1, {available})"
    raise SpectrumError(f"{name}: `ranks` ({first}, {last}) goes beyond the numerical rank {available}; {largest}. {remedy}")


def _check_positive(values: Tensor, window: Window, name: str) -> None:
    """Signal variances need be positive within the window alone."""
    inside = values[window.first - 1 : window.last]
    if window.last <= len(values) and bool((inside > 0).all()):
        return
    reason = f"go beyond the {len(values)} signal variances"
    if not bool((inside > 0).all()):
        reason = f"hold a signal variance that is not positive, at rank {window.first + int((inside <= 0).nonzero()[0])}"
    first, last = positive_run(values)
    remedy = f"The window with the most variance without one is ({first}, {last}). Choose ranks within it."
    if last - first + 1 < MIN_RANKS:
        remedy = "The run with the most variance without one has fewer than 3 ranks. Record more stimuli or repeats."
    raise SpectrumError(f"{name}: `ranks` {window.ranks} {reason}. {remedy}")


@checked(SpectrumError)
def window_sensitivity(
    eigenvalues: Numbers,
    *,
    first: Iterable[int],
    last: Iterable[int],
    weights: Weights = "equal",
    rank: int | None = None,
    method: str = "given",
) -> pd.DataFrame:
    """Exponent over every window of a grid: how much of alpha is the choice of ranks.

    Args:
        eigenvalues: Largest first, shape (k,).
        first: First ranks to try.
        last: Last ranks to try.
        weights: "equal" or "inverse_rank".
        rank: Numerical rank; default: the number of positive eigenvalues.
        method: As in ``fit_power_law``.

    Returns:
        Table with columns first, last, alpha, stderr, r2: one row for every window of at least three ranks within the rank.

    Raises:
        SpectrumError: no window of the grid fits, or what ``fit_power_law`` says of eigenvalues.
    """
    firsts, lasts = list(first), list(last)
    values = checked_eigenvalues(eigenvalues, caller="window_sensitivity", signed=method == _SIGNED)
    start, available = positive_run(values)
    start, available = (start, available) if method == _SIGNED else (1, available if rank is None else rank)
    rows = []
    for low in firsts:
        for high in lasts:
            if low >= start and high - low + 1 >= MIN_RANKS and high <= available:
                fit = fit_power_law(values, ranks=(low, high), weights=weights, rank=available, method=method)
                rows.append({"first": low, "last": high, "alpha": fit.alpha, "stderr": fit.stderr, "r2": fit.r2})
    if not rows:
        raise SpectrumError(
            f"window_sensitivity: no window of `first` {firsts} and `last` {lasts} holds 3 ranks within the numerical rank "
            f"{available}. Choose ranks within {start}..{available}."
        )
    return pd.DataFrame(rows)
