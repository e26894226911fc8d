"""The two traces of which the dimension of a population is made, without the bias that few images give them, and their error.

For the covariance matrix S of the population, (tr S)^2 and tr S^2 are estimated by U-statistics: means over all tuples of four
distinct images, of ((x_i - x_j)^2 / 2) ((x_k - x_l)^2 / 2) and of ((x_i - x_j) (x_k - x_l) / 2)^2. No distribution is assumed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from eigencode.spectra.covariance import Moments
from eigencode.spectra.jackknife import Jackknife

_TUPLE = 4
"""Images of which a product of the U-statistics is made."""


@dataclass(frozen=True)
class Traces:
    """Unbiased estimates of two traces of a population's covariance S, and how sure their ratio is.

    Attributes:
        squared_trace: Of (tr S)^2.
        trace_of_square: Of tr S^2.
        ratio_bias: Bias of their ratio, of the order 1/n, by leaving out one image, or one group of images, in turn.
        stderr: Standard error of its logarithm, in the same way; NaN where it cannot be had.
        skewness: Skewness of that logarithm, divided by 6.
        freedom: Degrees of freedom of the standard error: few where few images carry it.
    """

    squared_trace: float
    trace_of_square: float
    ratio_bias: float = 0.0
    stderr: float = math.nan
    skewness: float = 0.0
    freedom: float = math.nan


def traces_of_gram(gram: Tensor) -> Traces:
    """Of samples that are independent of each other.

    Args:
        gram: Inner products of the centred samples, shape (n, n).

    Source: Himeno and Yamada 2014, J. Multivariate Anal. 130, for the traces; Song et al. 2012, JMLR 13, Eq. (5), for the sums
    over distinct samples by which one is left out.
    """
    count, lengths = len(gram), gram.diagonal()
    if count < _TUPLE:
        return Traces(math.nan, math.nan)
    if count < 2 * _TUPLE:
        return Traces(*map(float, spectral_traces(count, lengths.sum(), gram.square().sum(), lengths.square().sum())))
    (squared_trace, trace_of_square), (squared, square), of_pairs = distinct_traces(gram)
    return _judged(squared_trace, trace_of_square, squared, square, of_pairs)


def distinct_traces(gram: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(tr S)^2 and tr S^2, shape (2,), both without each sample, shape (2, n), and the ``variance_of_pairs`` of the latter.

    Args:
        gram: Inner products of at least eight centred samples, shape (n, n).
    """
    count, lengths = len(gram), gram.diagonal()
    squares, turned = torch.linalg.vector_norm(gram, dim=1).square(), gram @ lengths
    totals = torch.stack(spectral_traces(count, lengths.sum(), squares.sum(), lengths.square().sum()))
    # Rows of the Gram matrix of centred samples sum to zero, so that what is summed over others is known from its diagonal.
    left, total = count - 1, lengths.sum()
    shares = squares - lengths.square()
    pairs = shares.sum() - 2 * shares
    rows = lengths.square().sum() - 3 * lengths.square() + 2 * turned + shares
    whole = 2 * lengths - total
    square = (pairs + whole.square() / ((left - 1) * (left - 2)) - 2 * rows / (left - 2)) / (left * (left - 3))
    sums = (count * lengths + total) / 2  # of squared distances, halved
    apart = (count * lengths.square() + 2 * lengths * total + lengths.square().sum()) / 4 - turned + squares
    turned_sums = (lengths * sums.sum() + lengths @ sums - count * turned) / 2
    whole, pairs = sums.sum() - 2 * sums, apart.sum() - 2 * apart
    rows = sums.square().sum() - sums.square() - 2 * turned_sums + apart
    squared = (whole.square() - 4 * rows + 2 * pairs) / math.prod(left - k for k in range(_TUPLE))
    fourths = torch.linalg.vector_norm(gram, ord=4).pow(4) - lengths.pow(4).sum()
    return totals, torch.stack([squared, square]), variance_of_pairs(shares, fourths)


def spectral_traces(count: float, trace: Tensor, square: Tensor, quartic: Tensor) -> tuple[Tensor, Tensor]:
    """(tr S)^2 and tr S^2 from the trace of the centred scatter matrix, that of its square, and the sum of lengths^4."""
    trace, square, quartic = trace / (count - 1), square / (count - 1) ** 2, quartic / (count - 1)
    scale = (count - 1) / (count * (count - 2) * (count - 3))
    squared_trace = scale * (2 * square + (count**2 - 3 * count + 1) * trace**2 - count * quartic)
    return squared_trace, scale * ((count - 1) * (count - 2) * square + trace**2 - count * quartic)


