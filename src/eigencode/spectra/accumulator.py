"""One code's activations, batch by batch, to its eigenspectrum."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import fields
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from eigencode import _processes
from eigencode._arguments import checked
from eigencode.errors import SpectrumError
from eigencode.spectra.checks import check_finite, check_shape, check_units, checked_groups, unmasked
from eigencode.spectra.computing import of_groups
from eigencode.spectra.covariance import Moments, add_moments, add_samples, folded, summed_over_processes
from eigencode.spectra.eigenspectrum import Eigenspectrum
from eigencode.spectra.eigenvalues import SMALLEST, TOO_SMALL, Numbers, as_numbers
from eigencode.spectra.gains import Gains, Singles
from eigencode.spectra.resampling import GROUPS, Numbering, deal
from eigencode.spectra.rows import Rows
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
        expected_images: Number of images to come, if known (with a mask: of samples): what is kept is then chosen for so many
            from the first batch on, and a sketch uses all the memory there is.
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
        self._n_rows = 0  # images; samples, where a mask says which positions of an image are
        self._is_masked = False
        self._is_grouped = False  # whether the caller numbers the sets of images that are resampled as one
        self._numbering = Numbering()
        self._n_units = 0
        self._n_positions = 1
        self._dtype = torch.float64
        self._device = torch.device("cpu")
        self._scale = 0.0  # largest absolute activation of the first sample
        self._rows = Rows(expected_images or 0)  # while samples are kept
        self._groups: list[Moments] = []  # one per group of images, once they are not
        self._sketch: Sketch | None = None
        self._singles: Singles | None = None  # of samples, before they became moments

    @checked(SpectrumError)
    def update(
        self, activations: Numbers, *, mask: Tensor | np.ndarray | None = None, groups: Numbers | Sequence[int] | None = None
    ) -> None:
        """Adds a batch of activations.

        Args:
            activations: Shape (n_samples, ...), any float dtype, any device; all but the first dimension are flattened
                into units. With ``positions``: (n_images, n_positions, n_units). Copied, not changed.
            mask: With ``positions``: which of them are samples, shape (n_images, n_positions); the others, such as padding, are
                left out, and batches may have different numbers of positions. Default: all are.
            groups: Numbers from 0 on of the sets of images that belong together (augmentations of one image, frames of one
                film), shape (n_images,): a half-sample has all images of a set or none. Default: each image is one.

        Raises:
            SpectrumError: not floating point, masked entries, another shape than before, or NaN or infinite values; a mask or
                groups in some batches alone.
        """
        batch = as_numbers(activations, caller=self.name, what="activations")
        n_positions, n_units = check_shape(batch, positions=self.positions, name=self.name)
        if not self.positions:
            batch = batch.flatten(1).unsqueeze(1)
        n_images, first = len(batch), self.n_images
        numbers = torch.arange(n_images) + first if groups is None else checked_groups(groups, n_images, name=self.name)
        if mask is not None:
            batch, numbers = unmasked(batch, mask, numbers, name=self.name)
            n_positions = 1
        if first:
            if (mask is not None, groups is not None) != (self._is_masked, self._is_grouped):
                raise SpectrumError(f"{self.name}: `mask` and `groups` must be given with all batches, or with none.")
            check_units((n_positions, n_units), (self._n_positions, self._n_units), name=self.name)
        else:
            self._n_positions, self._n_units, self._dtype, self._device = *batch.shape[1:], batch.dtype, batch.device
            self._is_masked, self._is_grouped = mask is not None, groups is not None
        if n_images == 0:
            return
        check_finite(batch, name=self.name, first=self._n_rows)
        self._numbering = self._numbering.followed_by(numbers)
        if first == 0:
            self._scale = float(torch.linalg.vector_norm(batch[0], ord=math.inf))
        self._make_room(len(batch))
        most = max(1, self._memory.scratch // (16 * self._n_positions * self._width))
        pieces = len(batch) if self._sketch is None or not self._groups else most
        for piece, own in zip(batch.split(pieces), numbers.split(pieces), strict=True):
            projected = self._projected(piece)
            self._add(projected if self._groups else self._rows.copy(projected), own)
        self.n_images += n_images

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
            for name in ("_n_positions", "_n_units", "_dtype", "_scale", "_device", "_is_masked", "_is_grouped", "_singles"):
                setattr(self, name, getattr(other, name))
        if (other._is_masked, other._is_grouped) != (self._is_masked, self._is_grouped):
            raise SpectrumError(f"{self.name}: `mask` and `groups` must be given to all accumulators to merge, or to none.")
        check_units((self._n_positions, self._n_units), (other._n_positions, other._n_units), name=other.name)
        self._make_room(other._n_rows)
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
            self._n_rows += other._n_rows - len(other._rows)
        first = 0 if self._is_grouped else self.n_images
        for batch, numbers in zip(other._rows.batches, other._rows.numbers, strict=True):
            projected = batch if other._sketch is not None else self._projected(batch)
            self._add(projected.to(self._device), numbers + first)
        self._numbering = Numbering.joined([self._numbering, other._numbering.moved(first)])
        self.n_images += other.n_images

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
        own = [*self._rows.batches, *(tensor for group in self._groups for tensor in group.tensors)]
        outline = [(tuple(tensor.shape), tensor.dtype) for tensor in own]
        bare, numbers = copy.copy(self), self._rows.numbers
        bare._rows, bare._groups = Rows(), []
        outlines = _processes.from_each((bare, numbers, [group.count for group in self._groups], outline))
        for part, *_ in outlines:  # first: a process that stops later would leave the others waiting
            self._check_arguments(part)
        alike = {
            (part._n_positions, part._n_units, part._width, part._is_masked, part._is_grouped, len(rows), len(counts))
            for part, rows, counts, _ in outlines
        }
        if len(alike) == 1 and self._groups and not len(self._rows):
            self._groups = [summed_over_processes(group) for group in self._groups]
            self.n_images, self._scale = sum(part.n_images for part, *_ in outlines), outlines[0][0]._scale
            self._n_rows = sum(part._n_rows for part, *_ in outlines)
            counts = [0 if self._is_grouped else part.n_images for part, *_ in outlines]
            self._numbering = Numbering.stacked([part._numbering for part, *_ in outlines], counts)
            return
        total = SpectrumAccumulator(**self._arguments(), name=self.name)
        for number, (part, numbers, counts, outline) in enumerate(outlines):
            tensors = _processes.tensors_of(number, own, outline)
            part._rows.batches, part._rows.numbers, moments = tensors[: len(numbers)], numbers, iter(tensors[len(numbers) :])
            part._groups = [Moments(count, *islice(moments, len(fields(Moments)) - 1)) for count in counts]
            total.merge(part)
        self.__dict__.update(total.__dict__)

    @property
    def n_samples(self) -> int:
        """Samples collected: images times positions, or those that the masks leave."""
        return self._n_rows * self._n_positions

    def compute(self) -> Eigenspectrum:
        """Eigenspectrum of everything collected; may be called again, also after further updates.

        Samples that are at least as many as units become moments for good: the two are never kept beside each other.

        Returns:
            Eigenvalues of the covariance matrix (divisor n - 1), the largest min(n_samples, n_features) of them.

        Raises:
            SpectrumError: fewer than two samples, or activations whose squares underflow.
        """
        if self.n_samples < 2:
            raise SpectrumError(f"{self.name}: an eigenspectrum needs 2 samples; got {self.n_samples}. Pass more images.")
        self._deal()
        self._numbering = self._rows.numbering() or self._numbering
        alone = self._n_positions == 1 and self._numbering.apart  # no two samples of one image
        if len(self._rows) and self._width <= self.n_samples:
            room = self._memory.usable - self._rows.nbytes
            self._singles = self._rows.singles(room) if alone and not self._sketch else None
            self._to_groups(form.groups if (form := self._form(self._n_rows)) else 1)
        if self._groups:
            found = of_groups(self._groups, halves=self.half_samples, seed=self.seed, independent=alone, singles=self._singles)
        else:
            found = self._rows.spectra(self.half_samples, seed=self.seed, independent=alone, room=self._memory.scratch // 2)
        eigenvalues, halves, traces, gains = found
        if 0 < self._scale < SMALLEST and not bool(eigenvalues.any()):
            raise SpectrumError(f"{self.name}: {TOO_SMALL}")
        if float(eigenvalues.sum()) <= self._n_units * (_CONSTANT * self._scale) ** 2:
            eigenvalues, halves = torch.zeros_like(eigenvalues), []
        kept = min(self.n_samples, self._n_units)
        return Eigenspectrum(
            eigenvalues=eigenvalues[:kept],
            n_samples=self.n_samples,
            n_features=self._n_units,
            n_images=self.n_images,
            method="sketch" if self._sketch else "covariance" if self._groups else "gram",
            dtype=str(self._dtype).removeprefix("torch."),
            error_bound=sketch_error(self.n_samples, self._n_units, self._width) if self._sketch else 0.0,
            scale=self._scale,
            half_samples=pad_sequence([values for values, _ in halves], batch_first=True)[:, :kept] if halves else None,
            half_counts=tuple(count for _, count in halves),
            half_groups=sum(group.count > 0 for group in self._groups) or self._rows.n_sets,
            traces=None if self._sketch else traces,
            gains=Gains() if self._sketch else gains,
            name=self.name,
        )

    @property
    def _width(self) -> int:
        return self._sketch.dimension if self._sketch else self._n_units

    @property
    def _memory(self) -> Memory:
        return Memory(self.memory_limit, self.kept_limit)

    def _form(self, n_rows: int) -> Form | None:
        """How so many rows are kept: with room for the map of a sketch, if there is one or may have to be."""
        memory = self._memory if self._sketch is None and self.expected_images else self._memory.without(map_bytes(self._n_units))
        return exact_form(self._code(n_rows, self._width), memory)

    def _code(self, n_rows: int, width: int) -> Code:
        element_size = 8 if self._sketch else self._dtype.itemsize
        return Code(n_rows * self._n_positions, width, element_size, GROUPS if self.half_samples else 1)

    def _make_room(self, coming: int) -> None:
        """Turns samples into moments before so many more rows would not fit, into a sketch where neither fits."""
        if self._groups:
            return
        n_rows = self._n_rows + coming
        form = self._form(max(n_rows, self.expected_images or 0))
        if form is None and self._sketch is None:
            self._project()
            form = self._form(max(n_rows, self.expected_images or 0))
        if form is None:
            raise SpectrumError(
                f"{self.name}: a sketch was sized for `expected_images` = {self.expected_images}, and {n_rows} "
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
        rows, self._rows = self._rows, Rows(self.expected_images or 0)
        for batch, numbers in rows.taken():
            self._rows.add(self._projected(batch), numbers)

    def _projected(self, batch: Tensor) -> Tensor:
        return batch if self._sketch is None else self._sketch(batch, scratch=self._memory.scratch // 2)

    def _to_groups(self, count: int) -> None:
        """Turns samples into ``count`` groups of moments, if there are none yet; each batch is freed as it is done."""
        if self._groups:
            return
        self._groups = [Moments.empty(self._width, self._device) for _ in range(count)]
        rows, self._rows, self._n_rows = self._rows, Rows(), 0
        for batch, numbers in rows.taken():
            self._add(batch, numbers)
            del batch
        self._deal()

    def _add(self, batch: Tensor, numbers: Tensor) -> None:
        """Adds a batch, in a sketch already projected: one of ours to keep, unless there are groups."""
        self._rows.add(batch, numbers)
        self._n_rows += len(batch)
        if not self._groups:
            return
        room = max(4 * self._width**2, self._memory.scratch // 8)  # half a scatter matrix, or some of what copies may take
        if len(self._groups) == 1 or self._rows.nbytes >= room:
            self._deal()
        else:
            self._rows.batches[-1] = batch.clone()

    def _deal(self) -> None:
        """Deals the samples that wait to the groups; many at a time, since each visit of a scatter matrix costs time."""
        if not (self._groups and len(self._rows)):
            return
        piece_bytes = self._memory.scratch // 2
        if self._singles is None and self._n_positions == 1 and not self._sketch:
            self._singles = self._rows.singles(piece_bytes)  # of those that were dealt first
        batch, numbers = self._rows.joined()
        images = max(1, piece_bytes // batch[0].nbytes)
        group_of = deal(numbers.numpy(), n_groups=len(self._groups), seed=self.seed)
        for number, group in enumerate(self._groups):
            members = torch.as_tensor(np.flatnonzero(group_of == number), device=batch.device)
            pieces = [batch] if len(self._groups) == 1 else (batch[some] for some in members.split(images))
            for piece in pieces:
                group = add_samples(group, piece, piece_bytes=piece_bytes)
            self._groups[number] = group

    def _arguments(self) -> dict:  # type: ignore[type-arg]
        names = ("memory_limit", "kept_limit", "half_samples", "positions", "expected_images", "seed")
        return {name: getattr(self, name) for name in names}

    def _check_arguments(self, other: SpectrumAccumulator) -> None:
        if self._arguments() != other._arguments():
            raise SpectrumError(
                f"{self.name}: accumulators to merge must be made with the same arguments; got {self._arguments()} and "
                f"{other._arguments()}. Make both alike."
            )
