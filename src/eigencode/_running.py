"""Where a network runs, and why it cannot."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from eigencode.errors import ModelError

_MISFIT = re.compile(
    r"shapes? cannot|(must|should) (match|be the same|have the same|be equal|contain)|(input|output) size|to have \d+ channels"
    r"|invalid for input|expected \dD|expected input with shape|scalar types|multiply up to",
    re.IGNORECASE,
)
"""How torch says that sizes or types do not fit."""

_NO_GRADIENT = re.compile(
    r"call numpy\(\) on Tensor that requires grad|Inference tensors cannot be saved|use_reentrant|does not require grad"
)
"""How torch says that a gradient was asked for where there is none."""

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


def has_no_gradient(error: Exception) -> bool:
    """Whether torch says that a gradient was asked for where there is none."""
    return _NO_GRADIENT.search(str(error)) is not None


_MEASURED = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def given_to(model: nn.Module | Callable[..., Any], inputs: Tensor) -> Tensor:
    """Inputs as a network takes them: a copy, since it may work in place, of the type of its weights if they all have one."""
    if not inputs.is_floating_point():
        return inputs.clone()
    parameters = model.parameters() if isinstance(model, nn.Module) else ()
    kinds = {weights.dtype for weights in parameters if weights.is_floating_point()} or {inputs.dtype}
    kind = kinds.pop() if len(kinds) == 1 else inputs.dtype
    return inputs.to(kind, copy=True) if kind in _MEASURED else inputs.clone()


def cannot_run(model: nn.Module, inputs: Tensor, error: Exception) -> str:
    """A sentence on a network that raised an error when it was given images."""
    said = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    if has_no_gradient(error):
        return f"No gradient can be followed through this network ({said}). Keep its forward method within PyTorch."
    dtype = next((weight.dtype for weight in model.parameters() if weight.is_floating_point()), inputs.dtype)
    if inputs.dtype != dtype and "dtype" in said:
        kinds = [str(kind).removeprefix("torch.") for kind in (inputs.dtype, dtype)]
        return f"The network cannot run on {kinds[0]}: its weights are {kinds[1]} ({said}). Convert the images to {kinds[1]}."
    shape = tuple(inputs.shape[1:])
    if isinstance(error, TypeError) and "argument" in said:
        return f"The network does not take one tensor of images ({said}). Wrap it in a module whose forward method does."
    if not isinstance(error, (ValueError, IndexError, AssertionError)) and not does_not_fit(error):
        return f"The network failed on images of shape {shape} ({said}). Fix its forward method, or pass what it expects."
    first = "; channels come first" if inputs.ndim == _MAPS else ""
    return (
        f"The network cannot run on images of shape {shape} ({said}). Use images of the size and channels it was made for{first}."
    )
