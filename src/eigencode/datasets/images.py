"""Images as tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from eigencode._arguments import check_fields, checked
from eigencode.errors import DataError

UNLABELLED = -1
"""Label of an image whose class is not known."""


@dataclass(frozen=True, repr=False)
class ImageSet:
    """Images in [0, 1] with their labels.

    Attributes:
        inputs: Shape (n, channels, height, width), float32, values in [0, 1].
        labels: Shape (n,), int64; -1 where unknown.
        name: Where they come from, e.g. "mnist/test".

    Example:
        >>> ImageSet(torch.rand(5, 1, 8, 8), torch.arange(5)).subset(3, seed=0).inputs.shape
        torch.Size([3, 1, 8, 8])
    """

    inputs: Tensor
    labels: Tensor
    name: str = "images"

    def __post_init__(self) -> None:
        """Checks shapes, types and range.

        Raises:
            DataError: one of them is off; the message says how to fix it.
        """
        check_fields(self, DataError)
        inputs, labels = self.inputs, self.labels
        if inputs.ndim != 4:
            raise DataError(
                f"{self.name}: images must have shape (n, channels, height, width); got {tuple(inputs.shape)}. Reshape them."
            )
        if inputs.dtype == torch.uint8:
            raise DataError(
                f"{self.name}: images must be float32 in [0, 1]; got uint8. Use ImageSet.from_uint8, or divide by 255."
            )
        if inputs.dtype != torch.float32:
            raise DataError(
                f"{self.name}: images must be float32; got {str(inputs.dtype).removeprefix('torch.')}. Convert them: .float() of "
                "a tensor, .astype('float32') of an array."
            )
        if len(inputs) == 0:
            raise DataError(f"{self.name}: there are no images.")
        if inputs.numel() == 0:
            raise DataError(f"ImageSet: images must have pixels; got shape {tuple(inputs.shape)}. Pass others.")
        low, high = (float(value) for value in inputs.aminmax())
        if not (low >= 0 and high <= 1):
            remedy = "Divide by 255." if low >= 0 and 1 < high <= 255 else "Undo any normalisation; the model applies its own."
            if low != low or high != high:
                remedy = "Replace the NaN values."
            elif self.name.startswith("tensors:"):
                remedy += " What is no image is measured from Python: ec.measure(model, inputs)."
            raise DataError(f"{self.name}: images must lie in [0, 1]; got values from {low:.4g} to {high:.4g}. {remedy}")
        if whole_labels(labels, len(inputs), name=self.name) is not labels:
            raise DataError(
                f"{self.name}: labels must be int64; got {str(labels.dtype).removeprefix('torch.')}. Convert with .long()."
            )

    @classmethod
    @checked(DataError)
    def from_uint8(cls, pixels: Tensor, labels: Tensor | None = None, *, name: str = "images") -> ImageSet:
        """Images from 8-bit pixels (n, channels, height, width), divided by 255."""
        if pixels.dtype != torch.uint8:
            raise DataError(
                f"{name}: pixels must be uint8; got {str(pixels.dtype).removeprefix('torch.')}. Use ImageSet(inputs, labels) for "
                "images in [0, 1]."
            )
        return cls.unlabelled(pixels.to(torch.float32) / 255, labels, name=name)

    @classmethod
    @checked(DataError)
    def unlabelled(cls, inputs: Tensor, labels: Tensor | None = None, *, name: str = "images") -> ImageSet:
        """Images in [0, 1] whose labels may be missing; missing ones become -1."""
        if labels is None:
            labels = torch.full(inputs.shape[:1], UNLABELLED)
        return cls(inputs, whole_labels(labels, len(inputs), name=name) if inputs.ndim else labels, name)

    def __len__(self) -> int:
        return len(self.inputs)

    def __repr__(self) -> str:
        return f"ImageSet of {len(self)} images {self.shape} from {self.name}"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        channels, height, width = self.inputs.shape[1:]
        return channels, height, width

    def cpu(self) -> ImageSet:
        """The same images in the computer's memory; itself if they are there."""
        if not self.inputs.is_cuda and not self.labels.is_cuda:
            return self
        return ImageSet(self.inputs.cpu(), self.labels.cpu(), self.name)

    @checked(DataError)
    def subset(self, count: int | None, *, seed: int = 0) -> ImageSet:
        """A random subset without replacement, in random order; everything, in its own order, for None.

        Args:
            count: Number of images.
            seed: Seed of the choice.

        Returns:
            ImageSet of ``count`` images.

        Raises:
            DataError: ``count`` is below 1 or above the number of images.
        """
        if count is None:
            return self
        chosen = random_subset(len(self), count, seed=seed, name=self.name)
        return ImageSet(self.inputs[chosen], self.labels[chosen], self.name)


def whole_labels(labels: Tensor, count: int, *, name: str) -> Tensor:
    """Labels as int64, refused where a cast would change them.

    Args:
        labels: Whole numbers of at least -1 (unknown), of any type but bool, shape (count,).
        count: Number of images.
        name: What error messages call the data.

    Returns:
        The labels, int64.

    Raises:
        DataError: another shape, or values that are not classes.
    """
    kind = str(labels.dtype).removeprefix("torch.")
    if labels.ndim == 2 and len(labels) == count and labels.shape[1] > 1:
        raise DataError(
            f"{name}: labels must be one class for each image; got shape {tuple(labels.shape)}, one-hot rows or scores. "
            "Turn them into classes with labels.argmax(1)."
        )
    if labels.shape != (count,):
        raise DataError(f"{name}: labels must be one class for each of {count} images; got shape {tuple(labels.shape)}.")
    if labels.dtype == torch.bool or labels.is_complex():
        raise DataError(f"{name}: labels must be whole numbers; got {kind}. Number the classes from 0.")
    if labels.dtype == torch.int64:
        cast = labels
    else:
        cast = labels.to(torch.int64)
        if bool((wrong := cast.to(labels.dtype) != labels).any()):  # NaN differs from itself
            value = labels[wrong][0].item()
            raise DataError(f"{name}: labels must be whole numbers; got {value:g}. Number the classes from 0.")
    if count and (least := int(cast.min())) < UNLABELLED:
        raise DataError(f"{name}: labels must be classes from 0 on, or {UNLABELLED} where unknown; got {least}.")
    return cast


def random_subset(available: int, count: int, *, seed: int, name: str) -> Tensor:
    """Indices of a random subset without replacement, in random order.

    Args:
        available: Number of images there are.
        count: Number to choose.
        seed: Seed of the choice.
        name: What error messages call the data.

    Returns:
        Indices, int64, shape (count,).

    Raises:
        DataError: ``count`` is below 1 or above ``available``.
    """
    if not 1 <= count <= available:
        raise DataError(f"{name}: `count` must lie between 1 and {available}, the images there are; got {count}.")
    return torch.randperm(available, generator=torch.Generator().manual_seed(seed))[:count]
