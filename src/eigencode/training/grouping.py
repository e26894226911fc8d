"""Groups of networks trained as one stack: how many, and what happens to one that diverges."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from eigencode.activations import model_device, trace
from eigencode.datasets.images import ImageSet
from eigencode.errors import ActivationError, DivergenceError, TrainingError
from eigencode.training.loop import Progress, train
from eigencode.training.networks import bytes_kept, stackable
from eigencode.training.settings import MemberSettings, Settings

_SMALL_STEP = 3e7
"""Parameters times images of a batch below which a CPU spends its time between the operations: stacking pays there. Above, one
network after the other stays in the processor's cache and is faster."""

_MOST_ON_CPU = 20
_MOST_LOCAL_ON_GPU = 200
"""Networks of a stack with local errors, whose steps are so small that memory hardly limits them."""

_MEMORY_SHARE = 0.3
"""Of the device's memory, for one stack: several processes may share it."""

_COPIES = 6
"""Tensors of the size of the parameters that a step holds: weights, gradients, two moments, temporaries."""

_WITH_GRADIENTS = 2
"""What back-propagation keeps, and gradients of the same size."""

_CLASSES = 10
"""Rows of an exact Jacobian: classes of the papers' data sets."""


def group_size(
    model: nn.Module, images: ImageSet, settings: Settings, *, device: str, asked: int | None, jacobian: bool = False
) -> int:
    """Networks that are trained as one stacked program: as many as memory allows, and no more than is fast.

    Args:
        model: One of the networks.
        images: Training images.
        settings: Shared settings.
        device: Where training runs.
        asked: What the user asks for.
        jacobian: Whether any has a Jacobian penalty, whose gradient is differentiated again.

    Returns:
        At least 1.

    Raises:
        TrainingError: fewer than 1 asked for.
    """
    if asked is not None:
        if asked < 1:
            raise TrainingError(f"`stack` is a number of networks, at least 1; got {asked}.")
        return asked
    is_local = settings.rule != "backpropagation"
    if not is_local and not stackable(model):
        return 1
    parameters = sum(parameter.numel() for parameter in model.parameters())
    batch = min(settings.batch_size, len(images))
    if device == "cpu":
        most = _MOST_ON_CPU if is_local or parameters * batch < _SMALL_STEP else 1
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    else:
        most = _MOST_LOCAL_ON_GPU if is_local else sys.maxsize
        _, whole = torch.cuda.mem_get_info(device)  # not what is free: a run that is started again groups as before
    if most == 1:
        return 1
    image = images.inputs[:1].to(model_device(model))
    try:
        trace(model, image, head=False)
    except ActivationError:  # told when it is run
        return 1
    each = bytes_of_step(parameters, image.nbytes, bytes_kept(model, image), batch, settings, jacobian=jacobian)
    return max(1, min(most, int(_MEMORY_SHARE * whole / each)))


def bytes_of_step(parameters: int, image: int, kept: int, batch: int, settings: Settings, *, jacobian: bool) -> int:
    """Bytes that a training step of one network holds, roughly.

    Args:
        parameters: Number of its parameters.
        image: Bytes of an image.
        kept: Bytes that back-propagation keeps for an image.
        batch: Images of a batch.
        settings: Shared settings.
        jacobian: Whether it has a Jacobian penalty, whose gradient is differentiated again.

    Returns:
        Bytes.
    """
    passes = 1 + jacobian_rows(settings) if jacobian else 1
    return 4 * _COPIES * parameters + batch * (image + _WITH_GRADIENTS * passes * kept)


def jacobian_rows(settings: Settings) -> int:
    """Gradients of the input that a Jacobian penalty takes for each image; all are kept, to be differentiated again."""
    return {"exact": _CLASSES, "projected": settings.jacobian.projections}.get(settings.jacobian.kind, 1)


@dataclass
class Trained:
    """What training a group of networks left.

    Attributes:
        networks: Cell -> trained network, in evaluation mode.
        histories: Cell -> its rows of ``Training.history``.
        failed: Cell -> why its training stopped.
    """

    networks: dict[MemberSettings, nn.Module] = field(default_factory=dict)
    histories: dict[MemberSettings, pd.DataFrame] = field(default_factory=dict)
    failed: dict[MemberSettings, str] = field(default_factory=dict)

    def add(self, other: Trained) -> None:
        """Takes up another group."""
        self.networks |= other.networks
        self.histories |= other.histories
        self.failed |= other.failed


def train_group(
    network_for: Callable[[MemberSettings], nn.Module],
    images: ImageSet,
    *,
    settings: Settings,
    cells: Sequence[MemberSettings],
    held_out: ImageSet | None = None,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Trains a group of networks; if one diverges, each is trained alone, which changes nothing for the others.

    Args:
        network_for: Cell -> network with its initial weights, on the device where training runs.
        images: Training images with labels.
        settings: What all networks share.
        cells: What is each network's own.
        held_out: Images for accuracy and exponents after each epoch.
        checkpoint: File for the group's state; networks trained alone get files beside it.
        progress: Called after each step.

    Returns:
        Trained.

    Raises:
        TrainingError: see ``train``.
    """
    again = partial(train_group, network_for, images, settings=settings, held_out=held_out, progress=progress)
    try:
        run = train(
            [network_for(cell) for cell in cells],
            images,
            settings=settings,
            cells=cells,
            held_out=held_out,
            checkpoint=checkpoint,
            progress=progress,
        )
    except DivergenceError as error:
        if len(cells) == 1:
            return Trained(failed={cells[0]: str(error)})
        trained = Trained()
        for number, cell in enumerate(cells):
            own = checkpoint and checkpoint.with_name(f"{checkpoint.stem}-{number:03d}{checkpoint.suffix}")
            trained.add(again(cells=[cell], checkpoint=own))
        return trained
    histories = {cell: run.history[run.history["member"] == number] for number, cell in enumerate(cells)}
    return Trained(dict(zip(cells, run.models, strict=True)), histories)
