"""Leading eigenvalues of a batch's covariance with what their gradient needs: a dense solver, and one that follows training.

All arrays carry a first dimension of members, the networks of an ensemble; nothing is shared between members. Nothing here is
seen by autograd.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cache, partial

import numpy as np
import scipy.linalg
import torch
from jaxtyping import Bool, Float
from threadpoolctl import ThreadpoolController
from torch import Tensor

from eigencode import _processes
from eigencode._arguments import check_fields, checked
from eigencode.errors import PenaltyError, SpectrumError
from eigencode.spectra.covariance import Moments, add_samples, gram_of_rows
from eigencode.spectra.eigenvalues import numerical_floor

_TINY = torch.finfo(torch.float64).tiny

_ROUNDING = 1e-13
"""Eigenvalues below this fraction of the largest are rounding, and say nothing about a direction."""

_CLEAR = 30
"""A Ritz value that is not so many times its estimated rounding is computed again: float32 is up to ten times worse."""

_NEGLIGIBLE = 1e-8
"""Directions with less than this fraction of the largest squared residual are left out: float32 would fill them with noise."""

_FULL_DECOMPOSITION = 4
"""All eigenvectors are computed at once when more than one in this many is wanted."""

_WORTH_SCIPY = 512
"""Up to this order all are computed at once too: SciPy's threads and PyTorch's wait for each other by keeping the cores busy,
which takes longer than the decomposition itself."""


@dataclass(frozen=True)
class Leading:
    """Leading eigenpairs of the covariance of each member's activations.

    Attributes:
        eigenvalues: Largest first (up to the residual), shape (members, k), float64, squared activation units.
        vectors: Eigenvectors as rows, shape (members, k, f), in the activations' type. The tracked solver's are those after a
            last power iteration, and not quite of unit length.
        projections: Centred activations along the eigenvectors, the tracked solver's before that iteration, (members, k, n).
        residual: Relative change of the penalty's gradient by the last power iteration, shape (members,); 0 if solved densely.
        expansions: Expansions of the tracked block, shape (members,); 0 if solved densely.
    """

    eigenvalues: Float[Tensor, "members k"]
    vectors: Float[Tensor, "members k f"]
    projections: Float[Tensor, "members k n"]
    residual: Float[Tensor, " members"]
    expansions: Float[Tensor, " members"]

    def truncated(self, count: int) -> Leading:
        """The first ``count`` eigenpairs."""
        return Leading(
            self.eigenvalues[:, :count], self.vectors[:, :count], self.projections[:, :count], self.residual, self.expansions
        )

    def member(self, number: int) -> Leading:
        """The eigenpairs of one member, as those of a single one."""
        return Leading(*(getattr(self, field.name)[number, None] for field in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence[Leading]) -> Leading:
        """Members side by side."""
        if len(parts) == 1:
            return parts[0]
        return cls(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)))


@dataclass(frozen=True)
class Samples:
    """Those of a batch in all processes.

    Attributes:
        total: How many there are.
        sum: Sum of a tensor over processes; the identity for one process.
    """

    total: int
    sum: Callable[[Tensor], Tensor] = lambda values: values


def above_floor(
    eigenvalues: Float[Tensor, "members k"],
    activations: Float[Tensor, "members n f"],
    *,
    total: int,
    everywhere: bool = False,
) -> Bool[Tensor, "members k"]:
    """Which eigenvalues lie above the numerical floor, as in measurements; ``everywhere`` the same, if all processes ask."""
    scales = activations[:, :1].abs().amax(dim=2).sum(dim=1)  # of the first image; 0 where a process has none
    if everywhere:
        scales = _processes.largest(scales)
    floors = [
        numerical_floor(largest, n_samples=total, n_features=activations.shape[2], scale=scale, dtype=activations.dtype)
        for largest, scale in zip(eigenvalues[:, 0].tolist(), scales.tolist(), strict=True)
    ]
    return eigenvalues > torch.tensor(floors, dtype=eigenvalues.dtype, device=eigenvalues.device)[:, None]


def dense(activations: Float[Tensor, "members n f"], count: int, samples: Samples) -> Leading:
    """Leading eigenpairs from the smaller of covariance and Gram matrix, in float64.

    Args:
        activations: Shape (members, n, f); the mean is removed here.
        count: Eigenpairs wanted; fewer are returned if there are fewer.
        samples: Of all processes; for more than one the covariance is always used.

    Returns:
        Leading.
    """
    solved = [_dense_one(member, count, samples) for member in activations]
    zero = torch.zeros(len(activations), dtype=torch.float64, device=activations.device)
    eigenvalues, vectors, projections = (torch.stack(part) for part in zip(*solved, strict=True))
    return Leading(eigenvalues, vectors, projections, zero, zero)


def _dense_one(rows: Tensor, count: int, samples: Samples) -> tuple[Tensor, Tensor, Tensor]:
    (n_samples, n_features), total = rows.shape, samples.total
    count = min(count, n_features, total - 1)
    if n_samples < n_features and n_samples == total:
        eigenvalues, left = _leading_of(_finite(gram_of_rows([rows])), count)
        lengths = eigenvalues.sqrt()
        spans = eigenvalues > _ROUNDING * eigenvalues[0]
        inverse = torch.where(spans, 1 / torch.where(spans, lengths, 1.0), 0.0)
        centred = rows.to(torch.float64) - rows.to(torch.float64).mean(dim=0)
        vectors = _completed((left * inverse[:, None]) @ centred)
        return eigenvalues / (total - 1), vectors.to(rows.dtype), (left * lengths[:, None]).to(rows.dtype)
    moments = add_samples(Moments.empty(n_features, rows.device), rows[:, None])
    from_mean = moments.mean - samples.sum(n_samples * moments.mean) / total
    scatter = moments.scatter.addr_(from_mean, from_mean, alpha=n_samples)
    eigenvalues, exact = _leading_of(_finite(samples.sum(scatter)), count)
    centred = rows.to(torch.float64) - (moments.mean - from_mean)
    return eigenvalues / (total - 1), exact.to(rows.dtype), (exact @ centred.T).to(rows.dtype)


def _completed(rows: Float[Tensor, "count f"]) -> Float[Tensor, "count f"]:
    """The rows, orthonormal up to rounding; rows of zeros become any directions that are orthogonal to the others."""
    columns, triangle = torch.linalg.qr(rows.T)
    signs = torch.where(triangle.diagonal() < 0, -1.0, 1.0)
    completed: Tensor = (columns * signs).T
    return completed


def _leading_of(matrix: Float[Tensor, "k k"], count: int) -> tuple[Float[Tensor, " count"], Float[Tensor, "count k"]]:
    """Largest eigenvalues, not negative, and their eigenvectors as rows; the matrix is used up."""
    order = len(matrix)
    if matrix.device.type == "cpu" and order > max(_WORTH_SCIPY, _FULL_DECOMPOSITION * count):  # some are cheaper than all
        wanted = (order - count, order - 1)
        own = matrix.T.numpy()  # LAPACK's order of memory: solved in place, without a copy
        values, columns = scipy.linalg.eigh(own, subset_by_index=wanted, driver="evr", check_finite=False, overwrite_a=True)
        ascending, vectors = torch.from_numpy(values), torch.from_numpy(columns)
    else:
        ascending, vectors = torch.linalg.eigh(matrix)
        ascending, vectors = ascending[order - count :], vectors[:, order - count :]
    return ascending.flip(0).clamp_min(0), vectors.flip(1).T.contiguous()


@dataclass(frozen=True)
class Tracking:
    """How a leading block is carried from step to step.

    Each step projects the new activations on the block, takes the residuals of its leading rows, widens the block by those
    that are largest, and solves the small problem in the widened space (Rayleigh-Ritz), in float64 and from the projected
    activations themselves, never from a product of the data with itself. The residual left is then measured; while it exceeds
    the tolerance the block is widened again. What was measured is a power iteration of the leading rows, and so improves them.
    A step that needed several expansions leaves a block with as many rows more as ``expansion`` says for each beyond the first.

    Args:
        oversampling: Rows kept beyond the last rank at first, at most twice as many as that, and a quarter of it if that is more:
            eigenvalues below a steep window crowd at its edge, and the edge counts most.
        pool: Rows beyond the last rank whose residuals are followed too.
        expansion: Rows added to the block at each expansion; half of the last rank if that is more.
        tolerance: Largest residual that is accepted: the relative change of the penalty's gradient by one power iteration. In
            trainings on MNIST over ranks 6-50 the cosine with the exact gradient stayed above 0.99 below it, up to an exponent of
            4.2. For made-up codes that are flat or drift it was 0.85 to 0.93 at worst, for one that jumps 0.68, for a step.
        max_expansions: Expansions before the dense solver takes over.
    """

    oversampling: int = 50
    pool: int = 20
    expansion: int = 50
    tolerance: float = 0.04
    max_expansions: int = 3

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_fields(self, PenaltyError)
        for name in ("oversampling", "pool", "expansion", "tolerance", "max_expansions"):
            if getattr(self, name) < 0:
                raise PenaltyError(f"Tracking: `{name}` must be at least 0; got {getattr(self, name)}.")

    @checked(PenaltyError)
    def rows(self, last: int) -> int:
        """Rows of the block for a window that ends at rank ``last``."""
        return last + min(max(self.oversampling, last // 4), 2 * last)


def tracked(
    activations: Float[Tensor, "members n f"],
    block: Float[Tensor, "members m f"],
    ranks: tuple[int, int],
    settings: Tracking,
    weigh: Callable[[Tensor, Tensor], Tensor],
    samples: Samples,
) -> list[tuple[Leading, Float[Tensor, "rows f"]]]:
    """Leading eigenpairs by Rayleigh-Ritz in a block of the step before, widened by its residuals.

    Args:
        activations: Shape (members, n, f); the mean is removed here.
        block: Orthonormal rows that nearly span the leading eigenvectors.
        ranks: First rank that counts, and eigenpairs wanted: one more than the last rank that counts.
        settings: See ``Tracking``.
        weigh: Eigenvalues (chosen, last) and the chosen members' numbers to the penalty's gradient by each eigenvalue.
        samples: Of all processes.

    Returns:
        For each member its eigenpairs, and its block for the next step, with more rows where one expansion was not enough.
        Where ``residual`` exceeds the tolerance the solver has not converged; it is infinite where the block sees nothing but
        rounding at a rank that counts, since then it cannot tell a code that has collapsed from one that it has lost.
    """
    (first, last), (members, size, _) = ranks, block.shape
    pool = min(last + settings.pool, size)
    width = min(max(settings.expansion, last // 2), pool)
    basis = 1.5 * block - 0.5 * (block @ block.mT) @ block  # rotations of earlier steps leave rounding in the orthonormality
    ritz = partial(_ritz, window=slice(first - 1, last - 1), samples=samples)
    basis, codes, values, noise = ritz(basis, _project(basis, activations, samples), size)
    data, expansions = activations, 0
    open_ = torch.arange(members, device=block.device)
    found: dict[int, tuple[Leading, Tensor]] = {}
    while True:
        sizes = torch.maximum(values, noise)
        outside, relative = _residuals(data, basis, codes[:, :pool], sizes, samples)
        pool = last
        slope = weigh(sizes[:, :last], open_).abs()
        pull = slope * sizes[:, :last]
        weights = slope * pull
        residual = ((weights * relative[:, :last] ** 2).sum(dim=1) / weights.sum(dim=1).clamp_min(_TINY)).sqrt()
        unseen = (values <= noise)[:, first - 1 : last - 1].any(dim=1)
        residual = residual.masked_fill(unseen, torch.inf)
        closed = (residual <= settings.tolerance) | unseen | (expansions >= settings.max_expansions)
        if bool(closed.any()):
            seen = torch.where(values > noise, values, 0.0)
            better, larger = _improved(basis[:, :last], seen[:, :last], outside[:, :last], relative[:, :last])
            counts = torch.full_like(residual, expansions)
            numbers = open_.tolist()
            for position in closed.nonzero()[:, 0].tolist():
                pairs = Leading(larger, better, codes[:, :last], residual, counts).member(position)
                kept = basis[position].clone() if expansions < 2 else _completed(basis[position])
                found[numbers[position]] = pairs, kept
        if len(found) == members:
            return [found[number] for number in range(members)]
        still = (~closed).nonzero()[:, 0]
        open_, data, basis, codes, sizes, outside, pull = _members(still, open_, data, basis, codes, sizes, outside, pull)
        shares = torch.ones_like(sizes[:, : outside.shape[1]])
        shares[:, :last] += pull / pull.mean(dim=1, keepdim=True).clamp_min(_TINY)
        scales = shares / sizes[:, : outside.shape[1]]
        added = _directions(outside.to(torch.float64) * scales[:, :, None], basis, width)
        codes = torch.cat([codes, _project(added, data, samples)], dim=1)
        basis, codes, values, noise = ritz(torch.cat([basis, added], dim=1), codes, size + expansions * settings.expansion)
        expansions += 1


def _members(chosen: Tensor, *parts: Tensor) -> list[Tensor]:
    """The chosen members of each part; no copy if all are chosen."""
    return [part if len(chosen) == len(part) else part[chosen] for part in parts]


def _improved(rows: Tensor, values: Tensor, outside: Tensor, relative: Tensor) -> tuple[Tensor, Tensor]:
    """Ritz vectors and values after one power iteration, of which the residuals are the part beyond the block.

    A vector becomes C v / lambda and its value |C v|^2 / lambda, whose errors are those of before times the ratio of the
    variances that v mixes. Not normalised: with the projection of v the product, which is the gradient, has the right length.
    Where the residual is as large as the value, neither says anything, and v stays.
    """
    sound = (relative < 1) & (values > 0)
    step = torch.where(sound, 1 / torch.where(sound, values, 1.0), 0.0)
    larger = values * (1 + torch.where(sound, relative, 0.0) ** 2)
    return torch.addcmul(rows, outside, step[:, :, None].to(rows.dtype)), larger


def _residuals(data: Tensor, basis: Tensor, codes: Tensor, sizes: Tensor, samples: Samples) -> tuple[Tensor, Tensor]:
    """What the covariance makes of the leading rows beyond the block, and its length relative to the size of each."""
    images = samples.sum(codes @ data) / (samples.total - 1)
    outside = images - (images @ basis.mT) @ basis
    lengths = torch.linalg.vector_norm(outside, dim=2, dtype=torch.float64)
    return outside, lengths / sizes[:, : codes.shape[1]]


def _project(rows: Tensor, activations: Tensor, samples: Samples) -> Tensor:
    """Centred activations along rows, shape (members, m, n)."""
    codes = rows @ activations.mT
    return codes - samples.sum(codes.sum(dim=2, keepdim=True)) / samples.total


def _ritz(rows: Tensor, codes: Tensor, keep: int, *, window: slice, samples: Samples) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rotates orthonormal rows and their codes to the leading ``keep`` Ritz vectors; also returns Ritz values and their rounding.

    The codes of nearly converged rows are nearly orthogonal, each of its own size, so rounding of a product of two of them is
    small beside both: unlike products of the data with itself, theirs may be formed in float32 without harm to small eigenvalues.
    Where small vectors are mixed from large rows, after a jump of a steep code, rounding may be all that is left of them: then
    the rotated codes, which are nearly orthogonal, are rotated once more.
    """
    for _ in range(2):
        products = _finite(samples.sum(codes @ codes.mT).to(torch.float64))
        ascending, vectors = _small_eigenpairs(products)
        rotation = vectors.flip(2)[:, :, :keep].mT
        values = ascending.flip(1)[:, :keep].clamp_min(0) / (samples.total - 1)
        lengths = products.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()
        mixed = (rotation.abs() @ lengths[:, :, None])[:, :, 0] ** 2 / (samples.total - 1)
        noise = torch.maximum(torch.finfo(codes.dtype).eps * mixed, _ROUNDING * values[:, :1]).clamp_min(_TINY)
        rotation = rotation.to(rows.dtype)
        rows, codes = rotation @ rows, rotation @ codes
        if not bool((values < _CLEAR * noise)[:, window].any()):
            break
    return rows, codes, values, noise


