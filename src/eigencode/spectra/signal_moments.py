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
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from eigencode.spectra.distinct_stimuli import moments_of_sums, shared_sums, squared_variances, sums_of_means
from eigencode.spectra.traces import variance_of_pairs

_DRAWS = 2
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
        own: Sum over neurons of the squared signal variance of each, the diagonal's part of tr S^2.
        without: The seven numbers without each stimulus, in this order, shape (7, n).
        of_pairs: Variance of tr S^2 that pairs of stimuli have and single stimuli do not, as a part of its square.
        without_neurons: The seven numbers without each of g groups of neurons, scaled to as many neurons as there are, shape
            (7, g), tr S^3 and tr S^4 being NaN; None if neurons are no sample.
        without_both: The same also without each stimulus, shape (7, g, n).
    """

    trace: float
    squared_trace: float
    square: float
    cube: float
    fourth: float
    total: float
    own: float
    without: Tensor
    of_pairs: float
    without_neurons: Tensor | None = None
    without_both: Tensor | None = None

    @property
    def values(self) -> Tensor:
        """The seven numbers, shape (7,)."""
        numbers = (self.trace, self.squared_trace, self.square, self.cube, self.fourth, self.total, self.own)
        return torch.tensor(numbers, dtype=torch.float64)


def signal_moments(
    presentations: Tensor,
    stimuli: Tensor,
    *,
    crossed: bool = False,
    groups: Tensor | None = None,
    advance: Callable[[float], object] | None = None,
) -> SignalMoments:
    """Moments of the signal in responses to repeated stimuli.

    Args:
        presentations: Responses, shape (n_presentations, n_neurons), float64.
        stimuli: Stimulus of each presentation in rising order, shape (n_presentations,), int64; 0, 1, ..., each at least twice.
        crossed: Whether the first presentations of all stimuli are one repeat, the second ones another, and so on. Differences
            between stimuli are then taken within repeats, so that a mean that differs between repeats changes nothing.
        groups: Group of each neuron, shape (n_neurons,), 0, 1, ..., that is left out in turn; default: neurons are no sample.
        advance: Called with the share of the work that was done.

    Source: pairs of distinct samples: Chun et al. 2026, ICLR; cycles: Kong and Valiant 2017, Ann. Stat. 45, Eq. (2), here over
    all tuples in place of those in rising order.
    """
    rounds = 1 if groups is None else 1 + int(groups.max()) + 1

    def tell(share: float) -> None:
        if advance is not None:
            advance(share / rounds)

    repeats = int((stimuli == 0).sum())
    if crossed:
        by_repeat = presentations.view(-1, repeats, presentations.shape[1])
        presentations = (by_repeat - by_repeat.mean(0)).flatten(0, 1)
    whole, without, pairs = _of(presentations, stimuli, crossed=crossed, cycles=True, advance=tell)
    trace, squared_trace, square, cube, fourth, total, own = whole.tolist()
    found = SignalMoments(trace, squared_trace, square, cube, fourth, total, own, without, pairs)
    if groups is None:
        return found
    left = []
    for group in groups.unique():
        kept = groups != group
        some = _of(presentations[:, kept], stimuli, crossed=crossed, cycles=False, advance=tell)
        left.append([_as_of(each, int(kept.sum()), len(groups)) for each in some[:2]])
    neurons, both = (torch.stack(each, dim=1) for each in zip(*left, strict=True))
    return replace(found, without_neurons=neurons, without_both=both)


def _as_of(numbers: Tensor, neurons: int, count: int) -> Tensor:
    """The seven numbers of some neurons, scaled to what is expected of ``count`` such neurons; tr S^3 and tr S^4 are not."""
    trace, squared_trace, square, cube, fourth, total, own = numbers
    single, pairs = count / neurons, count * (count - 1) / (neurons * (neurons - 1))
    scaled = (pairs * (each - own) + single * own for each in (squared_trace, square))
    return torch.stack([single * trace, *scaled, cube, fourth, single * total, single * own])


def _of(
    presentations: Tensor, stimuli: Tensor, *, crossed: bool, cycles: bool, advance: Callable[[float], object]
) -> tuple[Tensor, Tensor, float]:
    """The seven numbers, the same without each stimulus, and ``of_pairs``."""
    sums = (_Crossed if crossed else _Sums).of(presentations, stimuli, advance)
    first, total = sums.moments(), sums.total()
    missing = torch.full_like(first[0][:2], torch.nan), torch.full_like(first[1][:2], torch.nan)
    higher = _cycles(presentations, stimuli, advance) if cycles else missing
    if not cycles:
        advance(0.5)
    own = squared_variances(presentations, stimuli, crossed=crossed)
    whole, without = (torch.cat([first[k], higher[k], total[k][None], own[k][None]]) for k in (0, 1))
    return whole, without, float(variance_of_pairs(sums.squares, sums.fourths))


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
        count, squares, turned = len(self.own), self.squares, self.turned
        means, left = sums_of_means(self.own, self.shared, self.means_squared, self.means_own, self.means_shared)
        whole = moments_of_sums(count, shared_sums(self.shared)[0], means, (squares.sum(), turned.sum(), means[1]))
        sums = (squares.sum() - 2 * squares, turned.sum() - turned + 2 * self.across, left[1])
        return whole, moments_of_sums(count - 1, shared_sums(self.shared)[1], left, sums)

    def total(self) -> tuple[Tensor, Tensor]:
        """Variance of single presentations, and without each stimulus."""
        count, lengths, own = len(self.own), self.lengths, self.own
        whole = lengths.sum() / count + own.sum() / (count * (count - 1))
        left = count - 1
        return whole, (lengths.sum() - lengths) / left + (own.sum() - 2 * own) / (left * (left - 1))


@dataclass(frozen=True)
class _Crossed:
    """The same for repeats a, b, c, d of all stimuli, each with its mean over stimuli removed: p_i has the products x_ia x_ic.

    Means are over a != b and c != d. Since each repeat sums to zero, sums over other stimuli are known from p_i.

    Attributes:
        shared: Mean of x_ia x_ib.
        lengths: Mean over a of x_ia x_ia.
        blocks: p_i, shape (n, repeats, repeats).
        own: Mean of (x_ia x_ic) (x_ib x_id).
        drawn: Sum over j of the mean of (x_ja x_jc) (x_jb x_id).
        squares: Sum over j of h_ij, the mean of (x_ia x_jc) (x_ib x_jd).
        fourths: Sum of h_ij^2 over all pairs.
        turned: Sum over j of the mean of (x_ia x_jc) (x_id x_jb).
        means_squared: Sum over j of g_ij^2, g_ij being the mean of x_ia x_jb.
        means_shared: Sum over j of g_ij shared_j.
    """

    shared: Tensor
    lengths: Tensor
    blocks: Tensor
    own: Tensor
    drawn: Tensor
    squares: Tensor
    fourths: Tensor
    turned: Tensor
    means_squared: Tensor
    means_shared: Tensor

    @classmethod
    def of(cls, presentations: Tensor, stimuli: Tensor, advance: Callable[[float], object]) -> _Crossed:
        repeats = int((stimuli == 0).sum())
        responses = presentations.view(-1, repeats, presentations.shape[1])
        size, pairs = len(responses), repeats * (repeats - 1)
        blocks = responses @ responses.mT
        diagonals = blocks.diagonal(dim1=1, dim2=2)
        shared, lengths = (blocks.sum((1, 2)) - diagonals.sum(1)) / pairs, diagonals.mean(1)
        others = _others(blocks)
        own = (others * blocks).sum((1, 2)) / pairs**2
        pulled = torch.einsum("ibd,ibn->dn", others, responses) / pairs**2
        drawn = (responses * pulled).sum((1, 2)) - own
        squares, turned, means_squared, means_shared = (torch.empty_like(shared) for _ in range(4))
        fourths, step = shared.new_zeros(()), max(1, _LARGEST_BLOCK // (len(presentations) * repeats))
        for start in range(0, size, step):
            rows = slice(start, min(start + step, size))
            at = (torch.arange(rows.stop - start, device=shared.device), torch.arange(start, rows.stop, device=shared.device))
            products = (responses[rows].flatten(0, 1) @ presentations.T).view(-1, repeats, size, repeats).transpose(1, 2)
            whole = products.sum((2, 3))
            over_c, over_a = products.sum(3), products.sum(2)
            both = whole.square() - over_c.square().sum(2) - over_a.square().sum(2) + products.square().sum((2, 3))
            back = whole.square() - 2 * (over_c * over_a).sum(2) + (products * products.mT).sum((2, 3))
            between = (whole - products.diagonal(dim1=2, dim2=3).sum(2)) / pairs
            for matrix in (both, back, between):
                matrix[at] = 0
            both = both / pairs**2
            squares[rows], turned[rows] = both.sum(1), back.sum(1) / pairs**2
            fourths += both.square().sum()
            means_squared[rows], means_shared[rows] = between.square().sum(1), between @ shared
            advance(0.5 * len(both) / size)
        return cls(shared, lengths, blocks, own, drawn, squares, fourths, turned, means_squared, means_shared)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Estimates of tr S, (tr S)^2 and tr S^2: shape (3,), and without each stimulus, shape (3, n)."""
        count, shared, own, squares, turned = len(self.shared), self.shared, self.own, self.squares, self.turned
        means, left = sums_of_means(shared, shared, self.means_squared, self.means_shared, self.means_shared)
        summed = self.blocks.sum(0)
        products = self._apart(torch.cat([summed[None], summed - 2 * self.blocks]))
        two, back = squares.sum(), turned.sum()
        four = products[0] - 4 * own.sum() + two + back
        whole = moments_of_sums(count, shared_sums(shared)[0], means, (two, own.sum() - two, four))
        same = own.sum() - own + 2 * self.drawn
        two, back = two - 2 * squares, back - 2 * turned
        four = products[1:] - 4 * same - 2 * squares - 2 * turned + two + back
        return whole, moments_of_sums(count - 1, shared_sums(shared)[1], left, (two, same + squares - two, four))

    def _apart(self, products: Tensor) -> Tensor:
        """Mean of m_ac m_bd of matrices, shape (k, repeats, repeats)."""
        repeats = products.shape[1]
        return (_others(products) * products).sum((1, 2)) / (repeats * (repeats - 1)) ** 2

    def total(self) -> tuple[Tensor, Tensor]:
        """Variance of single presentations about the mean of their repeat, and without each stimulus."""
        count, lengths = len(self.lengths), self.lengths
        return lengths.sum() / (count - 1), (lengths.sum() - lengths - lengths / (count - 1)) / (count - 2)


