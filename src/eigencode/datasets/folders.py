"""Folders of pictures: one folder for each class, or pictures without labels."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eigencode._readers.files import open_regular
from eigencode._torchvision import import_torchvision
from eigencode.datasets.images import UNLABELLED, ImageSet, random_subset
from eigencode.errors import DataError, FileError, ReliabilityWarning

_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP")
_ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_MOST_PIXELS = 2**26


def image_folder(path: Path, *, count: int | None, seed: int, image_size: int | None) -> ImageSet:
    """Pictures in a folder, in RGB and [0, 1], turned as their EXIF orientation says.

    Classes are the folders in it, in the order of their names; where all are numbers, in the order of these. Hidden folders
    are none. Pictures in no folder have no labels.

    Args:
        path: Folder.
        count: Size of a random subset; default: all.
        seed: Seed of the subset.
        image_size: The shorter side is resized to this, and the centre square is cut out.

    Raises:
        DataError: no folder, none or unlike pictures in it, or one that cannot be read.
    """
    if not os.path.isdir(path):
        raise DataError(f"image_folder: {path} is not a folder. Check the path.")
    _refuse_circles(path)
    found = _labelled(path)
    name = f"image_folder:{path}"
    chosen = range(len(found)) if count is None else random_subset(len(found), count, seed=seed, name=name).tolist()
    images: list[Tensor] = []
    for index in chosen:
        try:
            image = _pixels(found[index][0], image_size)
        except FileError as error:
            raise DataError(f"image_folder: {error}") from None
        if images and image.shape != images[0].shape:
            raise DataError(
                f"image_folder: images must have one size; got {tuple(images[0].shape[1:])} and {tuple(image.shape[1:])} "
                f"({found[index][0]}). Pass --image_size."
            )
        images.append(image)
    return ImageSet(torch.stack(images), torch.tensor([found[index][1] for index in chosen]), name)


def _labelled(path: Path) -> list[tuple[str, int]]:
    """Pictures with the numbers of their classes."""
    classes = sorted(name for name in os.listdir(path) if os.path.isdir(path / name) and not name.startswith("."))
    if not classes:
        flat = [(picture, UNLABELLED) for picture in _pictures(path)]
        if not flat:
            raise DataError(f"image_folder: {path} must hold images, or one folder of images for each class. Arrange it so.")
        return flat
    shown = [name for name in sorted(os.listdir(path)) if not name.startswith(".")]
    if beside := [name for name in shown if name.lower().endswith(_ENDINGS) and os.path.isfile(path / name)]:
        raise DataError(f"image_folder: {path} holds images beside folders of classes, such as {beside[0]}. Move one of them.")
    if all(name.isdecimal() for name in classes):
        classes.sort(key=int)
        numbers = [int(name) for name in classes]
        if numbers != list(range(len(classes))):
            warnings.warn(
                f"image_folder: the folders of {path} are numbered {numbers[0]} to {numbers[-1]}; their labels are 0 to "
                f"{len(classes) - 1} in this order.",
                ReliabilityWarning,
                stacklevel=4,
            )
    found = []
    for label, name in enumerate(classes):
        own = [(picture, label) for picture in _pictures(path / name)]
        if not own:
            raise DataError(f"image_folder: {path / name} has no images. Remove it, or fill it.")
        found += own
    return found


def _pictures(folder: Path) -> Iterator[str]:
    """Files in a folder and those below it whose names end as pictures do, in the order of their names; hidden ones are none."""
    found = []
    for place, names, files in os.walk(folder, followlinks=True):
        names[:] = [name for name in names if not name.startswith(".")]
        found += [(place, file) for file in sorted(files) if file.lower().endswith(_ENDINGS) and not file.startswith(".")]
    yield from (os.path.join(place, file) for place, file in sorted(found))


def _pixels(path: str, image_size: int | None) -> Tensor:
    """A picture, shape (3, height, width), in [0, 1]."""
    transforms = import_torchvision("transforms")
    picture = _picture(path)
    steps = [transforms.Resize(image_size), transforms.CenterCrop(image_size)] if image_size else []
    if isinstance(picture, Tensor):
        resized: Tensor = transforms.Compose(steps)(picture)
        return resized.clamp(0, 1)
    pixels: Tensor = transforms.Compose([*steps, transforms.ToTensor()])(picture)
    return pixels


def _picture(path: str) -> Any:
    """A picture in RGB, of the formats that a folder may hold alone: others start programs to be drawn.

    Returns:
        A picture with 8 bits for each channel; a tensor (3, height, width) in [0, 1] of one with 16.

    Raises:
        FileError: no picture of these formats, a damaged one, one too large, or one whose range is not known.
    """
    from PIL import Image, ImageOps

    with open_regular(Path(path)) as file:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of its size, which is looked at here, and of metadata
                picture = Image.open(file, formats=_FORMATS)
                mode = picture.mode
                if picture.width * picture.height > _MOST_PIXELS:
                    raise Image.DecompressionBombError
                if mode.startswith("I;16"):
                    grey = np.asarray(ImageOps.exif_transpose(picture)).astype(np.float32) / (2**16 - 1)
                    return torch.from_numpy(grey).expand(3, -1, -1).contiguous()
                if mode not in ("I", "F"):
                    return ImageOps.exif_transpose(picture).convert("RGB")
        except Image.DecompressionBombError:
            raise FileError(f"{path} has more than {_MOST_PIXELS} pixels. Make it smaller.") from None
        except Exception as error:  # damaged pictures fail in any way
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise FileError(f"{path} is not a readable image ({reason}). Remove it.") from None
    raise FileError(
        f"{path} has numbers without a known range (mode {mode}). Save it with 8 or 16 bits, or as tensors:PATH in [0, 1]."
    )


def _refuse_circles(path: Path) -> None:
    """Refuses links to a folder that they are in, which would be followed for ever."""
    for folder, names, _files in os.walk(path, followlinks=True):
        inside = os.path.realpath(folder)
        for name in names:
            linked = os.path.join(folder, name)
            if os.path.islink(linked) and f"{inside}/".startswith(f"{os.path.realpath(linked)}/"):
                raise DataError(f"image_folder: {linked} is a link to a folder that it is in. Remove it.")
