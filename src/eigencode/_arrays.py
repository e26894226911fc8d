"""NumPy's arrays as PyTorch can share them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor


def shared(values: np.ndarray[Any, Any]) -> Tensor:
    """A tensor of an array's numbers, shared with it where possible; not to be written to, since the array may be read-only."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.as_tensor(native(values))


def native(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same numbers in this machine's byte order, of at most 64 bits, without steps backwards; a copy only where needed."""
    if values.dtype.kind == "f" and values.dtype.itemsize > np.dtype(np.float64).itemsize:
        values = values.astype(np.float64)
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    return values.copy() if any(step < 0 for step in values.strides) else values
