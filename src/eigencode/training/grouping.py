"""How many networks are trained as one stacked program."""

from __future__ import annotations

import torch
from torch import nn

from eigencode.datasets.images import ImageSet
from eigencode.errors import TrainingError
from eigencode.training.networks import stackable
from eigencode.training.settings import Settings

_SMALL_STEP = 3e7
"""Parameters times images of a batch below which a CPU spends its time between the operations: stacking pays there. Above, one
network after the other stays in the processor's cache and is faster."""

_MOST_ON_CPU = 20
_MEMORY_SHARE = 0.3
_COPIES = 12
"""Tensors of the size of parameters or activations that a step holds for each network: gradients, moments, temporaries."""


def group_size(model: nn.Module, images: ImageSet, settings: Settings, *, device: str, asked: int | None) -> int:
    """Networks that are trained as one stacked program.

    Args:
        model: One of the networks.
        images: Training images.
        settings: Shared settings.
        device: Where training runs.
        asked: What the user asks for.

    Returns:
        At least 1.

    Raises:
        TrainingError: fewer than 1 asked for, or a network that cannot be stacked.
    """
    if asked is not None:
        if asked < 1:
            raise TrainingError(f"`stack` is a number of networks, at least 1; got {asked}.")
        return asked
    if settings.rule != "backpropagation":
        return _MOST_ON_CPU if device == "cpu" else 10 * _MOST_ON_CPU
    if not stackable(model):
        return 1
    parameters = sum(parameter.numel() for parameter in model.parameters())
    batch = min(settings.batch_size, len(images))
    if device == "cpu":
        return _MOST_ON_CPU if parameters * batch < _SMALL_STEP else 1
    free, _ = torch.cuda.mem_get_info(device)
    each = 4 * _COPIES * (parameters + batch * images.inputs[0].numel() * 10)
    return max(1, int(_MEMORY_SHARE * free / each))
