"""What several commands need: the folder for results, what measuring is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from eigencode.commands.options import NetworkAndImages, SpectraOfLayers, TrainConfig
from eigencode.commands.parsing import parse_names
from eigencode.commands.progress import tell
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
    own = config.model is not None and config.model.startswith(("file:", "module:", "hf:"))
    known = own if config.weights is None else config.weights != "random"
    return f"{config.model}" if known else f"{config.model} (random weights)"


def measuring_settings(config: SpectraOfLayers) -> dict[str, Any]:
    """Arguments that ``measure`` and ``perturbed_spectra`` share."""
    given = {item.name: getattr(config, item.name) for item in fields(MeasuringSettings)}
    return given | {"layers": parse_names(config.layers, "layers")}