def variance_of_pairs(sums: Tensor, squares: Tensor) -> Tensor:
    """Variance of a mean over pairs h_ij that pairs have and single members do not, as a part of the squared mean.

    Leaving out one member in turn counts it twice.

    Args:
        sums: Of h_ij over j, shape (n,).
        squares: Sum of h_ij^2 over all pairs.
    """
    count, total = len(sums), sums.sum()
    own, whole = sums / (count - 2), total / ((count - 1) * (count - 2))
    both = own.sum()
    expected = 2 * (count - 1) * own.square().sum() + 2 * (both.square() - own.square().sum())
    expected = expected - 4 * whole * (count - 1) * both + count * (count - 1) * whole.square()
    rest = squares + expected - 2 * (2 * (own @ sums) - whole * total)
    return 2 * rest / (count * (count - 3)) / (total / (count - 1)).square()


def _judged(squared_trace: Tensor, trace_of_square: Tensor, squared: Tensor, square: Tensor, of_pairs: Tensor) -> Traces:
    """Traces with their errors, from those without each of the images or groups in turn."""
    found = Traces(float(squared_trace), float(trace_of_square))
    if not bool(torch.cat([squared, square, squared_trace[None], trace_of_square[None]]).min() > 0):
        return found
    ratios = squared / square
    logarithm = Jackknife.of(math.log(found.squared_trace / found.trace_of_square), ratios.log(), of_pairs=of_pairs)
    return Traces(
        found.squared_trace,
        found.trace_of_square,
        ratio_bias=(len(ratios) - 1) * float(ratios.mean() - squared_trace / trace_of_square),
        stderr=logarithm.stderr,
        skewness=logarithm.skewness,
        freedom=logarithm.freedom,
    )


@dataclass(frozen=True)
class Groups:
    """Sums over groups of images, of samples centred on one point, and their products.

    Attributes:
        counts: Samples c, shape (g,).
        lengths: Sums of squared lengths, shape (g,).
        products: tr(T_i T_j), T being the sum of outer products, shape (g, g).
        sums: t_i t_j, t being the sum of samples, shape (g, g).
        forms: t_j T_i t_k, shape (g, g, g).
        quartics: Sums of lengths^4, shape (g,).
        cubes: Sums of samples times their squared lengths, times t_j, shape (g, g).
    """

    counts: Tensor
    lengths: Tensor
    products: Tensor
    sums: Tensor
    forms: Tensor
    quartics: Tensor
    cubes: Tensor

    def without(self, number: int) -> Groups:
        """All groups but one."""
        kept = torch.arange(len(self.counts), device=self.counts.device) != number
        pairs = (self.products, self.sums, self.cubes)
        products, sums, cubes = (each[kept][:, kept] for each in pairs)
        return Groups(
            self.counts[kept],
            self.lengths[kept],
            products,
            sums,
            self.forms[kept][:, kept][:, :, kept],
            self.quartics[kept],
            cubes,
        )

    def of_samples(self) -> tuple[Tensor, Tensor]:
        """(tr S)^2 and tr S^2 over distinct samples, which are independent."""
        count, square = self.counts.sum(), self.sums.sum()
        moved = square / count  # squared length of the sum over the count
        trace = self.lengths.sum() - moved
        squares = self.products.sum() - 2 * self.forms.sum() / count + moved**2
        quartic = (
            self.quartics.sum()
            - 4 * self.cubes.sum() / count
            + 4 * self.forms.sum() / count**2
            + 2 * square * self.lengths.sum() / count**2
            - 3 * square**2 / count**3
        )
        return spectral_traces(float(count), trace, squares, quartic)

    def of_groups(self) -> tuple[Tensor, Tensor]:
        """The same over distinct groups, whose samples may depend on each other; both times one number."""
        counts, size = self.counts, len(self.counts)
        distances = (counts[:, None] * self.lengths + counts * self.lengths[:, None]) / 2 - self.sums
        both = counts.sum() - counts[:, None] - counts
        others = counts.square().sum() - counts.square()[:, None] - counts.square()
        first = _apart(self.products * (both.square() - others)).sum()
        one = torch.eye(size, dtype=torch.bool, device=counts.device)
        distinct = ~(one[:, :, None] | one[:, None, :] | one[None])
        rest = counts.sum() - counts[:, None, None] - counts[None, :, None] - counts[None, None, :]
        second = (self.forms * rest * distinct).sum()
        return _over_distinct(distances), first - 2 * second + _over_distinct(self.sums)

    def traces(self, *, independent: bool) -> Traces:
        """Traces of the population.

        Args:
            independent: Whether the samples of a group are independent of each other.
        """
        estimate = Groups.of_samples if independent else Groups.of_groups
        if float(self.counts.sum()) < _TUPLE or (len(self.counts) < _TUPLE and not independent):
            return Traces(math.nan, math.nan)
        totals = estimate(self)
        if len(self.counts) < 2 * _TUPLE:
            return Traces(*map(float, totals))
        left = [estimate(self.without(number)) for number in range(len(self.counts))]
        squared, square = (torch.stack(each) for each in zip(*left, strict=True))
        pairs = _apart(self.products / torch.outer(self.counts, self.counts))
        return _judged(*totals, squared, square, variance_of_pairs(pairs.sum(1), pairs.square().sum()))