@cache
def _libraries() -> ThreadpoolController:
    """Linear algebra of this process, whose own threads would only be in the way."""
    return ThreadpoolController()


def _small_eigenpairs(matrices: Float[Tensor, "members k k"]) -> tuple[Float[Tensor, "members k"], Float[Tensor, "members k k"]]:
    """Eigenvalues, smallest first, and eigenvectors as columns, of symmetric float64 matrices, most of a few hundred rows.

    A GPU decomposes such matrices one after the other, each no faster than a processor's core does: a stack's go to the cores.
    """
    if len(matrices) == 1 or not matrices.is_cuda:
        ascending, vectors = torch.linalg.eigh(matrices)
        return ascending, vectors
    return _by_cores(matrices)


def _by_cores(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of each matrix, shared among the cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with _libraries().limit(limits=1, user_api="blas"), ThreadPoolExecutor(min(len(matrices), cores)) as threads:
        parts = list(threads.map(np.linalg.eigh, matrices.cpu().numpy()))
    values, vectors = (torch.from_numpy(np.stack(part)).to(matrices.device) for part in zip(*parts, strict=True))
    return values, vectors


def _finite(products: Tensor) -> Tensor:
    """The products, unless a NaN or infinite activation has reached them; then a square on the diagonal is one too."""
    if not bool(torch.isfinite(products.diagonal(dim1=-2, dim2=-1)).all()):
        raise SpectrumError("activations are NaN or infinite.")
    return products


def _directions(residuals: Tensor, basis: Tensor, count: int) -> Tensor:
    """The orthonormal directions, across the basis, that hold most of the float64 residuals; zero where there are no more."""
    residuals = residuals / residuals.abs().amax(dim=(1, 2), keepdim=True).clamp_min(_TINY)
    ascending, vectors = _small_eigenpairs(residuals @ residuals.mT)
    sizes, vectors = ascending.flip(1)[:, :count], vectors.flip(2)[:, :, :count]
    scale = torch.where(sizes > _NEGLIGIBLE * sizes[:, :1], sizes.clamp_min(_TINY).rsqrt(), 0.0)
    directions = (vectors * scale[:, None]).mT.to(basis.dtype) @ residuals.to(basis.dtype)
    across: Tensor = directions - (directions @ basis.mT) @ basis
    return across
