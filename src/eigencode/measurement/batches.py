"""Inputs batch by batch, from whatever they are given as."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from eigencode import _processes
from eigencode.datasets.images import ImageSet
from eigencode.errors import DataError

Images = ImageSet | Tensor | np.ndarray | DataLoader  # type: ignore[type-arg]
Perturbation = Callable[[Tensor, Tensor], Tensor]


class Batches:
    """Inputs batch by batch, on the device, perturbed; this process's share of them under torch.distributed."""

    def __init__(
        self,
        images: Images,
        batch_size: int,
        device: torch.device,
        perturbation: Perturbation | None = None,
        *,
        split: bool = True,
    ) -> None:
        self.source = images.inputs if isinstance(images, ImageSet) else images
        if isinstance(self.source, np.ndarray):
            forwards = all(step >= 0 for step in self.source.strides)
            self.source = torch.from_numpy(self.source if forwards else self.source.copy())
        self.batch_size, self.device, self.perturbation = batch_size, device, perturbation
        self.count: int | None
        if isinstance(self.source, Tensor):
            if not self.source.dtype.is_floating_point:
                raise DataError(
                    f"measure: images must be floating point; got {self.source.dtype}. Use ImageSet.from_uint8, or divide by 255."
                )
            if self.source.ndim == 0:
                raise DataError("measure: images must have shape (n, ...); got a single number. Pass a tensor of images.")
            self.count = len(self.source)
        else:
            sized = hasattr(self.source, "dataset") and hasattr(self.source.dataset, "__len__")
            self.count = len(self.source.dataset) if sized else None  # type: ignore[arg-type]
        if self.count is not None and self.count < 2:
            raise DataError(f"measure: at least 2 images are needed; got {self.count}. Pass more images.")
        sampler: Any = getattr(self.source, "sampler", None)
        self.dealt = (sampler.rank, sampler.num_replicas) if hasattr(sampler, "num_replicas") else (0, 1)
        parallel = split and self.dealt[1] == 1  # else a DistributedSampler has split the images already
        self.share = (_processes.rank(), _processes.count()) if parallel else (0, 1)

    def few(self) -> Iterator[Tensor]:
        """Some of the first images, unperturbed; at first so many as no batch has, so that no other axis is taken for theirs."""
        if isinstance(self.source, Tensor):
            batch = self.source[: self.batch_size]
        else:
            with torch.random.fork_rng([]):  # a DataLoader draws a seed whenever it is iterated
                batch = inputs_of(next(iter(self.source)))
        for count in dict.fromkeys((3, 2, 1, len(batch)) if len(batch) != 3 else (2, 1, 3)):
            yield batch[torch.arange(count) % len(batch)].to(self.device)

    def __iter__(self) -> Iterator[Tensor]:
        for inputs, _ in self.numbered():
            yield inputs

    def numbered(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs with the images' indices."""
        start = 0
        rank, world = self.share
        pieces = self.source.split(self.batch_size) if isinstance(self.source, Tensor) else self.source
        for number, piece in enumerate(pieces):
            batch = inputs_of(piece)
            indices = torch.arange(start, start + len(batch)) * self.dealt[1] + self.dealt[0]
            start += len(batch)
            if number % world == rank:
                batch = batch.to(self.device, copy=self.perturbation is not None)  # the images are the caller's
                yield (self.perturbation(batch, indices) if self.perturbation else batch), indices


def inputs_of(batch: object) -> Tensor:
    """The inputs of a batch, which may hold labels too."""
    inputs = batch[0] if isinstance(batch, (tuple, list)) else batch
    if isinstance(batch, Mapping):
        floating = {key: value for key, value in batch.items() if isinstance(value, Tensor) and value.is_floating_point()}
        named = {key: value for key, value in floating.items() if not str(key).startswith(("label", "target"))}
        if len(named) != 1:
            raise DataError(
                f"measure: a batch must hold one floating-point tensor of inputs; got "
                f"{', '.join(map(str, batch))}. Leave the others out."
            )
        (inputs,) = named.values()
    if not isinstance(inputs, Tensor) or not inputs.dtype.is_floating_point:
        kind = inputs.dtype if isinstance(inputs, Tensor) else type(inputs).__name__
        raise DataError(f"measure: batches must hold floating-point inputs; got {kind}. Add transforms.ToTensor().")
    return inputs
