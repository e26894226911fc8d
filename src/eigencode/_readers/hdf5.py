"""Arrays of numbers in HDF5 files, of which MATLAB's version 7.3 is one kind; with h5py, which is an extra."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from eigencode._readers.files import allowed_bytes
from eigencode.errors import FileError

Array = np.ndarray[Any, Any]

_NUMERIC = "fiub"


def hdf5_arrays(path: Path, *, kind: str = "an HDF5 file") -> dict[str, Array]:
    """Name to array of numbers, as it is stored; groups are named with a dot: ``session.responses``.

    Links to other files are not followed, and texts and what MATLAB calls empty are left out.

    Args:
        path: The file.
        kind: What error messages call it.

    Raises:
        FileError: h5py is missing, or the file refers to others, or declares far more than it holds.
        OSError: a damaged file.
    """
    try:
        h5py = import_module("h5py")
    except ModuleNotFoundError:
        raise FileError(f"{path} is {kind}, which is read with h5py. Run: pip install 'eigencode[recordings]'.") from None
    found: dict[str, Array] = {}
    with h5py.File(path, "r") as stored:
        left = allowed_bytes(path.stat().st_size)

        def add(name: str, item: Any) -> None:
            nonlocal left
            is_numbers = isinstance(item, h5py.Dataset) and item.dtype.kind in _NUMERIC and item.ndim >= 1
            is_text = is_numbers and item.attrs.get("MATLAB_class", b"") in (b"char", "char")
            if not is_numbers or is_text or name.startswith("#") or item.attrs.get("MATLAB_empty", 0):
                return
            if item.external or item.is_virtual:
                raise FileError(f"{path} refers to other files, which are not read. Save it whole.")
            left -= item.size * item.dtype.itemsize
            if left < 0:
                raise FileError(f"{path} declares an array of shape {item.shape}, far more than it holds. Do not use it.")
            found[name.replace("/", ".")] = np.asarray(item[()])

        stored.visititems(add)
    return found
