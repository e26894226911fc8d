"""What several commands need: the device, images, the network, the folder for results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from eigencode import datasets, models
from eigencode._arguments import shown
from eigencode._grammar import MOST_NUMBERS, names_in, numbers_in
from eigencode.commands.options import NetworkAndImages, SpectraOfLayers
from eigencode.commands.progress import tell
from eigencode.datasets import ImageSet
from eigencode.errors import EigencodeError, ModelError, SpectrumError, UsageError
from eigencode.measurement.memory import parse_bytes
from eigencode.reports import claimed, contents_of
from eigencode.spectra.window import Ranks, Window


def parse_ranks(text: Ranks) -> Window:
    """A window by its name, or by two ranks such as ``6-50``.

    Raises:
        UsageError: no such window.
    """
    try:
        return Window.of(text)
    except SpectrumError as error:
        raise UsageError(str(error)) from None


def parse_names(text: str, option: str) -> list[str]:
    """Names that were separated by commas.

    Raises:
        UsageError: none, or one is missing.
    """
    try:
        if names := names_in(text):
            return names
    except ValueError:
        pass
    raise UsageError(f"--{option} must be a name, or several separated by commas; got {text!r}.")


def parse_numbers(given: str | float | list[float], option: str) -> list[float]:
    """Numbers, fractions and ranges that were separated by commas.

    Raises:
        UsageError: something else, a negative number, or more than a thousand.
    """
    try:
        numbers = numbers_in(given)
        if numbers and min(numbers) >= 0:
            return numbers
    except ValueError:
        pass
    raise UsageError(
        f"--{option} must be numbers such as 0,2/255,4/255, or first:last:step such as 0:0.2:0.01, none of them negative, "
        f"{MOST_NUMBERS} at most; got {shown(given)}."
    )


@contextmanager
def results_folder(config: NetworkAndImages) -> Iterator[Path | None]:
    """The folder that a command is to leave, kept for it until it ends; None if it is to leave none.

    Raises:
        DataError: it cannot be written to, another run has it, or it holds earlier results that are not to be replaced.
    """
    if config.out is None:
        yield None
        return
    folder = Path(config.out)
    with claimed(folder, overwrite=config.overwrite, configuration=asdict(config)):
        earlier = contents_of(folder)
        yield folder
        if gone := [name for name in earlier if name not in contents_of(folder)]:
            tell(f"--overwrite removed {', '.join(gone)}, which another run had left in {folder}.")


def network_title(config: NetworkAndImages) -> str:
    """The network's name, and that its weights are random where that is known."""
    own = config.model is not None and config.model.startswith(("file:", "module:"))
    return f"{config.model}" if config.weights or own else f"{config.model} (random weights)"


def measuring_settings(config: SpectraOfLayers) -> dict[str, Any]:
    """Arguments that ``measure`` and ``perturbed_spectra`` share.

    Raises:
        UsageError: layers or a limit that are written otherwise than they can be read.
    """
    names = ("units", "tokens", "batch_size", "memory_limit", "half_samples", "seed")
    try:
        parse_bytes(config.memory_limit)
    except EigencodeError as error:
        raise UsageError(str(error)) from None
    return {"layers": parse_names(config.layers, "layers"), **{name: getattr(config, name) for name in names}}


def usable_device(asked: str | None) -> str:
    """The device asked for, else CUDA where there is one.

    Raises:
        ModelError: it cannot be used here.
    """
    device = asked or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.ones(1, dtype=torch.float64, device=device).item()  # which a device that holds no numbers cannot
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ModelError(f"--device {device} cannot be used ({str(error).splitlines()[0]}). Choose another.") from None
    return device


def load_images(config: NetworkAndImages, *, split: str | None = None, count: int | None = None) -> ImageSet:
    """Images of the configuration; of another split and count if given."""
    return datasets.load(
        config.data,
        split=split or config.split,  # type: ignore[arg-type]
        count=count if split else config.count,
        seed=config.seed,
        root=config.data_root,
        image_size=config.image_size,
    )


def load_model(spec: str, config: NetworkAndImages, images: ImageSet) -> nn.Module:
    """The network of the configuration for images of this shape."""
    return models.load(spec, weights=config.weights, image_shape=images.shape, classes=config.classes, seed=config.seed)
