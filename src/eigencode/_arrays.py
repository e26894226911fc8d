"""NumPy's arrays as PyTorch can share them."""

from __future__ import annotations

from typing import Any

import numpy as np


def native(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same numbers in this machine's byte order, of at most 64 bits, without steps backwards; a copy only where needed."""
    if values.dtype.kind == "f" and values.dtype.itemsize > np.dtype(np.float64).itemsize:
        values = values.astype(np.float64)
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    return values.copy() if any(step < 0 for step in values.strides) else values
