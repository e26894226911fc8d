"""Batches for members side by side, each in an order of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from eigencode._arguments import shown
from eigencode._digests import digest_of
from eigencode.datasets.images import UNLABELLED, ImageSet
from eigencode.errors import TrainingError

_DEVICE_SHARE = 0.5
"""Images stay on a device when they take less than this share of its free memory."""


def _class_of(label: Any) -> int:
    """A Dataset's label as a class.

    Raises:
        TrainingError: it is none.
    """
    try:
        number = int(label)
        if number != label or number < 0 or isinstance(label, bool):
            raise ValueError
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise TrainingError(
            f"Labels of a Dataset must be classes, whole numbers from 0 on; got {shown(label)}. Fix them."
        ) from None
    return number


def _pair(item: Any) -> tuple[Any, int]:
    """Input and class of an item of a Dataset."""
    if not isinstance(item, (tuple, list)) or len(item) < 2 or not isinstance(item[0], (Tensor, np.ndarray)):
        kind = f"({', '.join(type(each).__name__ for each in item)})" if isinstance(item, (tuple, list)) else type(item).__name__
        raise TrainingError(
            f"Items of a Dataset must be a tensor of an image and its label; got {kind}. Add a transform to tensors."
        )
    return item[0], _class_of(item[1])


class Batches:
    """Images and labels, kept on the device where they fit.

    Args:
        images: ImageSet, or map-style Dataset of (input, label).
        device: Where batches are wanted.

    Raises:
        TrainingError: no images, or labels that are missing.
    """

    def __init__(self, images: ImageSet | Dataset[tuple[Tensor, int]], device: torch.device) -> None:
        self._device = device
        if isinstance(images, ImageSet):
            if bool((images.labels == UNLABELLED).any()):
                raise TrainingError(f"{images.name}: training needs labels, and some are missing. Add them.")
            fits = device.type == "cpu" or images.inputs.nbytes < _DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]
            self._inputs: Tensor | None = images.inputs.to(device) if fits else images.inputs
            self._labels, self._dataset, self.size = images.labels.to(self._inputs.device), None, len(images)
        elif isinstance(cast(Any, images), (Tensor, np.ndarray, str, bytes, Mapping)) or not hasattr(images, "__getitem__"):
            raise TrainingError(
                f"Images must be an ImageSet or a map-style Dataset; got {type(images).__name__}. Pass a DataLoader's "
                "`dataset`, or ImageSet(inputs, labels)."
            )
        else:
            try:
                self._inputs, self._labels, self._dataset, self.size = None, torch.empty(0), images, len(images)  # type: ignore[arg-type]
            except TypeError:
                raise TrainingError(
                    f"Images must be an ImageSet or a map-style Dataset with a length; got {type(images).__name__}."
                ) from None
        if self.size == 0:
            raise TrainingError("There are no images to train on.")

    def fingerprint(self) -> str:
        """Hash of the images and labels; of a Dataset, its length and kind alone."""
        if self._inputs is None:
            return f"{type(self._dataset).__name__} of {self.size}"
        return digest_of({"inputs": self._inputs, "labels": self._labels})

    def largest_label(self) -> int:
        """Largest class of an ImageSet; -1 for a Dataset, which is not read beforehand."""
        return -1 if self._inputs is None else int(self._labels.max())

    def gather(self, indices: Tensor, seeds: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
        """Inputs (K, n, ...) and labels (K, n) at indices (K, n).

        Random transforms of a Dataset draw from torch's generator, set to each member's seed if ``seeds`` are given.
        """
        flat = indices.flatten()
        if self._dataset is not None:
            items = []
            with torch.random.fork_rng(devices=[]):
                for member, own in enumerate(indices.tolist()):
                    if seeds is not None:
                        torch.manual_seed(seeds[member])
                    items += [_pair(self._dataset[index]) for index in own]
            inputs, labels = default_collate(items)
        else:
            assert self._inputs is not None
            flat = flat.to(self._inputs.device)
            inputs, labels = self._inputs[flat], self._labels[flat]
        inputs, labels = inputs.to(self._device), labels.to(self._device)
        return inputs.unflatten(0, indices.shape), labels.unflatten(0, indices.shape)

    def epoch(self, seeds: Sequence[int], epoch: int, batch_size: int) -> Iterator[Tensor]:
        """Indices (K, n) of an epoch's batches, each member's in a random order that its seed and the epoch decide."""
        orders = torch.stack([permutation(self.size, seed=seed, epoch=epoch) for seed in seeds])
        yield from orders.split(batch_size, dim=1)


def permutation(size: int, *, seed: int, epoch: int) -> Tensor:
    """Random order of an epoch, a function of seed and epoch alone."""
    return torch.randperm(size, generator=generator_for(seed, epoch))


def generator_for(seed: int, number: int) -> torch.Generator:
    """A generator of its own for each pair of a seed and a number."""
    return torch.Generator().manual_seed(seed_for(seed, number))


def seed_for(seed: int, number: int) -> int:
    """A seed of its own for each pair of a seed and a number."""
    return (seed * 0x9E3779B97F4A7C15 + number * 0xD1B54A32D192ED03) % 2**63
