"""Streaming sufficient statistics of activations, in float64, merged without loss of accuracy.

Three states, each a pure value with functions beside it:

* ``Moments``: count, mean and scatter matrix (f x f), for many samples of few units;
* ``Rows``: the samples themselves, for few samples of many units (the n x n Gram matrix needs them all);
* rows of a seeded random projection (see :mod:`eigencode.spectra.sketch`), where neither fits in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from eigencode import _processes
from eigencode.spectra.eigenvalues import descending_eigenvalues
from eigencode.spectra.resampling import MIN_GROUPS, draw_halves

_CHUNK_BYTES = 4 * 2**20
"""Float64 working copies are made in pieces of this size: they stay in cache, and no second copy of the data ever exists."""

_CHUNK_ROWS = 512
"""Fewest samples per piece, so that each pass over a large scatter matrix does enough work."""

PIECE_BYTES = 2**25
"""Such a piece never takes more, unless the caller allows less."""

_BLOCK_WIDTHS = ((128, 2), (256, 4), (1024, 8))
"""Symmetric products of at least this order are formed as this many block columns of the lower triangle: two save a quarter of
the multiplications, four three eighths, eight seven sixteenths. Below, smaller multiplications cost more than they save."""


@dataclass(frozen=True)
class Moments:
    """Sufficient statistics of samples of f units, float64.

    Attributes:
        count: Number of samples.
        mean: Mean activation, shape (f,).
        scatter: Sum of outer products of the centred samples, shape (f, f).
        cubes: Sum of the centred samples, each times its squared length, shape (f,).
        quartic: Sum of the fourth powers of their lengths, shape ().
    """

    count: int
    mean: Float[Tensor, " f"]
    scatter: Float[Tensor, "f f"]
    cubes: Float[Tensor, " f"]
    quartic: Float[Tensor, ""]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All but the count, in the order of the fields."""
        return self.mean, self.scatter, self.cubes, self.quartic

    def to(self, device: torch.device) -> Moments:
        """The same on a device; no copy if they are there."""
        return Moments(self.count, *(tensor.to(device) for tensor in self.tensors))

    @classmethod
    def empty(cls, n_features: int, device: torch.device) -> Moments:
        """Moments of no samples at all."""
        return cls(
            0,
            torch.zeros(n_features, dtype=torch.float64, device=device),
            torch.zeros(n_features, n_features, dtype=torch.float64, device=device),
            torch.zeros(n_features, dtype=torch.float64, device=device),
            torch.zeros((), dtype=torch.float64, device=device),
        )


