"""The dimension of a code in all units that the measured ones are a sample of, as recorded neurons are."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from eigencode._arguments import checked
from eigencode.errors import SpectrumError
from eigencode.spectra.dimension import DimensionInterval
from eigencode.spectra.eigenvalues import Numbers, as_numbers
from eigencode.spectra.jackknife import Jackknife
from eigencode.spectra.traces import distinct_traces, spectral_traces

FEWEST = 8
"""Images, or units, from which one can be left out in turn."""

_GROUPS = 50
"""Of units that are left out in turn."""


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
        DimensionInterval.

    Raises:
        SpectrumError: fewer than eight images or units, values that are not finite, or images and units that do not determine it.

    Source: Chun et al. 2026, ICLR, whose estimator is the ratio; the interval: Owen 2007, Ann. Appl. Stat. 1.

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
    data = data - data.mean(0)
    groups, (whole, without, of_pairs) = unit_groups(data.shape[1]), _ratios(data)
    if not bool(torch.cat([whole[None], without]).min() > 0):
        raise SpectrumError(f"{name}: {len(data)} images of {data.shape[1]} units do not determine the dimension. Measure more.")
    left = [_ratios(data[:, groups != group])[:2] for group in groups.unique()]
    units, both = (torch.stack(each) for each in zip(*left, strict=True))
    if not bool(both.min() > 0 and units.min() > 0):
        raise SpectrumError(f"{name}: the dimension rests on few of {data.shape[1]} units. Measure more of them.")
    ratio = Jackknife.crossed(Jackknife.of(whole, without), Jackknife.of(whole, units), both)
    of_images = Jackknife.of(whole.log(), without.log(), of_pairs=of_pairs)
    error = Jackknife.crossed(of_images, Jackknife.of(whole.log(), units.log()), both.log())
    dimension = max(1.0, float(whole) - ratio.bias)
    low, high = (float(whole) * math.exp(reach) for reach in error.reaches(level))
    return DimensionInterval(dimension, max(1.0, min(low, dimension)), max(high, dimension), error.stderr, level)


def _ratios(data: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The dimension over distinct units, the same without each image, shape (n,), and the variance that pairs of images have."""
    found, without, of_pairs = distinct_traces(data @ data.T)
    own, left = _own(data)
    ratio, ratios = (squared / square for squared, square in (found - own, without - left))
    return ratio, ratios, of_pairs


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
