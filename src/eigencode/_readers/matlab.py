"""Arrays of numbers in .mat files of version 4 to 7, and of 7.3 where h5py is.

SciPy's reader ends the process on some damaged files, and takes whatever memory a file asks for; so the few kinds of element
that hold numbers are read here, in structures too. Text, cells, lists of structures and objects are left out.

Source: MAT-File Format, The MathWorks (R2023a), chapters "Level 4" and "Level 5".
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from eigencode._readers.files import allowed_bytes, check_declared, size_of
from eigencode._readers.hdf5 import hdf5_arrays
from eigencode.errors import FileError

Array = np.ndarray[Any, Any]

_HEADER = 128
_COMPRESSED, _MATRIX = 15, 14
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Number of a data type -> in NumPy's words."""

_STRUCTURE, _SPARSE = 2, 5
_DEEPEST = 16
"""Structures within structures."""

_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
"""Number of an array's class -> in NumPy's words."""

_COMPLEX, _LOGICAL = 0x0800, 0x0200
_FOURTH = {0: "f8", 1: "f4", 2: "i4", 3: "i2", 4: "u2", 5: "u1"}
"""Digit of a matrix of version 4 -> its numbers in NumPy's words."""


def matlab_arrays(path: Path, file: BinaryIO) -> dict[str, Array]:
    """Name to array of numbers, in MATLAB's order of dimensions; sparse ones are filled up, complex ones left out.

    Fields of structures are named with a dot: ``stim.resp``.

    Args:
        path: What error messages call the file.
        file: The open file.

    Returns:
        Arrays in the machine's byte order.

    Raises:
        FileError: version 7.3 without h5py, or arrays far larger than the file.
        ValueError: a damaged file.
    """
    head = file.read(_HEADER)
    if 0 in head[:4]:
        return dict(_matrices(file))
    if head[126:128] not in (b"IM", b"MI"):
        raise ValueError("no header of MATLAB")
    order = "<" if head[126:128] == b"IM" else ">"
    if struct.unpack(f"{order}H", head[124:126])[0] >= 0x0200:
        return {name: array.T for name, array in hdf5_arrays(path, kind="a .mat file of version 7.3").items()}
    left, found = allowed_bytes(size_of(file)), dict[str, Array]()
    while len(tag := file.read(8)) == 8:
        kind, length = struct.unpack(f"{order}II", tag)
        content = file.read(min(length, size_of(file)))
        if len(content) < length:
            raise EOFError("it is truncated")
        if kind == _COMPRESSED:
            kind, content = _unpacked(content, order, left, path, file)
        left -= len(content)
        for name, array in _matrix(content, order, left, path) if kind == _MATRIX else ():
            found[name] = array
            left -= array.nbytes
    return found


def _unpacked(content: bytes, order: str, allowed: int, path: Path, file: BinaryIO) -> tuple[int, bytes]:
    """The element that compressed data hold: as many bytes as it declares."""
    unpacker = zlib.decompressobj()
    tag = unpacker.decompress(content, 8)
    kind, length = struct.unpack(f"{order}II", tag)
    check_declared(length, file, path, allowed=allowed)
    pieces = []
    while length and (piece := unpacker.decompress(unpacker.unconsumed_tail, min(length, 2**22))):
        pieces.append(piece)
        length -= len(piece)
    unpacker.decompress(unpacker.unconsumed_tail, 1)  # compares the checksum at the end
    if length or not unpacker.eof:
        raise EOFError("its compressed data are truncated")
    return kind, b"".join(pieces)


