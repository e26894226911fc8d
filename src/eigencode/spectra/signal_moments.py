"""Unbiased moments of a signal: what responses to repeats of the same stimuli share, without the noise of any of them.

Noise is independent between presentations, whatever its distribution, and may depend on the stimulus. A product of responses in
which no presentation occurs twice therefore has the expectation of the same product of signals. For the covariance S of the
signal over stimuli, tr S, (tr S)^2 and tr S^2 are means over all tuples of distinct stimuli, and of distinct presentations of
each, of differences between stimuli; tr S^3 and tr S^4 are means over all cycles of distinct stimuli, about the mean of all
stimuli, whose error leaves a bias of the order 1/n^2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from eigencode.spectra.traces import variance_of_pairs

DRAWS = 2
"""Random choices of the presentations by which cycles enter and leave a stimulus, averaged."""

_LARGEST_BLOCK = 2**24
"""Inner products held at once."""


@dataclass(frozen=True)
class SignalMoments:
    """Moments of a signal's covariance S from all stimuli, and the same without each of n stimuli.

    Attributes:
        trace: tr S, signal variance.
        squared_trace: (tr S)^2.
        square: tr S^2.
        cube: tr S^3.
        fourth: tr S^4.
        total: Variance of single presentations over stimuli, signal and noise.
        without: The six numbers without each stimulus, in this order, shape (6, n).
        of_pairs: Variance of tr S^2 that pairs of stimuli have and single stimuli do not, as a part of its square.
    """

    trace: float
    squared_trace: float
    square: float
    cube: float
    fourth: float
    total: float
    without: Tensor
    of_pairs: float


def signal_moments(
    presentations: Tensor, stimuli: Tensor, *, seed: int = 0, advance: Callable[[float], object] | None = None
) -> SignalMoments:
    """Moments of the signal in responses to repeated stimuli.

    Args:
        presentations: Responses, shape (n_presentations, n_neurons), float64.
        stimuli: Stimulus of each presentation in rising order, shape (n_presentations,), int64; 0, 1, ..., each at least twice.
        seed: Seed of the cycles.
        advance: Called with the share of the work that was done.

    Source: pairs of distinct samples: Chun et al. 2026, ICLR; cycles: Kong and Valiant 2017, Ann. Stat. 45, Eq. (2), here over
    all tuples in place of those in rising order.
    """
    sums = _Sums.of(presentations, stimuli, advance or (lambda share: None))
    first = sums.moments()
    cycles = _cycles(presentations, stimuli, seed, advance or (lambda share: None))
    whole = torch.cat([first[0], cycles[0], sums.total()[0][None]])
    without = torch.cat([first[1], cycles[1], sums.total()[1][None]])
    trace, squared_trace, square, cube, fourth, total = whole.tolist()
    pairs = float(variance_of_pairs(sums.squares, sums.fourths))
    return SignalMoments(trace, squared_trace, square, cube, fourth, total, without, pairs)


@dataclass(frozen=True)
class _Sums:
    """What the moments are made of; stimuli are i, j, k, l, presentations of i are a and b, m_i is their mean.

    Attributes:
        own: m_i m_i.
        shared: Mean over a, b of x_ia x_ib.
        lengths: Mean over a of x_ia x_ia.
        squares: Sum over j of h_ij, the mean over distinct a, b of i and c, d of j, of (x_ia x_jc) (x_ib x_jd).
        fourths: Sum of h_ij^2 over all pairs.
        turned: Mean over a, b of (x_ia m_i) (x_ib m_i) less the sum over j of c_ij, the mean over a, b of (x_ia m_j) (x_ib m_j).
        across: Sum over j of c_ji and of the mean over a, b of (x_ja m_i) (x_jb m_j).
        means_squared: Sum over j of (m_i m_j)^2.
        means_own: Sum over j of (m_i m_j) (m_j m_j).
        means_shared: Sum over j of (m_i m_j) shared_j.
    """

    own: Tensor
    shared: Tensor
    lengths: Tensor
    squares: Tensor
    fourths: Tensor
    turned: Tensor
    across: Tensor
    means_squared: Tensor
    means_own: Tensor
    means_shared: Tensor

    @classmethod
    def of(cls, presentations: Tensor, stimuli: Tensor, advance: Callable[[float], object]) -> _Sums:
        counts = torch.bincount(stimuli).to(presentations.dtype)
        size, pairs = len(counts), counts * (counts - 1)
        means = _summed(presentations, stimuli, size) / counts[:, None]
        responses, means = presentations - means.mean(0), means - means.mean(0)
        squared = _summed(responses.square().sum(1), stimuli, size)
        own, summed = means.square().sum(1), means * counts[:, None]
        shared = (counts.square() * own - squared) / pairs
        onto = (responses * means[stimuli]).sum(1)
        at_own = _summed(onto, stimuli, size)
        turned = (at_own.square() - _summed(onto.square(), stimuli, size)) / pairs
        drawn = (summed * at_own[:, None] - _summed(responses * onto[:, None], stimuli, size)) / pairs[:, None]
        across = means @ drawn.sum(0) - turned
        squares, means_squared, means_own, means_shared = (torch.empty_like(own) for _ in range(4))
        fourths = own.new_zeros(())
        for rows, products, between in _blocks(responses, stimuli, counts):
            chosen = torch.arange(rows.start, rows.stop, device=own.device)
            diagonal = (chosen - rows.start, chosen)
            within = stimuli[(stimuli >= rows.start) & (stimuli < rows.stop)] - rows.start
            both = _squares_apart(products, between, stimuli, within, counts) / torch.outer(pairs[rows], pairs)
            both[diagonal] = 0
            squares[rows] = both.sum(1)
            fourths += both.square().sum()
            pointing = between / counts
            forms = _summed(pointing, within, len(chosen)).square() - _summed(pointing.square(), within, len(chosen))
            forms = forms / pairs[rows, None]
            forms[diagonal] = 0
            turned[rows] -= forms.sum(1)
            across += forms.sum(0)
            inner = means[rows] @ means.T
            inner[diagonal] = 0
            means_squared[rows] = inner.square().sum(1)
            means_own[rows], means_shared[rows] = inner @ own, inner @ shared
            advance(0.5 * len(chosen) / size)
        return cls(own, shared, squared / counts, squares, fourths, turned, across, means_squared, means_own, means_shared)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Estimates of tr S, (tr S)^2 and tr S^2: shape (3,), and without each stimulus, shape (3, n)."""
        count, own, shared = len(self.own), self.own, self.shared
        means = -own.sum()  # of m_i m_j, since all m sum to zero
        pairs = means.square() - 4 * own.square().sum() + 2 * self.means_squared.sum()
        singles = shared.sum() * means + 2 * (shared * own).sum()
        repeated = (shared.sum(), shared.square().sum())
        whole = _from_sums(count, repeated, (means, pairs, singles), self.squares.sum(), self.turned.sum())
        left = means + 2 * own
        rows = own.square().sum() - own.square() + 2 * self.means_own + self.means_squared
        pairs = left.square() - 4 * rows + 2 * (self.means_squared.sum() - 2 * self.means_squared)
        others = shared.sum() - shared
        singles = others * left + 2 * ((shared * own).sum() - shared * own + self.means_shared)
        repeated = (others, shared.square().sum() - shared.square())
        squares, turned = self.squares.sum() - 2 * self.squares, self.turned.sum() - self.turned + 2 * self.across
        return whole, _from_sums(count - 1, repeated, (left, pairs, singles), squares, turned)

    def total(self) -> tuple[Tensor, Tensor]:
        """Variance of single presentations, and without each stimulus."""
        count, lengths, own = len(self.own), self.lengths, self.own
        whole = lengths.sum() / count + own.sum() / (count * (count - 1))
        left = count - 1
        return whole, (lengths.sum() - lengths) / left + (own.sum() - 2 * own) / (left * (left - 1))


