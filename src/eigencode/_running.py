"""Where a network runs, and why it cannot."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from eigencode._inputs import Inputs
from eigencode.errors import FIT_THE_NETWORK, ModelError

_MISFIT = re.compile(
    r"shapes? cannot|(must|should) (match|be the same|have the same|be equal|contain)|(input|output) size|to have \d+ channels"
    r"|invalid for input|expected \dD|expected input with shape|scalar types|multiply up to",
    re.IGNORECASE,
)
"""How torch says that sizes or types do not fit."""

_TYPES = re.compile(r"dtype|scalar type|\b(Byte|Char|Short|Int|Long|Bool)|Input type|not implemented for")
"""How torch says that types do not fit."""

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


def cannot_run(model: nn.Module, given: Tensor | Inputs, error: Exception) -> str:
    """A sentence on a network that raised an error when it was given inputs."""
    said = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    if has_no_gradient(error):
        return f"No gradient can be followed through this network ({said}). Keep its forward method within PyTorch."
    if isinstance(given, Inputs) and not given.is_tensor:
        return (
            f"The network cannot run on a batch of {_named(given)} ({said}). Pass tensors of the names, types and sizes that its "
            "forward method takes; what cannot be cut into rows, such as a graph, in a list of whole batches."
        )
    inputs = Inputs.of(given).main
    dtype = next((weight.dtype for weight in model.parameters() if weight.is_floating_point()), inputs.dtype)
    kinds = [str(kind).removeprefix("torch.") for kind in (inputs.dtype, dtype)]
    if inputs.dtype != dtype and not inputs.is_floating_point() and _TYPES.search(said):
        remedy = "Use ImageSet.from_uint8, or divide them by 255" if inputs.dtype == torch.uint8 else "Convert them with .float()"
        return f"The network cannot run on {kinds[0]}: its weights are {kinds[1]} ({said}). {remedy}."
    if inputs.dtype != dtype and "dtype" in said:
        return f"The network cannot run on {kinds[0]}: its weights are {kinds[1]} ({said}). Convert the inputs to {kinds[1]}."
    if inputs.is_floating_point() and "indices" in said and "Long" in said:
        return (
            f"The network takes whole numbers, such as the ids of tokens; got {kinds[0]} ({said}). Pass texts as ids of tokens."
        )
    shape = tuple(inputs.shape[1:])
    if isinstance(error, TypeError) and "argument" in said:
        return (
            f"The network does not take one tensor ({said}). Pass a mapping of its arguments by name, or wrap it in a "
            "module whose forward method takes the inputs alone."
        )
    if not isinstance(error, (ValueError, IndexError, AssertionError)) and not does_not_fit(error):
        return f"The network failed on inputs of shape {shape} ({said}). Fix its forward method, or pass what it expects."
    first = "; channels come first" if inputs.ndim == _MAPS else ""
    return f"The network cannot run on inputs of shape {shape} ({said}). {FIT_THE_NETWORK}{first}."


def _named(given: Inputs) -> str:
    """Arguments with their types and shapes."""
    named = [(f"argument {number}", value) for number, value in enumerate(given.args, 1)] + list(given.kwargs.items())
    return ", ".join(
        f"{name} {str(value.dtype).removeprefix('torch.')} {tuple(value.shape[1:])}"
        for name, value in named
        if isinstance(value, Tensor)
    )
