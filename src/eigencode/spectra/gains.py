"""How much images differ in the size of their responses, beyond what their spectrum explains: it changes what sampling does."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.special import ndtri
from scipy.stats import beta
from torch import Tensor

from eigencode.spectra.traces import Traces, spectral_traces

_LARGEST = 10
"""Largest gains that are kept one by one."""

_GROUPS = 30
"""Groups of equally many gains for all others."""

_DIMENSIONS = 50.0
"""Leading components are left out until the others fill so many dimensions: squared lengths then tell a gain, which all
components share, from the tails of a few components."""

_LEADING = 24
_MOST_LEADING = 8
"""Components that are looked for, and of how many samples at most one is left out."""

_OVERSAMPLED = 8
"""Directions beyond those wanted."""

_REST = 0.01
"""Part of the variance that is left at least when leading components are left out: less may be rounding."""

_CONSTANT = 1e-6
"""Components with less of the first one's variance may be rounding."""

_COPIES = 0.1
"""Part of the images above which near-copies speak against independent images."""

_LATER = 8
_SERIAL = 0.25
"""By so much the mean cosine of samples in a series with the next one is larger than with the one so many places later. Samples
sorted by class stay below: most of their classes are longer, and resemblance within them is weaker."""

_SIGNIFICANT = 4.0
"""Standard errors from which the difference is not taken for chance."""

_FEWEST_COMPONENTS = 16
"""Samples in fewer dimensions lie close to each other by chance, and not by chance if they are not Gaussian."""

_ALIKE = 0.95
_BY_CHANCE = 0.01
"""Cosine of near-copies, at least, and the part of the samples that may have so near a neighbour by chance."""

_ONE_COMPONENT = 0.5
"""Ratio of the traces from which one component has nearly all the variance, and nothing is known of the others."""

_COMPARED = 2000
_AT_ONCE = 2**18
"""Samples that are compared with all others, and how many cosines at once."""

_SMALLEST = 0.02
"""Gains are kept above this, and are taken for equal where their variance is below it."""


MUCH = 1.1
"""Second moment of gains from which each half of the images has equally many of each size: the expected spectrum is that of the
gains that the sample has, and halves that happened to hold the large ones would vary more than whole samples do."""

TOGETHER = "some are copies of others or belong together, pass `groups` from Python"
"""What to do about images that are not independent of each other."""


@dataclass(frozen=True)
class Gains:
    """Law of the gains by which the squared length of each image's response is multiplied; of mean one.

    Attributes:
        values: Gains, not negative.
        shares: Part of the images that has each.
        error: Standard error of the second moment.
        copies: Part of the images that are nearly the same as another, though they were not said to belong together.
        serial: How much more images resemble the next one than later ones (difference of mean cosines); 0 if that may be chance.
    """

    values: tuple[float, ...] = (1.0,)
    shares: tuple[float, ...] = (1.0,)
    error: float = 0.0
    copies: float = 0.0
    serial: float = 0.0

    @property
    def second_moment(self) -> float:
        """Mean of the squared gain: 1 where all images are alike."""
        return float(np.square(self.values) @ np.asarray(self.shares))

    @property
    def independent(self) -> float:
        """Part of the samples that count as independent ones."""
        return 1 - float(sum(share for value, share in zip(self.values, self.shares, strict=True) if value == 0))

    @property
    def objection(self) -> str:
        """What speaks against images that are independent of each other, else ""."""
        if self.copies > _COPIES:
            return f"{self.copies:.0%} of them are nearly the same as another"
        if self.serial > _SERIAL:
            return f"each resembles the next more than later ones (mean cosine larger by {self.serial:.2f}), as in a film"
        return ""

    def within_error(self) -> Gains:
        """Gains whose second moment is larger by its standard error."""
        variance = self.second_moment - 1
        if variance < _SMALLEST:
            root = math.sqrt(self.error)
            return Gains((1 - min(root, 1 - _SMALLEST), 1 + root), (0.5, 0.5))
        stretched = 1 + (np.asarray(self.values) - 1) * math.sqrt(1 + self.error / variance)
        stretched = np.maximum(_SMALLEST, stretched)
        return Gains(tuple((stretched / (stretched @ np.asarray(self.shares))).tolist()), self.shares)