def _from_sums(
    count: int, shared: tuple[Tensor, Tensor], means: tuple[Tensor, Tensor, Tensor], squares: Tensor, turned: Tensor
) -> Tensor:
    """Estimates of tr S, (tr S)^2 and tr S^2 from sums over distinct stimuli.

    Args:
        count: Stimuli.
        shared: Sums of ``shared`` and of its squares.
        means: Sums of m_i m_j, of (m_i m_j) (m_k m_l) and of shared_i (m_j m_k).
        squares: Sum of h_ij.
        turned: Sum of (x_ia m_j) (x_ib m_k), averaged over a, b.
    """
    two, three, four = (math.prod(count - k for k in range(size)) for size in (2, 3, 4))
    trace = shared[0] / count - means[0] / two
    squared_trace = (shared[0].square() - shared[1]) / two - 2 * means[2] / three + means[1] / four
    return torch.stack([trace, squared_trace, squares / two - 2 * turned / three + means[1] / four])


def _blocks(responses: Tensor, stimuli: Tensor, counts: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Some stimuli at a time: which, inner products of their presentations with all, and these summed over each stimulus."""
    ends = counts.cumsum(0).long().tolist()
    most = max(1, _LARGEST_BLOCK // len(responses))
    first, start = 0, 0
    while first < len(counts):
        last = first + 1
        while last < len(counts) and ends[last] - start <= most:
            last += 1
        products = responses[start : ends[last - 1]] @ responses.T
        yield slice(first, last), products, _columns_summed(products, stimuli, counts)
        first, start = last, ends[last - 1]


def _squares_apart(products: Tensor, between: Tensor, stimuli: Tensor, within: Tensor, counts: Tensor) -> Tensor:
    """Sums of (x_ia x_jc) (x_ib x_jd) over distinct a, b and c, d, of some stimuli i and all j; without meaning where i is j."""
    size = int(within[-1]) + 1
    of_rows = _summed(products, within, size)  # over a, shape (i, all presentations)
    same_both = _summed(products.square_(), within, size)
    return (
        _summed(between, within, size).square()
        - _summed(between.square(), within, size)
        + _columns_summed(same_both - of_rows.square(), stimuli, counts)
    )


def _columns_summed(values: Tensor, stimuli: Tensor, counts: Tensor) -> Tensor:
    """Sums over the presentations of each stimulus, along the second axis."""
    if bool((counts == counts[0]).all()):
        return torch.sum(values.view(len(values), len(counts), -1), dim=2)
    return values.new_zeros(len(values), len(counts)).index_add_(1, stimuli, values)


def _summed(values: Tensor, stimuli: Tensor, size: int) -> Tensor:
    """Sums over the presentations of each stimulus, along the first axis."""
    return values.new_zeros(size, *values.shape[1:]).index_add_(0, stimuli, values)


def _cycles(presentations: Tensor, stimuli: Tensor, seed: int, advance: Callable[[float], object]) -> tuple[Tensor, Tensor]:
    """Estimates of tr S^3 and tr S^4: shape (2,), and without each stimulus, shape (2, n)."""
    generator = torch.Generator().manual_seed(seed)
    count = int(stimuli[-1]) + 1
    through = presentations.new_zeros(2, count)
    starts = torch.bincount(stimuli).cumsum(0) - torch.bincount(stimuli)
    for _ in range(DRAWS):
        mixed = torch.rand(len(stimuli), generator=generator).to(presentations.device)
        order = (mixed + stimuli).argsort()  # presentations of a stimulus in random order
        entered, left = presentations[order[starts]], presentations[order[starts + 1]]
        through += _through((entered - entered.mean(0)) @ (left - left.mean(0)).T) / DRAWS
        advance(0.5 / DRAWS)
    lengths = torch.tensor([[3.0], [4.0]], dtype=through.dtype, device=through.device)
    whole, without = through.sum(1, keepdim=True), through.sum(1, keepdim=True) - lengths * through
    scale = torch.cat([(count / (count - 1)) ** lengths / _tuples(each) for each in (count, count - 1)], dim=1)
    return (whole * scale[:, :1]).squeeze(1), without * scale[:, 1:]


def _tuples(count: int) -> Tensor:
    """Ordered tuples of three and of four."""
    return torch.tensor([[math.prod(count - k for k in range(size))] for size in (3, 4)], dtype=torch.float64)


def _through(products: Tensor) -> Tensor:
    """Sums over cycles of three and of four distinct stimuli, from each stimulus, shape (2, n)."""
    products.fill_diagonal_(0)
    twice, back = products @ products, products * products.T
    there = back.sum(1)
    threes = (twice * products.T).sum(1)
    fours = (twice * twice.T).sum(1) - there.square() - back @ there + back.square().sum(1)
    return torch.stack([threes, fours])