def _elements(content: bytes | memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Data type and bytes of each element within another; small ones share the eight bytes of their tag."""
    at = 0
    while at + 8 <= len(content):
        kind, length = struct.unpack_from(f"{order}II", content, at)
        start = at + 8
        if kind >> 16:
            kind, length, start = kind & 0xFFFF, kind >> 16, at + 4
            if length > 4:
                raise ValueError("a small element of more than four bytes")
        if start + length > len(content):
            raise ValueError("an element beyond the one it is in")
        yield kind, memoryview(content)[start : start + length]
        at = start + 4 if start == at + 4 else start + -(-length // 8) * 8


def _numbers(element: tuple[int, memoryview], order: str) -> Array:
    kind, content = element
    if kind not in _TYPES:
        raise ValueError(f"numbers of type {kind}")
    dtype = np.dtype(_TYPES[kind]).newbyteorder(order)  # type: ignore[arg-type]
    if len(content) % dtype.itemsize:
        raise ValueError("a part of a number")
    return np.frombuffer(content, dtype)


def _matrix(
    content: bytes | memoryview, order: str, allowed: int, path: Path, owners: tuple[str, ...] = ()
) -> Iterator[tuple[str, Array]]:
    """Name and numbers of an array, or of those in a structure; nothing if it holds none."""
    parts = _elements(content, order)
    flags, shape, name = (next(parts, None) for _ in range(3))
    if flags is None or shape is None or name is None or len(flags[1]) < 4:
        return  # an empty element, such as MATLAB's own notes
    (word,) = struct.unpack_from(f"{order}I", flags[1])
    kind, extents = word & 0xFF, [int(extent) for extent in _numbers(shape, order)]
    called = owners[-1] if owners else bytes(name[1]).decode("utf-8").rstrip("\0")
    if kind == _STRUCTURE and called and math.prod(extents) == 1:
        yield from _fields(parts, order, allowed, path, (*owners[:-1], called))
    if (kind not in _CLASSES and kind != _SPARSE) or word & _COMPLEX or not called:
        return
    called = ".".join((*owners[:-1], called))
    count = math.prod(extents)
    if len(extents) < 2 or min(extents) < 0:
        raise ValueError(f"a shape of {extents}")
    if count * 8 > allowed:
        raise FileError(f"{path} declares an array of shape {tuple(extents)}, far more than it holds. Do not use it.")
    if kind == _SPARSE:
        yield called, _filled(parts, extents, order)
        return
    values = _numbers(next(parts), order)
    if len(values) != count:
        raise ValueError(f"{len(values)} numbers where shape {tuple(extents)} has {count}")
    array = values.astype(_CLASSES[kind]).reshape(extents, order="F")
    yield called, array != 0 if word & _LOGICAL else array


def _fields(
    parts: Iterator[tuple[int, memoryview]], order: str, allowed: int, path: Path, owners: tuple[str, ...]
) -> Iterator[tuple[str, Array]]:
    """Arrays of numbers in the fields of one structure."""
    if len(owners) > _DEEPEST:
        raise ValueError(f"more than {_DEEPEST} structures within each other")
    (width,) = _numbers(next(parts), order).tolist()
    names = bytes(next(parts)[1])
    if width <= 0 or len(names) % width:
        raise ValueError("names of fields")
    for start in range(0, len(names), width):
        kind, content = next(parts)
        if kind != _MATRIX:
            raise ValueError("a field that is no array")
        called = names[start : start + width].split(b"\0")[0].decode("utf-8")
        for name, array in _matrix(content, order, allowed, path, (*owners, called)):
            yield name, array
            allowed -= array.nbytes


def _filled(parts: Iterator[tuple[int, memoryview]], shape: list[int], order: str) -> Array:
    """A sparse matrix with its zeros."""
    rows, starts, values = (_numbers(next(parts), order).astype(np.float64) for _ in range(3))
    if len(shape) != 2 or len(starts) != shape[1] + 1 or (np.diff(starts) < 0).any() or starts[0] != 0:
        raise ValueError("columns of a sparse matrix")
    count = int(starts[-1])
    where = rows[:count].astype(np.int64)
    if len(where) < count or len(values) < count or (count and not (0 <= where.min() and where.max() < shape[0])):
        raise ValueError("rows of a sparse matrix")
    array = np.zeros(shape)
    array[where, np.repeat(np.arange(shape[1]), np.diff(starts).astype(np.int64))] = values[:count]
    return array


def _matrices(file: BinaryIO) -> Iterator[tuple[str, Array]]:
    """Matrices of version 4: full ones of real numbers."""
    file.seek(0)
    while head := file.read(20):
        if len(head) < 20:
            raise EOFError("it is truncated")
        order = "<" if 0 <= struct.unpack("<i", head[:4])[0] < 5000 else ">"
        declared, rows, columns, imaginary, length = struct.unpack(f"{order}5i", head)
        digits = (declared // 1000, declared // 100 % 10, declared // 10 % 10, declared % 10)
        if digits[0] not in (0, 1) or digits[1] != 0 or digits[2] not in _FOURTH or digits[3] not in (0, 1, 2):
            raise ValueError("no header of MATLAB")
        dtype = np.dtype(_FOURTH[digits[2]]).newbyteorder(order)  # type: ignore[arg-type]
        size = rows * columns * dtype.itemsize * (2 if imaginary else 1)
        if min(rows, columns, length) < 0 or length + size > size_of(file) - file.tell():
            raise EOFError("it is truncated")
        name = file.read(length).rstrip(b"\0").decode("latin-1")
        content = file.read(size)
        if digits[3] == 0 and not imaginary:
            yield name, np.frombuffer(content, dtype).reshape((rows, columns), order="F").copy(order="F")
