"""One code's activations, batch by batch, to its eigenspectrum."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from torch import Tensor

from eigencode import _processes
from eigencode._arguments import checked
from eigencode.errors import SpectrumError
from eigencode.spectra.checks import check_finite, check_shape, check_units
from eigencode.spectra.covariance import (
    Moments,
    add_moments,
    add_samples,
    folded,
    gram_of_rows,
    sub_gram,
    summed_over_processes,
    variances_of,
)
from eigencode.spectra.eigenspectrum import Eigenspectrum
from eigencode.spectra.eigenvalues import SMALLEST, TOO_SMALL, Numbers, as_numbers, descending_eigenvalues
from eigencode.spectra.resampling import GROUPS, MIN_GROUPS, deal, draw_halves
from eigencode.spectra.sketch import Sketch, map_bytes, sketch_error
from eigencode.spectra.storage import Code, Form, Memory, exact_form, least_limit, sketch_dimension

DEFAULT_MEMORY = 2 * 2**30
"""Bytes that one accumulator may take."""

_CONSTANT = 16 * torch.finfo(torch.float64).eps
"""Units whose standard deviation is below this part of their size are constant: what is left is the rounding of their mean."""


class SpectrumAccumulator:
    """Collects activations in any number of batches, shards and processes; ``compute`` gives the eigenspectrum.

    Samples are kept as they come while they are the smallest exact statistic, and turn into moments (mean and scatter
    matrix) as soon as those are smaller or the samples no longer fit into ``memory_limit``. If neither fits, units are
    projected by a seeded sparse map, and the spectrum says so with an error bound. Eigenvalues depend on the samples alone:
    not on how these were cut into batches, in which order parts were merged, or over how many processes they were spread (to
    1e-10 of the largest).

    Args:
        memory_limit: Bytes that this accumulator may take at any moment, with all copies that it makes until the spectrum is
            there; the batches themselves do not count. Default 2 GiB.
        kept_limit: Of these, bytes that it may keep from batch to batch, if it shares the others with further accumulators.
            Default: all.
        half_samples: Number of random half-samples of the images whose eigenvalues are kept for ``alpha_interval``.
        positions: Batches are (n_images, n_positions, n_units): every position is a sample, and images are resampled.
        expected_images: Number of images to come, if known: what is kept is then chosen for so many from the first batch on, and
            a sketch uses all the memory there is.
        seed: Seed of the sketch and of the half-samples.
        name: What error messages call this code, usually the layer.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> activations = torch.randn(2000, 100, generator=generator, dtype=torch.float64)
        >>> metric = SpectrumAccumulator()
        >>> for batch in (activations * torch.arange(1, 101) ** -0.5).split(256):
        ...     metric.update(batch)
        >>> round(metric.compute().fit(ranks=(1, 50)).alpha, 1)
        1.0
    """

    @checked(SpectrumError)
    def __init__(
        self,
        *,
        memory_limit: int = DEFAULT_MEMORY,
        kept_limit: int | None = None,
        half_samples: int = 0,
        positions: bool = False,
        expected_images: int | None = None,
        seed: int = 0,
        name: str = "activations",
    ) -> None:
        if memory_limit < 2**16:
            raise SpectrumError(
                f"SpectrumAccumulator: `memory_limit` must be at least 65536 bytes; got {memory_limit}. Raise it."
            )
        if half_samples == 1:
            raise SpectrumError(
                f"SpectrumAccumulator: `half_samples` must be 0 or at least 2; got {half_samples}. Pass for example 20."
            )
        self.memory_limit = memory_limit
        self.kept_limit = memory_limit if kept_limit is None else min(kept_limit, memory_limit)
        self.half_samples = half_samples
        self.positions = positions
        self.expected_images = expected_images
        self.seed = seed
        self.name = name
        self.n_images = 0
        self._n_units = 0
        self._n_positions = 1
        self._dtype = torch.float64
        self._device = torch.device("cpu")
        self._scale = 0.0  # largest absolute activation of the first sample
        self._rows: list[Tensor] = []  # (n_images, n_positions, width) each, while samples are kept
        self._block: Tensor | None = None  # room for all rows that are expected
        self._groups: list[Moments] = []  # one per group of images, once they are not
        self._sketch: Sketch | None = None

    @checked(SpectrumError)
    def update(self, activations: Numbers) -> None:
        """Adds a batch of activations.

        Args:
            activations: Shape (n_samples, ...), any float dtype, any device; all but the first dimension are flattened
                into units. With ``positions``: (n_images, n_positions, n_units). Copied, not changed.

        Raises:
            SpectrumError: not floating point, masked entries, another shape than before, or NaN or infinite values.
        """
        batch = as_numbers(activations, caller=self.name, what="activations")
        n_positions, n_units = check_shape(batch, positions=self.positions, name=self.name)
        if self.n_images:
            check_units((n_positions, n_units), (self._n_positions, self._n_units), name=self.name)
        if not self.positions:
            batch = batch.flatten(1).unsqueeze(1)
        if self.n_images == 0:
            self._n_positions, self._n_units, self._dtype, self._device = *batch.shape[1:], batch.dtype, batch.device
        if len(batch) == 0:
            return
        check_finite(batch, name=self.name, first=self.n_images)
        if self.n_images == 0:
            self._scale = float(torch.linalg.vector_norm(batch[0], ord=math.inf))
        self._make_room(len(batch))
        if self._sketch is not None:
            images = max(1, self._memory.scratch // (16 * self._n_positions * self._width)) if self._groups else len(batch)
            for piece in batch.split(images):
                projected = self._projected(piece)
                self._add(projected if self._groups else self._copied(projected))
        else:
            self._add(batch if self._groups else self._copied(batch))

    @checked(SpectrumError)
    def merge(self, other: SpectrumAccumulator) -> None:
        """Adds everything that ``other`` has collected and leaves ``other`` as it is.

        Samples have no identity: an accumulator that holds some of the same images, such as a copy, is counted anew.

        Args:
            other: Another accumulator of the same code, made with the same arguments.

        Raises:
            SpectrumError: ``other`` is this accumulator itself, the two were made with different arguments, or hold different
                numbers of units or positions.
        """
        if other is self:
            raise SpectrumError(
                f"{self.name}: an accumulator cannot be merged with itself, since each of its {self.n_samples} samples would "
                "count twice. Merge another one."
            )
        self._check_arguments(other)
        if other.n_images == 0:
            return
        if self.n_images == 0:
            for name in ("_n_positions", "_n_units", "_dtype", "_scale", "_device"):
                setattr(self, name, getattr(other, name))
        check_units((self._n_positions, self._n_units), (other._n_positions, other._n_units), name=other.name)
        self._make_room(other.n_images)
        if other._sketch is not None:
            self._project()
        if other._groups:
            self._to_groups(len(other._groups))
            self._deal()
            count = min(len(self._groups), len(other._groups))  # fewer where samples became moments before
            self._groups = [
                add_moments(mine, theirs.to(self._device))
                for mine, theirs in zip(folded(self._groups, count), folded(other._groups, count), strict=True)
            ]
            self.n_images += other.n_images - sum(len(batch) for batch in other._rows)
        for batch in other._rows:
            self._add((batch if other._sketch is not None else self._projected(batch)).to(self._device))

    def reduce(self) -> None:
        """Merges what all processes of the default torch.distributed group have collected, on every process.

        Collective: every process must call it. Moments are summed, which takes a process one copy of its own beyond
        ``memory_limit``. Samples must be sent, and are merged in the order of ranks: a process holds its own part, the sum so
        far, and another's part.

        Raises:
            SpectrumError: torch.distributed is not initialised, or the processes' accumulators were made with different
                arguments or hold different numbers of units.
        """
        if not _processes.together():
            raise SpectrumError(
                f"{self.name}: reduce() needs a process group, and torch.distributed is not initialised. Start under torchrun "
                "and call torch.distributed.init_process_group first."
            )
        self._deal()
        own = [*self._rows, *(tensor for group in self._groups for tensor in (group.mean, group.scatter))]
        outline = [(tuple(tensor.shape), tensor.dtype) for tensor in own]
        bare = copy.copy(self)
        bare._rows, bare._groups, bare._block = [], [], None
        outlines = _processes.from_each((bare, len(self._rows), [group.count for group in self._groups], outline))
        for part, *_ in outlines:  # first: a process that stops later would leave the others waiting
            self._check_arguments(part)
        alike = {(part._n_positions, part._n_units, part._width, n_rows, len(counts)) for part, n_rows, counts, _ in outlines}
        if len(alike) == 1 and self._groups and not self._rows:
            self._groups = [summed_over_processes(group) for group in self._groups]
            self.n_images, self._scale = sum(part.n_images for part, *_ in outlines), outlines[0][0]._scale
            return
        total = SpectrumAccumulator(**self._arguments(), name=self.name)
        for number, (part, n_rows, counts, outline) in enumerate(outlines):
            tensors = _processes.tensors_of(number, own, outline)
            part._rows, moments = tensors[:n_rows], iter(tensors[n_rows:])
            part._groups = [Moments(count, next(moments), next(moments)) for count in counts]
            total.merge(part)
        self.__dict__.update(total.__dict__)

    @property
    def n_samples(self) -> int:
        """Samples collected: images times positions."""
        return self.n_images * self._n_positions

    def compute(self) -> Eigenspectrum:
        """Eigenspectrum of everything collected; may be called again, also after further updates.

        Samples that are at least as many as units become moments for good: the two are never kept beside each other.

        Returns:
            Eigenvalues of the covariance matrix (divisor n - 1), the largest min(n_samples, n_features) of them.

        Raises:
            SpectrumError: fewer than two samples, or activations whose squares underflow.
        """
        if self.n_samples < 2:
            raise SpectrumError(
                f"{self.name}: an eigenspectrum needs at least 2 samples; got {self.n_samples}. Pass more images."
            )
        self._deal()
        if self._rows and self._width <= self.n_samples:
            form = self._form(self.n_images)
            self._to_groups(form.groups if form else 1)
        through_covariance = bool(self._groups)
        eigenvalues, halves = self._from_moments() if through_covariance else self._from_gram()
        kept = min(self.n_samples, self._n_units)
        if 0 < self._scale < SMALLEST and not bool(eigenvalues.any()):
            raise SpectrumError(f"{self.name}: {TOO_SMALL}")
        if float(eigenvalues.sum()) <= self._n_units * (_CONSTANT * self._scale) ** 2:
            eigenvalues, halves = torch.zeros_like(eigenvalues), []
        return Eigenspectrum(
            eigenvalues=eigenvalues[:kept],
            n_samples=self.n_samples,
            n_features=self._n_units,
            n_images=self.n_images,
            method="sketch" if self._sketch else "covariance" if through_covariance else "gram",
            dtype=str(self._dtype).removeprefix("torch."),
            error_bound=sketch_error(self.n_samples, self._n_units, self._width) if self._sketch else 0.0,
            scale=self._scale,
            half_samples=torch.stack([values for values, _ in halves])[:, :kept] if halves else None,
            half_counts=tuple(count for _, count in halves),
            name=self.name,
        )

    def _from_moments(self) -> tuple[Tensor, list[tuple[Tensor, int]]]:
        """Eigenvalues, and those of each half with its number of samples."""
        groups = [group for group in self._groups if group.count]
        eigenvalues, _ = variances_of(groups)
        if len(groups) < MIN_GROUPS:
            return eigenvalues, []
        halves = draw_halves(len(groups), draws=self.half_samples, seed=self.seed)
        return eigenvalues, [variances_of([groups[i] for i in half]) for half in halves]

    def _from_gram(self) -> tuple[Tensor, list[tuple[Tensor, int]]]:
        """As ``_from_moments``, through the Gram matrix."""
        gram = gram_of_rows([batch.flatten(0, 1) for batch in self._rows], piece_bytes=self._memory.scratch // 2)
        eigenvalues = descending_eigenvalues(gram) / (self.n_samples - 1)
        if self.n_images < MIN_GROUPS:
            return eigenvalues, []
        sample_of = torch.arange(self.n_samples, device=gram.device).view(self.n_images, self._n_positions)
        halves = []
        for half in draw_halves(self.n_images, draws=self.half_samples, seed=self.seed):
            members = sample_of[torch.as_tensor(half)].flatten()
            halves.append((descending_eigenvalues(sub_gram(gram, members)) / (len(members) - 1), len(members)))
        return eigenvalues, halves

    # What is kept, and when it changes.

    @property
    def _width(self) -> int:
        return self._sketch.dimension if self._sketch else self._n_units

    @property
    def _memory(self) -> Memory:
        return Memory(self.memory_limit, self.kept_limit)

    def _form(self, n_images: int) -> Form | None:
        """How so many images are kept: with room for the map of a sketch, if there is one or may have to be."""
        memory = self._memory
        if self._sketch is not None or not self.expected_images:
            memory = memory.without(map_bytes(self._n_units))
        return exact_form(self._code(n_images, self._width), memory)

    def _code(self, n_images: int, width: int) -> Code:
        element_size = 8 if self._sketch else self._dtype.itemsize
        return Code(n_images * self._n_positions, width, element_size, GROUPS if self.half_samples else 1)

    def _make_room(self, coming: int) -> None:
        """Turns samples into moments before so many more images would not fit, into a sketch where neither fits."""
        if self._groups:
            return
        n_images = self.n_images + coming
        form = self._form(max(n_images, self.expected_images or 0))
        if form is None and self._sketch is None:
            self._project()
            form = self._form(max(n_images, self.expected_images or 0))
        if form is None:
            raise SpectrumError(
                f"{self.name}: a sketch was sized for `expected_images` = {self.expected_images}, and {n_images} "
                "came. Raise `expected_images` or `memory_limit`."
            )
        if not form.rows:
            self._to_groups(form.groups)

    def _project(self) -> None:
        if self._sketch is not None:
            return
        code, known = self._code(self.expected_images or 0, self._n_units), bool(self.expected_images)
        dimension = sketch_dimension(code, self._memory, count_known=known)
        if dimension == 0:
            raise SpectrumError(
                f"{self.name}: `memory_limit` must be at least {least_limit(self._n_units)} bytes for {self._n_units} units; got "
                f"{self.memory_limit}. Raise it."
            )
        self._sketch = Sketch(self._n_units, dimension, self.seed)
        rows, self._rows, self._block = self._rows, [], None
        while rows:
            self._rows.append(self._projected(rows.pop(0)))

    def _projected(self, batch: Tensor) -> Tensor:
        return batch if self._sketch is None else self._sketch(batch, scratch=self._memory.scratch // 2)

    def _copied(self, batch: Tensor) -> Tensor:
        """A copy to keep, in one block for all images that are expected: copies one by one would lie between what others free."""
        if not self.expected_images:
            return batch.clone(memory_format=torch.preserve_format)
        if self._block is None:
            self._block = batch.new_empty(self.expected_images, *batch.shape[1:])
        place = self._block[self.n_images : self.n_images + len(batch)]
        return place.copy_(batch) if place.shape == batch.shape and place.dtype == batch.dtype else batch.clone()

    def _to_groups(self, count: int) -> None:
        """Turns samples into ``count`` groups of moments, if there are none yet; each batch is freed as it is done."""
        if self._groups:
            return
        self._groups = [Moments.empty(self._width, self._device) for _ in range(count)]
        rows, self._rows, self._block, self.n_images = self._rows, [], None, 0
        while rows:
            self._add(rows.pop(0))
        self._deal()

    def _add(self, batch: Tensor) -> None:
        """Adds a batch, in a sketch already projected: one of ours to keep, unless there are groups."""
        self._rows.append(batch)
        self.n_images += len(batch)
        if not self._groups:
            return
        if len(self._groups) == 1 or sum(rows.nbytes for rows in self._rows) >= 4 * self._width**2:  # half a scatter matrix
            self._deal()
        else:
            self._rows[-1] = batch.clone()

    def _deal(self) -> None:
        """Deals the samples that wait to the groups; many at a time, since each visit of a large scatter matrix costs time."""
        if not (self._groups and self._rows):
            return
        batch = self._rows[0] if len(self._rows) == 1 else torch.cat(self._rows)
        self._rows = []
        piece_bytes = self._memory.scratch // 2
        images = max(1, piece_bytes // batch[0].nbytes)
        group_of = deal(self.n_images - len(batch), len(batch), n_groups=len(self._groups), seed=self.seed)
        for number, group in enumerate(self._groups):
            members = torch.as_tensor(np.flatnonzero(group_of == number), device=batch.device)
            pieces = [batch] if len(self._groups) == 1 else (batch[some] for some in members.split(images))
            for piece in pieces:
                group = add_samples(group, piece, piece_bytes=piece_bytes)
            self._groups[number] = group

    def __getstate__(self) -> dict[str, object]:
        """Without the room for images that have not come."""
        return self.__dict__ | {"_rows": [batch.clone() for batch in self._rows], "_block": None}

    def _arguments(self) -> dict:  # type: ignore[type-arg]
        names = ("memory_limit", "kept_limit", "half_samples", "positions", "expected_images", "seed")
        return {name: getattr(self, name) for name in names}

    def _check_arguments(self, other: SpectrumAccumulator) -> None:
        if self._arguments() != other._arguments():
            raise SpectrumError(
                f"{self.name}: accumulators to merge must be made with the same arguments; got {self._arguments()} and "
                f"{other._arguments()}. Make both alike."
            )