def _law(gains: np.ndarray) -> Gains:
    """Of the gains of single images: the largest one by one, the others in groups."""
    gains = np.sort(gains) / gains.mean()
    parts = [*np.array_split(gains[:-_LARGEST], _GROUPS), *gains[-_LARGEST:, None]]
    parts = [part for part in parts if len(part)]
    shares = tuple(len(part) / len(gains) for part in parts)
    return Gains(tuple(float(part.mean()) for part in parts), shares)


@dataclass(frozen=True)
class Singles:
    """What single samples tell, beside their spectrum.

    Attributes:
        lengths: Squared lengths without the leading components, over the mean of those with them, shape (n,).
        leading: Number of components left out.
        copies: Part of the samples that are nearly the same as another.
        serial: How much more samples resemble the next one than later ones.
    """

    lengths: Tensor
    leading: int = 0
    copies: float = 0.0
    serial: float = 0.0


def bytes_of_singles(count: int, width: int) -> int:
    """What ``singles_of`` takes, for so many samples of so many units, beside pieces of the samples."""
    return 8 * (_LEADING + _OVERSAMPLED) * (6 * count + width) + 16 * _AT_ONCE


def singles_of(lengths: Tensor, products: Callable[[Tensor], Tensor]) -> Singles:
    """Squared lengths without as many leading components as it takes for the others to fill many dimensions, and resemblances.

    Args:
        lengths: Squared lengths of the centred samples, shape (n,).
        products: The samples' Gram matrix times a matrix of shape (n, k).
    """
    count, mean = len(lengths), float(lengths.mean())
    most = min(_LEADING, count // _MOST_LEADING)
    if not (most and 0 < mean < math.inf):
        return Singles(torch.ones_like(lengths))
    start = torch.randn(count, most + _OVERSAMPLED, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    basis = torch.linalg.qr(products(torch.linalg.qr(products(start.to(lengths)))[0]))[0]
    variances, vectors = torch.linalg.eigh(basis.T @ (products(basis) / (mean * count)))
    variances, vectors = variances.flip(0).clamp_min(0), vectors.flip(1)
    found = variances.cpu().numpy()  # parts of the total
    lengths = lengths / mean
    rests = 1 - np.r_[0.0, found.cumsum()][: most + 1]
    spread = float(lengths.square().mean()) / count * rests**2  # what sampling adds to the sum of squared variances
    squares = np.square(found).sum() - np.r_[0.0, np.square(found).cumsum()][: most + 1] + found[-1] * rests - spread
    dimensions = np.where(rests > _REST, rests**2 / np.maximum(squares, 1e-300), 0.0)
    wide = np.nonzero(dimensions >= _DIMENSIONS)[0]
    leading = int(wide[0]) if len(wide) else int(dimensions.argmax())
    scores = basis @ vectors[:, :leading] * (variances[:leading] * count).sqrt()
    varying = variances > variances[0] * _CONSTANT
    directions = torch.nn.functional.normalize((basis @ vectors)[:, varying], dim=1)  # all components count alike
    enough = directions.shape[1] >= _FEWEST_COMPONENTS
    copies = _copies(directions) if enough else 0.0
    serial = _serial(directions) if enough else 0.0
    return Singles((lengths - scores.square().sum(1)).clamp_min(0), leading, copies, serial)


def _serial(directions: Tensor) -> float:
    """How much more samples resemble the next one than later ones, by mean cosines; 0 if that may be chance."""
    count, dimensions = directions.shape
    nearer, farther = ((directions[lag:] * directions[:-lag]).sum(1) for lag in (1, _LATER))
    difference = float(nearer.mean() - farther.mean())
    return difference if difference > _SIGNIFICANT * math.sqrt(2 / (dimensions * (count - _LATER))) else 0.0


def _copies(directions: Tensor) -> float:
    """Part of the samples whose direction is nearer to another's than chance brings any two.

    Args:
        directions: Of length one, shape (n, k).
    """
    count, dimensions = directions.shape
    likely = float(beta.isf(_BY_CHANCE / count, (dimensions - 1) / 2, (dimensions - 1) / 2))  # of (1 + cosine) / 2
    chosen = torch.randperm(count, generator=torch.Generator().manual_seed(0))[:_COMPARED].to(directions.device)
    near = 0
    for some in chosen.split(max(1, _AT_ONCE // count)):
        cosines = directions[some] @ directions.T
        cosines[torch.arange(len(some), device=directions.device), some] = -1
        near += int((cosines.max(1).values > max(_ALIKE, 2 * likely - 1)).sum())
    return near / len(chosen)


def gains_of_singles(singles: Singles, eigenvalues: Tensor) -> Gains:
    """Of images that are independent of each other, from what their squared lengths vary beyond those of equal gains.

    The squared length of a Gaussian response of D dimensions varies by 2 / D of its squared mean. What it varies beyond that is
    a gain, or comes from the tails of units: the gain of an image is the best linear prediction from its length.

    Args:
        singles: Of the centred samples.
        eigenvalues: Of the covariance matrix, all of them, largest first.
    """
    values = singles.lengths.to("cpu", torch.float64)
    count, mean = len(values), float(values.mean())
    alike = Gains(copies=singles.copies, serial=singles.serial)
    if count < 2 * _MOST_LEADING or not mean > 0:
        return alike
    parts = eigenvalues[singles.leading :].to("cpu", torch.float64)
    parts = parts / parts.sum()
    square = parts.square().sum() * values.sum() ** 2
    squared_trace, trace_of_square = map(float, spectral_traces(count, values.sum(), square, values.square().sum()))
    relative = values.numpy() / mean
    variance = float(relative.var(ddof=1))
    if not variance > _CONSTANT:
        return alike
    excess = variance - 2 * max(0.0, trace_of_square) / squared_trace if squared_trace > 0 else variance
    excess = max(0.0, excess)
    expected = variance - excess
    gains = np.maximum(_SMALLEST, 1 + (relative - 1) * excess / variance)
    by_lengths = 2 * expected**2 * float(np.mean(gains**4)) + 4 * expected * float(np.mean((gains - 1) ** 2 * gains**2))
    error = math.sqrt(by_lengths / count) + excess * expected / variance  # as much as may be the tails of units
    if excess**2 / variance < _SMALLEST:
        return replace(alike, error=error + excess**2 / variance)
    law = _law(gains)
    return replace(alike, values=law.values, shares=law.shares, error=error)


def _second_moment(values: np.ndarray, traces: Traces, degrees: int) -> float:
    """Of the gains, by what sampling has added to the sum of squared eigenvalues; 1 where this is not known.

    With a the squared trace and b = r a the trace of the square, N degrees of freedom and second moment k, the sum of squares
    is b + k (a + b) / N on average, and the squared sum a + (2 k b + (k - 1) a) / N. Traces are known up to their unit.
    """
    if not (traces.squared_trace > 0 and traces.trace_of_square > 0):
        return 1.0
    ratio = traces.trace_of_square / traces.squared_trace
    relative = float(np.square(values / values.sum()).sum())
    if max(ratio, relative) > _ONE_COMPONENT:
        return 1.0
    return (degrees * (relative - ratio) - relative) / (1 + ratio - relative * (1 + 2 * ratio))


def gains_of_traces(eigenvalues: Tensor, traces: Traces, *, n_samples: int, independent: bool) -> Gains:
    """From what sampling has added to the sum of squared eigenvalues, beyond what it adds where gains are equal.

    Independent images are given a lognormal law of gains with this second moment. Samples of one image, or images that belong
    together, say the less the more they agree: they count as fewer samples, the others as if they were not there.

    Args:
        eigenvalues: Of the covariance matrix, all of them, largest first.
        traces: Of the population.
        n_samples: Samples.
        independent: Whether all samples are independent of each other.
    """
    values = eigenvalues.clamp_min(0).to("cpu", torch.float64).numpy()
    if not independent and not (traces.squared_trace > 0 and traces.trace_of_square > 0):
        return Gains((0.0,), (1.0,))  # too few sets of images: nothing counts
    second = _second_moment(values, traces, n_samples - 1)
    if second < 1 + _SMALLEST:
        return Gains()
    if not independent:
        return Gains((0.0, second), (1 - 1 / second, 1 / second))
    count = _GROUPS + _LARGEST
    deep = 10 * count  # a fine law first: means of groups keep its second moment
    return _law(np.exp(np.sqrt(np.log(second)) * ndtri((np.arange(deep) + 0.5) / deep)))
