"""One code's activations, batch by batch, to its eigenspectrum."""

from __future__ import annotations

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from eigencode._arguments import checked
from eigencode.errors import SpectrumError
from eigencode.spectra.covariance import (
    Moments,
    add_samples,
    covariance,
    gram_of_rows,
    merge_moments,
    moments_of,
    sub_gram,
)
from eigencode.spectra.eigenspectrum import Eigenspectrum
from eigencode.spectra.eigenvalues import descending_eigenvalues
from eigencode.spectra.resampling import GROUPS, MIN_GROUPS, deal, draw_halves
from eigencode.spectra.sketch import Sketch, sketch_error

DEFAULT_MEMORY = 2 * 2**30
"""Bytes that one accumulator may hold."""

_WORKING_MEMORY = 2**30
"""Bytes that half-samples of stored rows may take while the spectrum is computed, beside what is stored; or the memory limit,
if that is more."""

_CONSTANT = 16 * torch.finfo(torch.float64).eps
"""Units whose standard deviation is below this part of their size are constant: what is left is the rounding of their mean."""


class SpectrumAccumulator:
    """Collects activations in any number of batches, shards and processes; ``compute`` gives the eigenspectrum.

    Samples are kept as they come while they are the smallest exact statistic, and turn into moments (mean and scatter
    matrix) as soon as those are smaller or the samples outgrow ``memory_limit``. If neither fits, units are projected by a
    seeded sparse map, and the spectrum says so with an error bound. Eigenvalues depend on the samples alone: not on how these
    were cut into batches, in which order parts were merged, or over how many processes they were spread (to 1e-10 of the
    largest).

    Args:
        memory_limit: Bytes that this accumulator may hold. Default 2 GiB.
        half_samples: Number of random half-samples of the images whose eigenvalues are kept for ``alpha_interval``.
        positions: Batches are (n_images, n_positions, n_units): every position is a sample, and images are resampled.
        expected_images: Number of images to come, if known: a sketch then uses all the memory there is.
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
        self.half_samples = half_samples
        self.positions = positions
        self.expected_images = expected_images
        self.seed = seed
        self.name = name
        self.n_images = 0
        self._n_units = 0
        self._n_positions = 1
        self._dtype = torch.float64
        self._scale = 0.0  # largest absolute activation of the first sample
        self._rows: list[Tensor] = []  # (n_images, n_positions, width) each, while samples are kept
        self._groups: list[Moments] = []  # one per group of images, once they are not
        self._sketch: Sketch | None = None

    @checked(SpectrumError)
    def update(self, activations: Tensor | np.ndarray) -> None:
        """Adds a batch of activations.

        Args:
            activations: Shape (n_samples, ...), any float dtype, any device; all but the first dimension are flattened
                into units. With ``positions``: (n_images, n_positions, n_units). Copied, not changed.

        Raises:
            SpectrumError: not floating point, another shape than before, or NaN or infinite values (the message names the
                code, how many there are and the first sample with one).
        """
        batch = torch.as_tensor(activations).detach()
        self._check_shape(batch)
        if not self.positions:
            batch = batch.flatten(1).unsqueeze(1)
        if self.n_images == 0:
            self._n_positions, self._n_units, self._dtype = batch.shape[1], batch.shape[2], batch.dtype
        if len(batch) == 0:
            return
        self._check_finite(batch)
        if self.n_images == 0:
            self._scale = float(batch[0].abs().max())
        samples = batch if self._sketch is None else self._sketch(batch)
        if self._groups:
            self._add_to_groups(samples, first_image=self.n_images)
        else:
            self._rows.append(samples.clone(memory_format=torch.preserve_format))
        self.n_images += len(batch)
        self._settle()

    @checked(SpectrumError)
    def merge(self, other: SpectrumAccumulator) -> None:
        """Adds everything that ``other`` has collected and leaves ``other`` as it is.

        Args:
            other: Accumulator of the same code, made with the same arguments.

        Raises:
            SpectrumError: the two were made with different arguments, or hold different numbers of units or positions.
        """
        if self._arguments() != other._arguments():
            raise SpectrumError(
                f"{self.name}: accumulators to merge must be made with the same arguments; got {self._arguments()} and "
                f"{other._arguments()}. Make both alike."
            )
        if other.n_images == 0:
            return
        other = other._copy()
        if self.n_images == 0:
            name = self.name
            self.__dict__.update(other.__dict__)
            self.name = name
            return
        other._check_units(self._n_positions, self._n_units)
        other._move_to(self._device)
        if self._sketch is not None or other._sketch is not None:
            self._project()
            other._project()
        if self._groups or other._groups:
            self._to_groups()
            other._to_groups()
            self._groups = [merge_moments(a, b) for a, b in zip(self._groups, other._groups, strict=True)]
        self._rows += other._rows
        self.n_images += other.n_images
        self._settle()

    def reduce(self) -> None:
        """Merges what all processes of the default torch.distributed group have collected, on every process.

        Collective: every process must call it. Parts are merged in the order of ranks, so that all get the same numbers.

        Raises:
            SpectrumError: torch.distributed is not initialised.
        """
        if not (dist.is_available() and dist.is_initialized()):
            raise SpectrumError(
                f"{self.name}: reduce() needs a process group, and torch.distributed is not initialised. Start under torchrun "
                "and call torch.distributed.init_process_group first."
            )
        total = SpectrumAccumulator(**self._arguments(), name=self.name)
        for rank in range(dist.get_world_size()):
            part = [self if rank == dist.get_rank() else None]
            dist.broadcast_object_list(part, src=rank)
            total.merge(part[0])  # type: ignore[arg-type]
        self.__dict__.update(total.__dict__)

    @property
    def n_samples(self) -> int:
        """Samples collected: images times positions."""
        return self.n_images * self._n_positions

    def compute(self) -> Eigenspectrum:
        """Eigenspectrum of everything collected; may be called again after further updates.

        Returns:
            Eigenvalues of the covariance matrix (divisor n - 1), the largest min(n_samples, n_features) of them.

        Raises:
            SpectrumError: fewer than two samples.
        """
        if self.n_samples < 2:
            raise SpectrumError(
                f"{self.name}: an eigenspectrum needs at least 2 samples; got {self.n_samples}. Pass more images."
            )
        through_covariance = bool(self._groups) or self._width <= self.n_samples
        eigenvalues, halves = self._from_moments() if through_covariance else self._from_gram()
        kept = min(self.n_samples, self._n_units)
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
        working = max(_WORKING_MEMORY, self.memory_limit)
        groups = [group for group in self._groups or self._moments_of_rows(working) if group.count]
        eigenvalues = descending_eigenvalues(covariance(moments_of(groups)))
        if len(groups) < MIN_GROUPS:
            return eigenvalues, []
        halves = []
        for half in draw_halves(len(groups), draws=self.half_samples, seed=self.seed):
            moments = moments_of([groups[i] for i in half])
            halves.append((descending_eigenvalues(covariance(moments)), moments.count))
        return eigenvalues, halves

    def _from_gram(self) -> tuple[Tensor, list[tuple[Tensor, int]]]:
        """As ``_from_moments``, through the Gram matrix."""
        gram = gram_of_rows([batch.flatten(0, 1) for batch in self._rows])
        eigenvalues = descending_eigenvalues(gram) / (self.n_samples - 1)
        if self.n_images < MIN_GROUPS:
            return eigenvalues, []
        sample_of = torch.arange(self.n_samples, device=gram.device).view(self.n_images, self._n_positions)
        halves = []
        for half in draw_halves(self.n_images, draws=self.half_samples, seed=self.seed):
            members = sample_of[torch.as_tensor(half)].flatten()
            halves.append((descending_eigenvalues(sub_gram(gram, members)) / (len(members) - 1), len(members)))
        return eigenvalues, halves

    # What is stored, and when it changes.

    @property
    def _width(self) -> int:
        return self._sketch.dimension if self._sketch else self._n_units

    def _n_groups(self, memory: int) -> int:
        """Groups of moments that fit in memory: 0 if not even one does, 1 if no half-samples can be drawn."""
        fitting = memory // (8 * self._width**2)
        wanted = GROUPS if self.half_samples else 1
        return min(wanted, fitting) if fitting >= MIN_GROUPS else min(1, fitting)

    def _settle(self) -> None:
        """Turns samples into moments where those are smaller or samples do not fit, into a sketch where neither fits."""
        if self._groups or not self._rows:
            return
        rows_bytes = self.n_samples * self._width * self._rows[0].element_size()
        moments_bytes = 8 * self._width**2 * (GROUPS if self.half_samples else 1)
        if moments_bytes <= min(rows_bytes, self.memory_limit):
            self._to_groups()
        elif rows_bytes > self.memory_limit:
            if self._n_groups(self.memory_limit):
                self._to_groups()
            elif self._sketch is None:
                self._project()
                self._settle()
            else:
                raise SpectrumError(
                    f"{self.name}: a sketch was sized for `expected_images` = {self.expected_images}, and {self.n_images} "
                    "came. Raise `expected_images` or `memory_limit`."
                )

    @property
    def _device(self) -> torch.device:
        return self._rows[0].device if self._rows else self._groups[0].mean.device

    def _move_to(self, device: torch.device) -> None:
        self._rows = [batch.to(device) for batch in self._rows]
        self._groups = [Moments(g.count, g.mean.to(device), g.scatter.to(device)) for g in self._groups]

    def _project(self) -> None:
        if self._sketch is None:
            dimension = int((self.memory_limit / 8) ** 0.5)
            if self.expected_images:
                dimension = max(dimension, self.memory_limit // (8 * self.expected_images * self._n_positions))
            self._sketch = Sketch(self._n_units, min(self._n_units, dimension), self.seed)
            self._rows = [self._sketch(batch) for batch in self._rows]

    def _to_groups(self) -> None:
        if not self._groups:
            self._groups = self._moments_of_rows(self.memory_limit)
            self._rows = []

    def _moments_of_rows(self, memory: int) -> list[Moments]:
        part = self._copy()
        part._groups = [Moments.empty(self._width, self._device) for _ in range(max(1, self._n_groups(memory)))]
        first_image = 0
        for batch in self._rows:
            part._add_to_groups(batch, first_image=first_image)
            first_image += len(batch)
        return part._groups

    def _add_to_groups(self, batch: Tensor, *, first_image: int) -> None:
        group_of = deal(first_image, len(batch), n_groups=len(self._groups), seed=self.seed)
        for group in np.unique(group_of):
            members = batch
            if len(self._groups) > 1:
                members = batch[torch.as_tensor(np.flatnonzero(group_of == group), device=batch.device)]
            self._groups[group] = add_samples(self._groups[group], members)

    def _arguments(self) -> dict:  # type: ignore[type-arg]
        names = ("memory_limit", "half_samples", "positions", "expected_images", "seed")
        return {name: getattr(self, name) for name in names}

    def _copy(self) -> SpectrumAccumulator:
        """Independent accumulator of the same samples; moments are copied because updates reuse their storage."""
        copy = SpectrumAccumulator(**self._arguments(), name=self.name)
        copy.__dict__.update(self.__dict__)
        copy._rows = list(self._rows)
        copy._groups = [Moments(g.count, g.mean, g.scatter.clone()) for g in self._groups]
        return copy

    def _check_shape(self, batch: Tensor) -> None:
        if batch.ndim != 3 if self.positions else batch.ndim < 2:
            wanted = "(n_images, n_positions, n_units)" if self.positions else "(n_samples, ...)"
            raise SpectrumError(f"{self.name}: activations must have shape {wanted}; got {tuple(batch.shape)}. Reshape them.")
        if not batch.dtype.is_floating_point:
            raise SpectrumError(
                f"{self.name}: activations must be floating point; got {batch.dtype}. Convert them with .float()."
            )
        n_positions, n_units = (batch.shape[1], batch.shape[2]) if self.positions else (1, batch[0:1].flatten(1).shape[1])
        if n_units == 0:
            raise SpectrumError(f"{self.name}: activations must have at least 1 unit; got shape {tuple(batch.shape)}.")
        if self.n_images:
            self._check_units(n_positions, n_units)

    def _check_units(self, n_positions: int, n_units: int) -> None:
        if (n_positions, n_units) != (self._n_positions, self._n_units):
            raise SpectrumError(
                f"{self.name}: every batch must have {self._n_units} units at {self._n_positions} positions, as the first had; "
                f"got {n_units} at {n_positions}. Use images of one size, and one accumulator per layer."
            )

    def _check_finite(self, batch: Tensor) -> None:
        if torch.isfinite(batch.sum()):  # one pass; a sum that overflows is looked at more closely
            return
        bad = ~torch.isfinite(batch)
        if not bad.any():
            return
        first = self.n_images + int(bad.flatten(1).any(dim=1).nonzero()[0])
        raise SpectrumError(
            f"{self.name}: activations must be finite; got {int(bad.sum())} NaN or infinite values in one batch, the first in "
            f"sample {first}. Check the images and the network's weights."
        )
