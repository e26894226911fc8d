"""Named arrays from .npy, .npz, .mat, .h5, .safetensors and .pt files."""

from __future__ import annotations

import ast
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from eigencode._arrays import native
from eigencode._readers.archives import Archive
from eigencode._readers.checkpoints import Checkpoint, read_checkpoint
from eigencode._readers.files import check_content, open_regular, size_of
from eigencode._readers.hdf5 import hdf5_arrays
from eigencode._readers.matlab import matlab_arrays
from eigencode.errors import FileError

_NPY_MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 10_000
_NUMERIC = "fiub"


def read_arrays(path: Path) -> dict[str, Tensor]:
    """Named arrays of numbers in a file.

    Args:
        path: .npz, .safetensors, .mat, .h5 or .hdf5, a .pt or .pth file that holds a dict of tensors, or a .npy file, whose
            array is called "array".

    Returns:
        Name to tensor, in this machine's byte order; what holds no numbers is left out.

    Raises:
        FileError: no such file, another ending, a damaged file, or one that declares far more than it holds.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise FileError(f"{path} must end in {', '.join(_READERS)}. Change the format.")
    with _opened(path) as file:
        return reader(path, file)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The open file; whatever its reader stumbles over becomes one sentence."""
    try:
        with open_regular(path) as file:
            check_content(file, path)
            yield file
    except FileError:
        raise
    except MemoryError:
        raise FileError(f"{path} does not fit in memory.") from None
    except Exception as error:  # every reader has its own kinds of failure; all mean the same to the user
        reason = " ".join(str(error).split()).rstrip(".")[:200] or type(error).__name__
        raise FileError(f"{path} cannot be read as {path.suffix} ({reason}). Write it again.") from None


def read_npz(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Named arrays of numbers and texts in an .npz file.

    Args:
        path: The file.

    Returns:
        Name to array; what holds neither numbers nor texts is left out.

    Raises:
        FileError: no such file, another format, or one that declares far more than it holds.
    """
    with _opened(path) as file:
        return _arrays_in(path, file)


def names_in_npz(path: Path) -> list[str]:
    """Names of all arrays in an .npz file, of whatever kind.

    Args:
        path: The file.

    Returns:
        Names.

    Raises:
        FileError: no such file, or another format.
    """
    with _opened(path) as file:
        return [name.removesuffix(".npy") for name in Archive(file, path).names]


def _arrays_in(path: Path, file: BinaryIO) -> dict[str, np.ndarray[Any, Any]]:
    archive = Archive(file, path)
    found = {}
    for name in archive.names:
        with archive.open(name) as stream:
            array = _npy_array(stream, archive.size(name))
        if array is not None:
            found[name.removesuffix(".npy")] = array
    return found


def _npz(path: Path, file: BinaryIO) -> dict[str, Tensor]:
    return {name: _as_tensor(array) for name, array in _arrays_in(path, file).items() if array.dtype.kind in _NUMERIC}


def _npy(_path: Path, file: BinaryIO) -> dict[str, Tensor]:
    array = _npy_array(file, size_of(file))
    if array is None or array.dtype.kind not in _NUMERIC:
        raise ValueError("it holds no real numbers")
    return {"array": _as_tensor(array)}


def _npy_array(stream: IO[bytes] | BinaryIO, size: int) -> np.ndarray[Any, Any] | None:
    """One array in NumPy's format; None if it holds neither numbers nor texts. Source: numpy.lib.format, version 1.0 to 3.0."""
    head = stream.read(8)
    if len(head) < 8 or not head.startswith(_NPY_MAGIC):
        raise ValueError("no array in NumPy's format")
    width = 2 if head[6] == 1 else 4
    (length,) = struct.unpack("<H" if width == 2 else "<I", stream.read(width))
    if length > _LONGEST_HEADER:
        raise ValueError(f"a header of {length} bytes")
    try:
        header = ast.literal_eval(stream.read(length).decode("utf-8"))
    except MemoryError:  # of the parser, whose stack is small
        raise ValueError("a header of nested values") from None
    described, shape, columns = header["descr"], header["shape"], header["fortran_order"]
    if not isinstance(described, str):
        return None
    dtype = np.dtype(described)
    if dtype.kind == "O":
        raise ValueError("it holds Python objects, which are not read")
    if dtype.kind not in (*_NUMERIC, "U"):
        return None
    count = 1
    for extent in shape:
        if type(extent) is not int or extent < 0:
            raise ValueError(f"a shape of {shape}")
        count *= extent
    left = size - 8 - width - length
    if count * dtype.itemsize > left:
        raise ValueError(f"{left} bytes where shape {shape} needs {count * dtype.itemsize}")
    data = np.empty(count * dtype.itemsize, np.uint8)
    place = 0
    while place < len(data):
        piece = stream.read(min(2**22, len(data) - place))
        if not piece:
            raise EOFError("it is truncated")
        data[place : place + len(piece)] = np.frombuffer(piece, np.uint8)
        place += len(piece)
    stream.read(1)  # at its end an archive compares the checksum
    return data.view(dtype).reshape(shape, order="F" if columns else "C")


def _as_tensor(array: np.ndarray[Any, Any]) -> Tensor:
    """A tensor of the same numbers; of float128, which PyTorch does not have, as float64."""
    array = native(array)
    if array.dtype.kind == "b":
        array = array.view(np.uint8) != 0
    return torch.from_numpy(np.ascontiguousarray(array) if array.ndim else array.copy())


def _safetensors(path: Path, _file: BinaryIO) -> dict[str, Tensor]:
    return read_safetensors(path)[0]


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and texts of a .safetensors file.

    Args:
        path: The file.

    Returns:
        Name to tensor, on the CPU; name to text.

    Raises:
        FileError: no such file, another format, or a damaged one.
    """
    from safetensors import SafetensorError, safe_open

    with _opened(path):
        try:
            with safe_open(path, framework="pt") as stored:
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
                texts = dict(stored.metadata() or {})
        except SafetensorError as error:
            raise FileError(f"{path} is truncated or no safetensors file ({error}). Download it again.") from None
    return tensors, texts


def _tensors_of(checkpoint: Checkpoint) -> dict[str, Tensor]:
    content = checkpoint.content
    if not isinstance(content, dict):
        held = "a single tensor" if checkpoint.is_tensor(content) else f"a {type(content).__name__}"
        raise FileError(f"{checkpoint.path} holds {held}, not a dict of tensors. Save them by their names: inputs, and labels.")
    return {str(key): checkpoint.tensor(value, name=str(key)) for key, value in content.items() if checkpoint.is_tensor(value)}


def _mat(path: Path, file: BinaryIO) -> dict[str, Tensor]:
    return {name: _as_tensor(array) for name, array in matlab_arrays(path, file).items()}


def _hdf5(path: Path, _file: BinaryIO) -> dict[str, Tensor]:
    return {name: _as_tensor(array) for name, array in hdf5_arrays(path).items()}


_READERS: dict[str, Callable[[Path, BinaryIO], dict[str, Tensor]]] = {
    ".npz": _npz,
    ".npy": _npy,
    ".safetensors": _safetensors,
    ".pt": lambda path, _file: read_checkpoint(path, _tensors_of),
    ".pth": lambda path, _file: read_checkpoint(path, _tensors_of),
    ".mat": _mat,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
}
