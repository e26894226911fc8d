"""Sums over distinct stimuli, by which products of responses have the expectation of the signal alone.

Whatever is given of each stimulus has shape (n, ...): one number, or one for each neuron.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_LARGEST_BLOCK = 2**22
"""Responses whose neurons are taken together."""


def shared_sums(shared: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of ``shared`` and of its squares, and both without each stimulus."""
    whole = torch.stack([shared.sum(0), shared.square().sum(0)])
    return whole, whole[:, None] - torch.stack([shared, shared.square()])


def sums_of_means(own: Tensor, shared: Tensor, squared: Tensor, with_own: Tensor, with_shared: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over distinct stimuli of b_ij, of b_ij b_kl and of shared_i b_jk, shape (3,), and without each stimulus, shape (3, n).

    Args:
        own: What the sum of b_ij over j falls short of zero.
        shared: Of each stimulus.
        squared: Sum over j of b_ij^2.
        with_own: Sum over j of b_ij own_j.
        with_shared: Sum over j of b_ij shared_j.
    """
    means, both = -own.sum(0), shared * own
    pairs = means.square() - 4 * own.square().sum(0) + 2 * squared.sum(0)
    whole = torch.stack([means, pairs, shared.sum(0) * means + 2 * both.sum(0)])
    left = means + 2 * own
    rows = own.square().sum(0) - own.square() + 2 * with_own + squared
    pairs = left.square() - 4 * rows + 2 * (squared.sum(0) - 2 * squared)
    singles = (shared.sum(0) - shared) * left + 2 * (both.sum(0) - both + with_shared)
    return whole, torch.stack([left, pairs, singles])


def moments_of_sums(count: int, shared: Tensor, means: Tensor, sums: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Estimates of tr S, (tr S)^2 and tr S^2 from sums over distinct stimuli.

    Args:
        count: Stimuli.
        shared: See ``shared_sums``.
        means: See ``sums_of_means``.
        sums: Of products of two inner products over two, three and four stimuli.
    """
    two, three, four = _tuples(count)
    trace = shared[0] / count - means[0] / two
    square = sums[0] / two - 2 * sums[1] / three + sums[2] / four
    return torch.stack([trace, _squared_trace(count, shared, means), square])


def _squared_trace(count: int, shared: Tensor, means: Tensor) -> Tensor:
    two, three, four = _tuples(count)
    return (shared[0].square() - shared[1]) / two - 2 * means[2] / three + means[1] / four


def _tuples(count: int) -> tuple[int, int, int]:
    """How many there are of two, three and four distinct stimuli."""
    two, three, four = (math.prod(count - k for k in range(size)) for size in (2, 3, 4))
    return two, three, four


def squared_variances(presentations: Tensor, stimuli: Tensor, *, crossed: bool) -> tuple[Tensor, Tensor]:
    """Sum over neurons of the squared signal variance of each, without bias, and the same without each stimulus.

    Args:
        presentations: Responses, shape (n_presentations, n_neurons); of crossed repeats without the mean of each.
        stimuli: Stimulus of each presentation in rising order, shape (n_presentations,).
        crossed: See ``signal_moments``.
    """
    whole, step = presentations.new_zeros(()), max(1, _LARGEST_BLOCK // len(presentations))
    counts = torch.bincount(stimuli).to(presentations.dtype)[:, None]
    without = presentations.new_zeros(len(counts))
    for some in presentations.split(step, dim=1):
        own, shared, sums = (_of_neurons_crossed if crossed else _of_neurons)(some, stimuli, counts)
        means, left = sums_of_means(own, shared, *sums)
        first, second = shared_sums(shared)
        whole += _squared_trace(len(counts), first, means).sum()
        without += _squared_trace(len(counts) - 1, second, left).sum(1)
    return whole, without


_Sums = tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]


def _of_neurons(presentations: Tensor, stimuli: Tensor, counts: Tensor) -> _Sums:
    """What ``sums_of_means`` needs of each neuron, each of shape (n, n_neurons): own, shared and the other three."""
    means = torch.zeros_like(presentations[: len(counts)]).index_add_(0, stimuli, presentations) / counts
    responses, means = presentations - means.mean(0), means - means.mean(0)
    squares, own = torch.zeros_like(means).index_add_(0, stimuli, responses.square()), means.square()
    shared = (counts.square() * own - squares) / (counts * (counts - 1))
    first, second, third = (means * ((means * each).sum(0) - means * each) for each in (means, own, shared))
    return own, shared, (means * first, second, third)


def _of_neurons_crossed(presentations: Tensor, stimuli: Tensor, counts: Tensor) -> _Sums:
    responses = presentations.view(len(counts), -1, presentations.shape[1])
    repeats = responses.shape[1]
    others = (responses.sum(1, keepdim=True) - responses) / (repeats * (repeats - 1))
    shared = (responses * others).sum(1)
    between = torch.einsum("jan,jbn->abn", responses, responses)
    squares = (torch.einsum("ian,abn->ibn", others, between) * others).sum(1) - shared.square()
    with_shared = (others * (responses * shared[:, None]).sum(0)).sum(1) - shared.square()
    return shared, shared, (squares, with_shared, with_shared)