def _others(products: Tensor) -> Tensor:
    """Of matrices m_ac, sums over a != b and c != d for each b and d."""
    rows, columns = products.sum(2, keepdim=True), products.sum(1, keepdim=True)
    return products.sum((1, 2), keepdim=True) - rows - columns + products


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


def _cycles(presentations: Tensor, stimuli: Tensor, advance: Callable[[float], object]) -> tuple[Tensor, Tensor]:
    """Estimates of tr S^3 and tr S^4: shape (2,), and without each stimulus, shape (2, n)."""
    generator = torch.Generator().manual_seed(0)
    count = int(stimuli[-1]) + 1
    through = presentations.new_zeros(2, count)
    starts = torch.bincount(stimuli).cumsum(0) - torch.bincount(stimuli)
    for _ in range(_DRAWS):
        mixed = torch.rand(len(stimuli), generator=generator).to(presentations.device)
        order = (mixed + stimuli).argsort()  # presentations of a stimulus in random order
        entered, left = presentations[order[starts]], presentations[order[starts + 1]]
        through += _through((entered - entered.mean(0)) @ (left - left.mean(0)).T) / _DRAWS
        advance(0.5 / _DRAWS)
    whole, without = [], []
    for length, sums in zip((3, 4), through, strict=True):
        tuples, fewer = (math.prod(each - k for k in range(length)) for each in (count, count - 1))
        scale = (count / (count - 1)) ** length
        whole.append(sums.sum() * scale / tuples)
        without.append((sums.sum() - length * sums) * scale / fewer)
    return torch.stack(whole), torch.stack(without)


def _through(products: Tensor) -> Tensor:
    """Sums over cycles of three and of four distinct stimuli, from each stimulus, shape (2, n)."""
    products.fill_diagonal_(0)
    twice, back = products @ products, products * products.T
    there = back.sum(1)
    threes = (twice * products.T).sum(1)
    fours = (twice * twice.T).sum(1) - there.square() - back @ there + back.square().sum(1)
    return torch.stack([threes, fours])
