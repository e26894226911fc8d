"""The dimension of a code in all units that the measured ones are a sample of, as recorded neurons are."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from eigencode._arguments import checked
from eigencode.errors import SpectrumError
from eigencode.spectra.dimension import DimensionInterval
from eigencode.spectra.eigenvalues import Numbers, as_numbers
from eigencode.spectra.intervals import Interval
from eigencode.spectra.jackknife import Jackknife
from eigencode.spectra.traces import distinct_traces, spectral_traces

FEWEST = 8
"""Images, or units, from which one can be left out in turn."""

_GROUPS = 50
"""Of units that are left out in turn."""

DETERMINED = 2.5
"""Standard errors above zero from which a share of variance is judged by its logarithm."""

_ROUNDING = 1e-12
"""Variation, or a share, below which all may be rounding."""


def unit_groups(n_units: int) -> Tensor:
    """Random groups of units, of nearly the same size: the group of each, shape (n_units,), 0, 1, ..."""
    order = torch.randperm(n_units, generator=torch.Generator().manual_seed(0))
    return order % min(_GROUPS, n_units)


@checked(SpectrumError)
def dimension_of_all_units(responses: Numbers, *, level: float = 0.95, name: str = "responses") -> DimensionInterval:
    """Dimension of the population of images in infinitely many units, of which the measured ones are an independent sample.

    Few units have fewer dimensions than many. Both traces of the dimension are therefore means over distinct units too: of
    S_ii S_jj and of S_ij^2, S being the covariance, each without bias by few images. Noise counts as variance of the code, also
    that which units do not share; for the signal alone see ``SignalSpectrum.dimension_of_all_neurons``. The interval is over the
    choice of images and of units.

    Args:
        responses: Shape (n_images, n_units), one presentation of each image.
        level: Nominal coverage.
        name: What error messages call the code.

    Returns:
        DimensionInterval; NaN with an infinite end where the dimension may have no bound.

    Raises:
        SpectrumError: fewer than eight images or units, values that are not finite, or images and units that tell nothing of it.

    Source: Chun et al. 2026, ICLR, whose estimator is the ratio of both traces, of whose inverse the bias is taken away here.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> latent = torch.randn(500, 20, generator=generator)
        >>> found = dimension_of_all_units(latent @ torch.randn(20, 100, generator=generator))
        >>> found.low < 20 < found.high
        True
    """
    if not 0 < level < 1:
        raise SpectrumError(f"{name}: `level` must lie between 0 and 1; got {level}. Pass for example 0.95.")
    data = as_numbers(responses, caller=name, what="responses").to(torch.float64)
    if data.ndim != 2 or min(data.shape) < FEWEST:
        raise SpectrumError(
            f"{name}: responses must have shape (images, units) with at least {FEWEST} of each; got {tuple(data.shape)}. "
            "Pass more."
        )
    if not bool(data.isfinite().all()):
        raise SpectrumError(f"{name}: responses must be finite; got NaN or infinite values. Leave out those images or units.")
    largest = float(data.abs().max())
    data = data / largest if largest else data
    data = data - data.mean(0)
    if not bool(data.abs().max() > _ROUNDING):
        raise SpectrumError(f"{name}: responses must differ between images by more than rounding; they are all the same.")
    return _interval(data, level, name)


def dimension_of_shares(shares: Interval) -> Interval:
    """The inverse of tr S^2 / (tr S)^2; NaN, with an infinite end, where that is not told from 0."""
    low, value, high = (1 / min(1.0, each) if each > _ROUNDING else math.inf for each in (shares.high, shares.value, shares.low))
    return Interval(value if math.isfinite(value) else math.nan, low if math.isfinite(low) else 1.0, high)


def _interval(data: Tensor, level: float, name: str) -> DimensionInterval:
    groups, (whole, without, of_pairs) = unit_groups(data.shape[1]), _shares(data)
    left = [_shares(data[:, groups != group])[:2] for group in groups.unique()]
    units, both = (torch.stack(each) for each in zip(*left, strict=True))

    def error(of: Callable[[Tensor], Tensor], pairs: Tensor) -> Jackknife:
        images = Jackknife.of(of(whole), of(without), of_pairs=pairs)
        return Jackknife.crossed(of(whole), images, Jackknife.of(of(whole), of(units)), of(both))

    straight = error(lambda shares: shares, of_pairs * whole.square())
    value, positive = float(whole) - straight.bias, float(torch.cat([without, units, both.flatten()]).min()) > 0
    if positive and float(whole) > DETERMINED * straight.stderr:
        logarithm = error(torch.log, of_pairs)
        low, high = (float(whole) * math.exp(reach) for reach in logarithm.reaches(level))
        stderr = logarithm.stderr
    else:
        low, high = (float(whole) + reach for reach in straight.reaches(level))
        stderr = math.nan
    found = dimension_of_shares(Interval(value, min(low, value), max(high, value)))
    if math.isnan(found.value) and math.isinf(found.high) and found.low <= 1:
        raise SpectrumError(f"{name}: {len(data)} images of {data.shape[1]} units do not determine the dimension. Measure more.")
    return DimensionInterval(found.value, found.low, found.high, stderr, level)


def _shares(data: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Tr S^2 / (tr S)^2 over distinct units, without each image, shape (n,), and what pairs of images have of its variance."""
    found, without, of_pairs = distinct_traces(data @ data.T)
    own, left = _own(data)
    (squared, square), (others, other_squares) = found - own, without - left
    part = square / found[1]
    return square / squared, other_squares / others, of_pairs / part.square() if part else of_pairs


def _own(data: Tensor) -> tuple[Tensor, Tensor]:
    """Sum over units of the squared variance of each, without bias, and the same without each image, shape (n,)."""
    count = len(data)
    squares, cubes, quartics = (data.pow(order).sum(0) for order in (2, 3, 4))
    whole = spectral_traces(count, squares, squares.square(), quartics)[0].sum()
    shift = data / (count - 1)  # of the others from their mean, turned round
    square = squares - data.square() - (count - 1) * shift.square()
    quartic = quartics - data.pow(4) + 4 * shift * (cubes - data.pow(3)) + 6 * shift.square() * (squares - data.square())
    quartic = quartic - 4 * shift.pow(3) * data + (count - 1) * shift.pow(4)
    return whole, spectral_traces(count - 1, square, square.square(), quartic)[0].sum(1)