def symmetric_product(columns: Float[Tensor, "k n"], out: Float[Tensor, "k k"]) -> None:
    """Adds ``columns @ columns.T`` to ``out``, computing each off-diagonal block once.

    Args:
        columns: Factor, shape (k, n).
        out: Symmetric matrix of order k, changed in place.
    """
    order = out.shape[0]
    blocks = max((count for width, count in _BLOCK_WIDTHS if order >= width), default=1)
    if blocks == 1:
        out.addmm_(columns, columns.T)
        return
    edges = [order * i // blocks for i in range(blocks + 1)]
    room = columns.new_empty(order * -(-order // blocks))  # for one block after the other
    for start, stop in pairwise(edges):
        block = room[: (order - start) * (stop - start)].view(order - start, stop - start)
        torch.mm(columns[start:], columns[start:stop].T, out=block)
        out[start:, start:stop] += block
        out[start:stop, stop:] += block[stop - start :].T


def add_samples(moments: Moments, samples: Float[Tensor, "n p f"], *, piece_bytes: int = PIECE_BYTES) -> Moments:
    """Moments after one more batch of n images with p positions each; ``moments.scatter`` is reused as storage.

    Each piece is centred on its own mean and merged by the pairwise formula of Chan, Golub & LeVeque (1983), which keeps
    full accuracy however far the mean lies from zero.

    Args:
        moments: Statistics so far.
        samples: Batch, shape (n, p, f), any float dtype; every position is a sample. A transposed view costs no extra copy.
        piece_bytes: Most bytes of a working copy.

    Returns:
        Statistics of all samples.
    """
    found = moments
    _, n_positions, n_features = samples.shape
    most = max(1, piece_bytes // (8 * n_features))
    images = max(1, min(most, max(_CHUNK_ROWS, _CHUNK_BYTES // (8 * n_features))) // n_positions)
    for piece in (part for some in samples.split(images) for part in some.split(most, dim=1)):
        columns = torch.empty(n_features, *piece.shape[:2], dtype=torch.float64, device=piece.device)
        columns = columns.copy_(piece.permute(2, 0, 1)).flatten(1)
        centre = columns.mean(dim=1)
        columns -= centre[:, None]
        squares = torch.linalg.vector_norm(columns, dim=0).square()
        part = _Part(columns.shape[1], centre, columns @ squares, squares @ squares, squares.sum())
        found = _joined(found, part, partial(symmetric_product, columns))
    return found


def add_moments(moments: Moments, others: Moments) -> Moments:
    """Moments of the union of two disjoint sets (Chan, Golub & LeVeque 1983); ``moments.scatter`` is reused as storage."""
    part = _Part(others.count, others.mean, others.cubes, others.quartic, others.scatter.trace())
    return _joined(moments, part, lambda scatter: scatter.add_(others.scatter))


@dataclass(frozen=True)
class _Part:
    """What is added to moments, but for its scatter matrix, of which the trace alone is there."""

    count: int
    mean: Tensor
    cubes: Tensor
    quartic: Tensor
    trace: Tensor

    def shifted(self, shift: Tensor, turned: Tensor) -> tuple[Tensor, Tensor]:
        """``cubes`` and ``quartic`` about another centre.

        Args:
            shift: From there to the mean.
            turned: The scatter matrix times that.
        """
        square = shift @ shift
        cubes = self.cubes + 2 * turned + (self.trace + self.count * square) * shift
        moved = square * (2 * self.trace + self.count * square)
        return cubes, self.quartic + 4 * (shift @ turned) + 4 * (shift @ self.cubes) + moved


def _joined(moments: Moments, part: _Part, add: Callable[[Tensor], object]) -> Moments:
    """Moments of both, ``moments.scatter`` being reused as storage; ``add`` adds the part's scatter matrix to it."""
    if part.count == 0:
        return moments
    if moments.count == 0:
        add(moments.scatter)
        return Moments(part.count, part.mean, moments.scatter, part.cubes, part.quartic)
    total = moments.count + part.count
    difference = part.mean - moments.mean
    own = _Part(moments.count, moments.mean, moments.cubes, moments.quartic, moments.scatter.trace())
    turned = moments.scatter @ difference
    add(moments.scatter)
    turned_part = moments.scatter @ difference - turned
    shares = -part.count / total, moments.count / total
    cubes, quartic = own.shifted(difference * shares[0], turned * shares[0])
    more_cubes, more_quartic = part.shifted(difference * shares[1], turned_part * shares[1])
    moments.scatter.addr_(difference, difference, alpha=moments.count * part.count / total)
    mean = moments.mean + difference * (part.count / total)
    return Moments(total, mean, moments.scatter, cubes + more_cubes, quartic + more_quartic)


def covariance(moments: Moments) -> Float[Tensor, "f f"]:
    """Unbiased covariance matrix, divided by count - 1, in squared activation units."""
    return moments.scatter / (moments.count - 1)


def moments_of(moments: Sequence[Moments]) -> Moments:
    """Moments of the union of disjoint sets, merged in the order given; a single one is returned as it is, without a copy."""
    first, *others = moments
    if not others:
        return first
    total = replace(first, scatter=first.scatter.clone())
    for part in others:
        total = add_moments(total, part)
    return total


def gram_of_rows(rows: Sequence[Float[Tensor, "_ f"]], *, piece_bytes: int = PIECE_BYTES) -> Float[Tensor, "n n"]:
    """Gram matrix of the centred samples, float64: its non-zero eigenvalues are those of the scatter matrix.

    Args:
        rows: Batches of samples, in any float dtype, never copied as a whole.
        piece_bytes: Most bytes of a working copy.

    Returns:
        Matrix of inner products between centred samples, shape (n, n).
    """
    n_samples, n_features = sum(len(batch) for batch in rows), rows[0].shape[1]
    gram = torch.zeros(n_samples, n_samples, dtype=torch.float64, device=rows[0].device)
    width = max(1, min(max(_CHUNK_ROWS, _CHUNK_BYTES // (8 * n_samples)), piece_bytes // (8 * n_samples)))
    room = gram.new_empty(n_samples * min(width, n_features))  # for one chunk after the other
    for start in range(0, n_features, width):
        stop = min(start + width, n_features)
        chunk = room[: n_samples * (stop - start)].view(n_samples, stop - start)
        for place, batch in zip(chunk.split([len(batch) for batch in rows]), rows, strict=True):
            place.copy_(batch[:, start:stop])
        chunk -= chunk.mean(dim=0)
        symmetric_product(chunk, gram)
    return gram


def sub_gram(gram: Float[Tensor, "n n"], members: Int[Tensor, " m"]) -> Float[Tensor, "m m"]:
    """Gram matrix of some of the samples, centred on their own mean."""
    part = gram[members][:, members]
    centre, mean = part.mean(dim=0), part.mean()
    return part.sub_(centre[:, None]).sub_(centre[None, :]).add_(mean)


def summed_over_processes(moments: Moments) -> Moments:
    """Moments of what all processes have (Chan, Golub & LeVeque 1983)."""
    count = int(_processes.total(torch.tensor(moments.count, device=moments.mean.device)))
    if count == 0:
        return moments
    mean = _processes.total(moments.mean * (moments.count / count))
    difference = moments.mean - mean
    own = _Part(moments.count, moments.mean, moments.cubes, moments.quartic, moments.scatter.trace())
    cubes, quartic = own.shifted(difference, moments.scatter @ difference)
    moments.scatter.addr_(difference, difference, alpha=moments.count)
    return Moments(count, mean, *(_processes.total(tensor) for tensor in (moments.scatter, cubes, quartic)))


def folded(groups: list[Moments], count: int) -> list[Moments]:
    """Groups of images joined into fewer."""
    return [moments_of(groups[number::count]) for number in range(count)]


def variances_of(groups: Sequence[Moments]) -> tuple[Tensor, int]:
    """Eigenvalues of the covariance matrix of all groups together, and the number of samples."""
    moments = moments_of(groups)
    return descending_eigenvalues(moments.scatter) / (moments.count - 1), moments.count


def spectra_of_groups(groups: Sequence[Moments], *, halves: int, seed: int) -> tuple[Tensor, list[tuple[Tensor, int]]]:
    """Eigenvalues of all groups together, and of random halves of the groups with their numbers of samples."""
    filled = [group for group in groups if group.count]
    eigenvalues, _ = variances_of(filled)
    if len(filled) < MIN_GROUPS:
        return eigenvalues, []
    drawn = draw_halves(len(filled), draws=halves, seed=seed)
    return eigenvalues, [variances_of([filled[i] for i in half]) for half in drawn]
