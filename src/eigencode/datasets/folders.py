"""Folders of pictures: one folder for each class, or pictures without labels."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from eigencode._arguments import checked
from eigencode._readers.files import open_regular
from eigencode._torchvision import import_torchvision
from eigencode.datasets.images import UNLABELLED, ImageSet, random_subset
from eigencode.datasets.preprocessing import Preprocessing
from eigencode.errors import DataError, FileError, ReliabilityWarning

_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP")
_ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_MOST_PIXELS = 2**26

_LUMINANCE = (0.299, 0.587, 0.114)
"""Of red, green and blue in grey (ITU-R BT.601)."""


class ImageFolder(Dataset[tuple[Tensor, int]]):
    """Pictures in a folder, in RGB and [0, 1], turned as their EXIF orientation says; each is read when it is asked for.

    Classes are the folders in it, in the order of their names; where all are numbers, in the order of these. Hidden folders
    are none. Pictures in no folder have no labels.

    Args:
        path: Folder.
        count: Size of a random subset; default: all, in their own order.
        seed: Seed of the subset.
        preprocessing: How pictures are brought to one size. Default: they have one.
        classes: Names of all classes in the order of a network's outputs, where the folders are some of these.
        grey: One channel, the luminance, in place of three.

    Attributes:
        labels: Class of each picture, int64, -1 where unknown.
        classes: Names of the classes; empty if there are none.
        name: Where they come from.

    Raises:
        DataError: no folder, none or unlike pictures in it, a class that is not among ``classes``, or one that cannot be read.
    """

    @checked(DataError)
    def __init__(
        self,
        path: str | Path,
        *,
        count: int | None = None,
        seed: int = 0,
        preprocessing: Preprocessing | None = None,
        classes: Sequence[str] | None = None,
        grey: bool = False,
    ) -> None:
        path = Path(os.path.expanduser(path))
        if not os.path.isdir(path):
            raise DataError(f"image_folder: {path} is not a folder. Check the path.")
        _refuse_circles(path)
        self.name, self.preprocessing, self.grey = f"image_folder:{path}", preprocessing, grey
        found, self.classes = _labelled(path)
        chosen = range(len(found)) if count is None else random_subset(len(found), count, seed=seed, name=self.name).tolist()
        self._files = [found[index][0] for index in chosen]
        self.labels = torch.tensor([found[index][1] for index in chosen])
        self._shape: tuple[int, int, int] | None = None
        if classes is not None:
            self.number(classes)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """A picture, shape (3, height, width), and its class."""
        image = self._image(index)
        if tuple(image.shape) != self.shape:
            raise DataError(
                f"image_folder: images must have one size; got {self.shape[1:]} and {tuple(image.shape[1:])} "
                f"({self._files[index]}). Pass --image_size or --transform."
            )
        return image, int(self.labels[index])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the first picture, which the others must have too."""
        if self._shape is None:
            channels, height, width = self._image(0).shape
            self._shape = channels, height, width
        return self._shape

    def number(self, classes: Sequence[str]) -> None:
        """Gives each picture the place of its class among all classes of a network.

        Raises:
            DataError: a folder whose name is not among them.
        """
        if not self.classes:
            raise DataError(f"{self.name}: the pictures lie in no folders of classes, so they have no labels to be numbered.")
        places = {name: number for number, name in enumerate(classes)}
        if unknown := [name for name in self.classes if name not in places]:
            raise DataError(f"{self.name}: the folder {unknown[0]!r} is not one of the {len(places)} classes given. Add it.")
        numbers = torch.tensor([places[name] for name in self.classes])
        self.labels, self.classes = numbers[self.labels], tuple(classes)

    def forget_labels(self) -> None:
        """Leaves the pictures without labels: what a network calls their classes is not known."""
        self.labels, self.classes = torch.full_like(self.labels, UNLABELLED), ()

    def in_memory(self) -> ImageSet:
        """All pictures at once."""
        inputs = torch.empty(len(self), *self.shape)
        for index in range(len(self)):
            inputs[index] = self[index][0]
        return ImageSet(inputs, self.labels, self.name)

    def _image(self, index: int) -> Tensor:
        try:
            pixels = _pixels(self._files[index], self.preprocessing)
        except FileError as error:
            raise DataError(f"image_folder: {error}") from None
        return (pixels * pixels.new_tensor(_LUMINANCE)[:, None, None]).sum(dim=0, keepdim=True) if self.grey else pixels


@cache
def imagenet_synsets() -> tuple[str, ...]:
    """Names of ImageNet's 1000 classes as its folders have them, in the order of networks' outputs."""
    return tuple(resources.files("eigencode.datasets").joinpath("imagenet_synsets.txt").read_text().split())


def read_classes(path: Path) -> tuple[str, ...]:
    """Names of classes from a text file, one on each line, in the order of a network's outputs; what follows a blank is left out.

    Raises:
        DataError: no such file, no text, or a name that comes twice.
    """
    try:
        with open_regular(path) as file:
            text = file.read(2**24).decode("utf-8")
    except FileError as error:
        raise DataError(f"classes: {error}") from None
    except UnicodeDecodeError:
        raise DataError(f"classes: {path} is not text. Write one class on each line.") from None
    names = [line.split()[0] for line in text.splitlines() if line.strip()]
    if not names:
        raise DataError(f"classes: {path} is empty. Write one class on each line.")
    if len(set(names)) < len(names):
        twice = next(name for number, name in enumerate(names) if name in names[:number])
        raise DataError(f"classes: {path} has {twice!r} more than once. Write each class once.")
    return tuple(names)


def _labelled(path: Path) -> tuple[list[tuple[str, int]], tuple[str, ...]]:
    """Pictures with the numbers of their classes, and the names of these."""
    classes = sorted(name for name in os.listdir(path) if os.path.isdir(path / name) and not name.startswith("."))
    if not classes:
        flat = [(picture, UNLABELLED) for picture in _pictures(path)]
        if not flat:
            raise DataError(f"image_folder: {path} must hold images, or one folder of images for each class. Arrange it so.")
        return flat, ()
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
    return found, tuple(classes)


def _pictures(folder: Path) -> Iterator[str]:
    """Files in a folder and those below it whose names end as pictures do, in the order of their names; hidden ones are none."""
    found = []
    for place, names, files in os.walk(folder, followlinks=True):
        names[:] = [name for name in names if not name.startswith(".")]
        found += [(place, file) for file in sorted(files) if file.lower().endswith(_ENDINGS) and not file.startswith(".")]
    yield from (os.path.join(place, file) for place, file in sorted(found))


def _pixels(path: str, preprocessing: Preprocessing | None) -> Tensor:
    """A picture, shape (3, height, width), in [0, 1]."""
    picture = _picture(path)
    cut = picture if preprocessing is None else preprocessing.apply(picture)
    if isinstance(cut, Tensor):
        return cut.clamp(0, 1)
    pixels: Tensor = import_torchvision("transforms").ToTensor()(cut)
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
        f"{path} has numbers without a known range (mode {mode}). Save it as PNG with 8 or 16 bits, or as tensors:PATH in [0, 1]."
    )


def _refuse_circles(path: Path) -> None:
    """Refuses links to a folder that they are in, which would be followed for ever."""
    for folder, names, _files in os.walk(path, followlinks=True):
        inside = os.path.realpath(folder)
        for name in names:
            linked = os.path.join(folder, name)
            if os.path.islink(linked) and f"{inside}/".startswith(f"{os.path.realpath(linked)}/"):
                raise DataError(f"image_folder: {linked} is a link to a folder that it is in. Remove it.")