def _apart(products: Tensor) -> Tensor:
    """With zeros on the diagonal."""
    return products - torch.diag(products.diagonal())


def _over_distinct(products: Tensor) -> Tensor:
    """Sum of d_ij d_kl over four distinct numbers, d being symmetric."""
    apart = _apart(products)
    sums = apart.sum(1)
    return sums.sum().square() - 4 * sums.square().sum() + 2 * apart.square().sum()


def groups_of_moments(moments: Sequence[Moments]) -> Groups:
    """Sums over groups of images from their moments, about the mean of all; no matrix is copied."""
    filled = [group for group in moments if group.count]
    counts = torch.tensor([float(group.count) for group in filled], dtype=torch.float64, device=filled[0].mean.device)
    means = torch.stack([group.mean for group in filled])
    means = means - (counts @ means) / counts.sum()
    size = len(filled)
    products = counts.new_empty(size, size)
    for row, group in enumerate(filled):
        for column in range(row, size):
            products[row, column] = products[column, row] = torch.vdot(group.scatter.view(-1), filled[column].scatter.view(-1))
    forms, at_own = counts.new_empty(size, size, size), torch.empty_like(means)
    for number, group in enumerate(filled):
        turned = group.scatter @ means.T
        forms[number], at_own[number] = means @ turned, turned[:, number]  # d_j S_i d_k, and S_i d_i
    inner = means @ means.T
    own = forms.diagonal(dim1=1, dim2=2)  # d_j S_i d_j
    products = products + own * counts + (own * counts).T + torch.outer(counts, counts) * inner.square()
    squares = inner.diagonal()
    lengths = torch.stack([group.scatter.trace() for group in filled])
    cubes = torch.stack([group.cubes for group in filled])
    shifted = cubes + 2 * at_own + (lengths + counts * squares)[:, None] * means
    quartics = torch.stack([group.quartic for group in filled])
    quartics = quartics + 4 * own.diagonal() + 4 * (cubes * means).sum(1) + squares * (2 * lengths + counts * squares)
    about_mean = forms + counts[:, None, None] * inner[:, :, None] * inner[:, None, :]
    pairs = torch.outer(counts, counts)
    return Groups(
        counts=counts,
        lengths=lengths + counts * squares,
        products=products,
        sums=pairs * inner,
        forms=pairs * about_mean,
        quartics=quartics,
        cubes=shifted @ means.T * counts,
    )


def groups_of_gram(gram: Tensor, numbers: Tensor) -> Groups:
    """Sums over groups of images from inner products of centred samples.

    Args:
        gram: Shape (n, n).
        numbers: Group of each sample, shape (n,).
    """
    found, members = numbers.unique(return_inverse=True)
    size = len(found)
    within = torch.nn.functional.one_hot(members, size).to(gram)
    onto = within.T @ gram  # t_i x_p
    lengths = gram.diagonal()
    forms = torch.stack([(onto * within[:, number]) @ onto.T for number in range(size)])
    return Groups(
        counts=within.sum(0),
        lengths=within.T @ lengths,
        products=within.T @ gram.square() @ within,
        sums=onto @ within,
        forms=forms,
        quartics=within.T @ lengths.square(),
        cubes=(within.T * lengths) @ onto.T,
    )
