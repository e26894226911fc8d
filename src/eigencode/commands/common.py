"""What several commands need: the device, images, the network, the folder for results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from torch import nn

from eigencode import datasets, models
from eigencode.commands.options import NetworkAndImages, SpectraOfLayers, TrainConfig
from eigencode.commands.parsing import parse_names
from eigencode.commands.progress import tell
from eigencode.datasets import ImageSet
from eigencode.errors import DataError
from eigencode.measurement.settings import MeasuringSettings
from eigencode.reports import claimed, contents_of

STATES = "states"
"""Folder in that of the results for unfinished training."""


@contextmanager
def results_folder(config: NetworkAndImages) -> Iterator[Path | None]:
    """The folder that a command is to leave, kept for it until it ends; None if it is to leave none.

    Raises:
        DataError: it cannot be written to, another run has it, or it holds earlier results that are not to be replaced,
            or unfinished training of another command.
    """
    if config.out is None:
        yield None
        return
    folder = Path(config.out)
    if not isinstance(config, TrainConfig) and (folder / STATES).is_dir() and any((folder / STATES).iterdir()):
        raise DataError(
            f"--out: {folder} holds unfinished training, in {STATES}. Give that command again, or name another folder."
        )
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
    """Arguments that ``measure`` and ``perturbed_spectra`` share."""
    given = {item.name: getattr(config, item.name) for item in fields(MeasuringSettings)}
    return given | {"layers": parse_names(config.layers, "layers")}


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
