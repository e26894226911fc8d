"""How pictures are cut to one size before a network sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from eigencode._arguments import check_fields
from eigencode._torchvision import import_torchvision
from eigencode.errors import DataError

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]


@dataclass(frozen=True)
class Preprocessing:
    """Resizing and cutting; the values of pixels, and their normalisation, are the network's own affair.

    Attributes:
        resize: The shorter side becomes so many pixels.
        crop: Side of the square that is cut out of the centre.
        interpolation: How pixels are made when resizing: bilinear, bicubic, nearest, lanczos.
        squash: Both sides become so many pixels, whatever the picture's own.

    Raises:
        DataError: sides below one pixel, or a square that is larger than the resized picture.
    """

    resize: int
    crop: int
    interpolation: Interpolation = "bilinear"
    squash: bool = False

    def __post_init__(self) -> None:
        """Checks what types cannot."""
        check_fields(self, DataError)
        if not 1 <= self.crop <= self.resize:
            raise DataError(f"Preprocessing: `crop` must lie between 1 and `resize`, {self.resize}; got {self.crop}.")

    def __str__(self) -> str:
        side = "both sides" if self.squash else "shorter side"
        return f"{side} {self.resize} ({self.interpolation}), centre {self.crop} x {self.crop}"

    @property
    def without_margin(self) -> Preprocessing:
        """The same for pictures that are squares already: resized, and nothing is cut away."""
        return Preprocessing(self.crop, self.crop, self.interpolation, self.squash)

    def apply(self, picture: Any) -> Any:
        """A picture (PIL, or a tensor (channels, height, width)) resized and cut."""
        transforms = import_torchvision("transforms")
        mode = transforms.InterpolationMode(self.interpolation)
        size = [self.resize, self.resize] if self.squash else self.resize
        steps = [transforms.Resize(size, interpolation=mode), transforms.CenterCrop(self.crop)]
        return transforms.Compose(steps)(picture)


NAMED = {"imagenet": Preprocessing(256, 224)}
"""The usual evaluation on ImageNet: shorter side 256, centre 224."""


def preprocessing(name: str) -> Preprocessing:
    """Preprocessing by name.

    Raises:
        DataError: there is none of this name.
    """
    if name not in NAMED:
        known = ", ".join((*NAMED, "model", "resize"))
        raise DataError(
            f"transform: there is no preprocessing {name!r}. Use one of {known}, the last two of which are the network's."
        )
    return NAMED[name]
