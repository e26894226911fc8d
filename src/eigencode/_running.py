"""Where a network runs, and why it cannot."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from eigencode.errors import ModelError

_MISFIT = re.compile(
    r"shapes? cannot|(must|should) (match|be the same|have the same|be equal|contain)|(input|output) size|to have \d+ channels"
    r"|invalid for input|expected \dD|expected input with shape|scalar types|multiply up to",
    re.IGNORECASE,
)
"""How torch says that sizes or types do not fit."""

_MAPS = 4
"""Dimensions of a batch of images: n, channels, height, width."""


def usable_device(asked: str | torch.device | None, *, written: str = "--device") -> str:
    """The device asked for, else CUDA where there is one.

    Raises:
        ModelError: it cannot be used here.
    """
    device = str(asked or ("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        torch.ones(1, dtype=torch.float64, device=device).item()  # which a device that holds no numbers cannot
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ModelError(f"{written} {device} cannot be used ({str(error).splitlines()[0]}). Choose another.") from None
    return device


def does_not_fit(error: Exception) -> bool:
    """Whether torch refuses sizes or types of tensors, and not for want of memory or for a fault of the device."""
    return not isinstance(error, torch.OutOfMemoryError) and _MISFIT.search(str(error)) is not None


def cannot_run(model: nn.Module, inputs: Tensor, error: Exception) -> str:
    """A sentence on a network that raised an error when it was given images."""
    said = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    dtype = next((weight.dtype for weight in model.parameters() if weight.is_floating_point()), inputs.dtype)
    if inputs.dtype != dtype:
        kinds = [str(kind).removeprefix("torch.") for kind in (inputs.dtype, dtype)]
        return f"The network cannot run on {kinds[0]}: its weights are {kinds[1]} ({said}). Convert the images to {kinds[1]}."
    first = "; channels come first" if inputs.ndim == _MAPS else ""
    return (
        f"The network cannot run on images of shape {tuple(inputs.shape[1:])} ({said}). Use images of the size and channels it "
        f"was made for{first}."
    )
