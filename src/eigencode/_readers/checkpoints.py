"""What torch.save wrote -> plain values and tensors that are read when they are asked for.

Both formats are read here: zip archives (PyTorch 1.6 and newer) and streams of pickles (older). ``torch.load`` is not used: it
hands some files to readers that run what is stored in them.

Source: torch/serialization.py and torch/_utils.py for the formats.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from eigencode._readers.archives import Archive
from eigencode._readers.files import allowed_bytes, check_content, open_regular, size_of
from eigencode._readers.pickles import Made, Maker, Named, named, read_pickle
from eigencode.errors import FileError

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
"""First and second pickle of a stream that torch.save wrote."""

_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
    "UntypedStorage": torch.uint8,
}

_DTYPES = {name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}

_TAR_MAGIC = slice(257, 262)

_NEVER_IN_A_CHECKPOINT = re.compile(
    r"(os|posix|nt|subprocess|sys|shutil|socket|importlib|runpy|ctypes|pty|commands|code|webbrowser|asyncio|urllib|http|requests|"
    r"tempfile|signal)\..*|(builtins|io|_io)\.(eval|exec|execfile|compile|open|__import__|breakpoint|input)|_?pickle\.loads?"
)
"""What only a hostile file asks for."""


@dataclass(frozen=True)
class _Storage:
    """Numbers in a row that tensors are views of."""

    key: str
    dtype: torch.dtype
    numel: int
    offset: int = 0


@dataclass(frozen=True)
class _View:
    """A tensor as stored: a view of a storage."""

    storage: _Storage
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    conjugate: bool = False
    negative: bool = False


@dataclass(frozen=True)
class _Unread:
    """A tensor of a kind that is not read, such as a quantised one."""

    kind: str


class Checkpoint:
    """An open checkpoint.

    Attributes:
        path: Its file.
        content: Values as ``read_pickle`` gives them, with places of tensors in them.
        names: Classes and functions that the file names.
    """

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.path, self._file = path, file
        self._allowed = allowed_bytes(size_of(file))
        self._flat: dict[str, np.ndarray[Any, Any]] = {}
        self._storages: dict[str, _Storage] = {}
        self.names: set[Named] = set()
        self._read: Callable[[str, int], np.ndarray[Any, Any]]
        self._swapped, self._given = False, 0
        head = file.read(512)
        file.seek(0)
        if head.startswith(b"PK"):
            self.content = self._from_archive(Archive(file, path))
        elif head[_TAR_MAGIC] == b"ustar":
            raise FileError(
                f"{path} is a tar archive, the format of PyTorch 0.1, which cannot be read safely. Save its tensors again with a "
                "newer PyTorch, on a machine that holds nothing of value."
            )
        else:
            self.content = self._from_stream(file)
        if hostile := sorted(str(name) for name in self.names if _NEVER_IN_A_CHECKPOINT.fullmatch(str(name))):
            raise FileError(f"{path} asks to run {hostile[0]} when it is loaded; nothing was run. Do not use this file.")

    def is_tensor(self, value: Any) -> bool:
        """Whether a value of the content is a tensor."""
        return isinstance(value, (_View, _Unread))

    def tensor(self, value: Any, *, name: str) -> Tensor:
        """A tensor of the content.

        Args:
            value: The place that stands for it in the content.
            name: What error messages call it.

        Returns:
            Tensor on the CPU; tensors that share storage in the file share it here.

        Raises:
            FileError: it is of a kind that is not read, or reaches beyond what is stored.
        """
        if isinstance(value, _Unread):
            raise FileError(f"{self.path}: {name} is a {value.kind} tensor, which is not read. Store it as an ordinary one.")
        itemsize = value.dtype.itemsize
        available = value.storage.numel * value.storage.dtype.itemsize // itemsize
        last = value.offset + sum((size - 1) * step for size, step in zip(value.shape, value.stride, strict=True))
        count = math.prod(value.shape)
        if count == 0:
            return torch.empty(value.shape, dtype=value.dtype)
        if last >= available:
            raise FileError(f"{self.path} is damaged ({name} reaches beyond what is stored). Download it again.")
        self._given += count * itemsize
        if self._given > self._allowed:
            raise FileError(f"{self.path} declares {name} with {count} numbers, far more than it holds. Do not use it.")
        first = value.storage.offset * value.storage.dtype.itemsize
        data = self._storage(value.storage.key)[first : first + available * itemsize]
        if self._swapped and itemsize > 1:
            flat = data.view(f"c{itemsize}" if value.dtype.is_complex else f"u{itemsize}")[value.offset :]
            steps = [step * itemsize for step in value.stride]
            swapped = np.lib.stride_tricks.as_strided(flat, value.shape, steps).byteswap().reshape(-1)
            tensor = torch.frombuffer(swapped, dtype=value.dtype).view(value.shape)
        else:
            stored = torch.uint8 if value.dtype == torch.bool else value.dtype
            tensor = torch.frombuffer(data, dtype=stored).as_strided(value.shape, value.stride, value.offset)
        tensor = tensor != 0 if value.dtype == torch.bool else tensor
        tensor = tensor.conj().resolve_conj() if value.conjugate else tensor
        return -tensor if value.negative else tensor

    def _storage(self, key: str) -> np.ndarray[Any, Any]:
        """A storage's bytes."""
        if key not in self._flat:
            whole = self._storages[key]
            self._flat[key] = self._read(key, whole.numel * whole.dtype.itemsize)
        return self._flat[key]

    def _from_archive(self, archive: Archive) -> Any:
        records = {name.partition("/")[2]: name for name in archive.names}
        if archive.names and all(name.endswith(".npy") for name in archive.names):
            raise FileError(f"{self.path} is an .npz file of arrays. Name it so, with .npz at its end.")
        if len({name.partition("/")[0] for name in archive.names}) > 1:
            raise FileError(f"{self.path} has several folders in it, which torch.save does not write. Do not use this file.")
        if "constants.pkl" in records:
            raise FileError(f"{self.path} is a TorchScript program, not weights. Save the state dict of the model instead.")
        if "data.pkl" not in records:
            raise FileError(f"{self.path} is a zip file that torch.save did not write. Save the state dict of the model.")
        self._swapped = "byteorder" in records and archive.read(records["byteorder"]) not in (b"", _order())

        def read(key: str, size: int) -> np.ndarray[Any, Any]:
            name = records.get(f"data/{key}")
            if name is None or archive.size(name) < size:
                raise FileError(f"{self.path} is damaged (storage {key} is not whole). Download it again.")
            data = np.empty(archive.size(name), np.uint8)
            with archive.open(name) as stream:
                _fill(stream, data)
            return data[:size]

        self._read = read
        return self._unpickled(io.BytesIO(archive.read(records["data.pkl"])))

    def _from_stream(self, file: BinaryIO) -> Any:
        stream = _Bounded(file, size_of(file))
        if read_pickle(stream, makers={}) != _MAGIC or read_pickle(stream, makers={}) != _PROTOCOL:  # type: ignore[arg-type]
            raise FileError(f"{self.path} is a pickle that torch.save did not write. Save the state dict with torch.save.")
        system = read_pickle(stream, makers={})  # type: ignore[arg-type]
        little = system.get("little_endian", True) if isinstance(system, dict) else True
        self._swapped = (b"little" if little else b"big") != _order()
        content = self._unpickled(stream)
        keys = read_pickle(stream, makers={})  # type: ignore[arg-type]
        places, place = dict[str, int](), file.tell()
        for key in keys if isinstance(keys, list) else ():
            storage = self._storages.get(_text(key))
            file.seek(place)
            header = file.read(8)
            if storage is None or len(header) < 8 or struct.unpack("<q" if little else ">q", header)[0] != storage.numel:
                raise FileError(f"{self.path} is damaged (storage {_text(key)[:40]} is not whole). Download it again.")
            places[_text(key)] = place + 8
            place += 8 + storage.numel * storage.dtype.itemsize

        def read(key: str, size: int) -> np.ndarray[Any, Any]:
            if key not in places or places[key] + size > size_of(file):
                raise EOFError
            file.seek(places[key])
            data = np.empty(size, np.uint8)
            _fill(file, data)
            return data

        if place > size_of(file):
            raise EOFError
        self._read = read
        return content

    def _unpickled(self, stream: Any) -> Any:
        return read_pickle(stream, makers=_MAKERS, persistent=self._stored, on_name=self.names.add)

    def _stored(self, identifier: Any) -> _Storage:
        """A storage from its persistent identifier."""
        kind, of, key, _, numel, *views = identifier
        if _text(kind) != "storage" or not isinstance(of, Named) or of.name not in _STORAGES:
            raise pickle.UnpicklingError(f"a storage of kind {named(of)}")
        whole = _Storage(_text(key), _STORAGES[of.name], _whole(numel))
        if self._storages.setdefault(whole.key, whole) != whole:
            raise pickle.UnpicklingError(f"two storages called {whole.key[:40]}")
        if views and views[0] is not None:  # PyTorch 0.3 and older
            _, offset, size = views[0]
            if offset + size > whole.numel:
                raise pickle.UnpicklingError("a view beyond its storage")
            return _Storage(whole.key, whole.dtype, _whole(size), _whole(offset))
        return whole


class _Bounded:
    """A file whose reads ask for no more than is left."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size

    def read(self, count: int) -> bytes:
        return self._file.read(max(0, min(count, self._size - self._file.tell())))

    def readline(self) -> bytes:
        return self._file.readline()

    def tell(self) -> int:
        return self._file.tell()


def read_checkpoint(path: Path, use: Callable[[Checkpoint], Any]) -> Any:
    """Opens a checkpoint and hands it to ``use``.

    Args:
        path: File that torch.save wrote.
        use: Called with the open checkpoint.

    Returns:
        What ``use`` returns.

    Raises:
        FileError: no such file, no checkpoint, a damaged one, or one that declares far more than it holds.
    """
    with open_regular(path) as file:
        check_content(file, path)
        size = size_of(file)
        try:
            return use(Checkpoint(file, path))
        except FileError:
            raise
        except EOFError:
            raise FileError(f"{path} is truncated ({size} bytes). Download it again.") from None
        except MemoryError:
            raise FileError(f"{path} does not fit in memory ({size} bytes).") from None
        except Exception as error:  # damaged files fail in any way; the file is at fault in all of them
            raise FileError(f"{path} is not a PyTorch checkpoint, or is damaged ({_reason(error)}). Download it again.") from None


def _fill(stream: Any, data: np.ndarray[Any, Any]) -> None:
    """Reads exactly as many bytes as the array has, and the end of the stream, where checksums are compared."""
    view, place = data.data, 0
    while place < len(data):
        count = stream.readinto(view[place : place + 2**22])
        if not count:
            raise EOFError
        place += count
    if not isinstance(stream, io.BufferedReader):
        stream.read(1)


def _order() -> bytes:
    return b"little" if np.little_endian else b"big"


def _text(value: Any) -> str:
    if not isinstance(value, (bytes, str)):
        raise pickle.UnpicklingError(f"{named(value)} where a text is expected")
    return value.decode("ascii") if isinstance(value, bytes) else value


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise pickle.UnpicklingError(f"{named(value)} for a number of elements")
    return value


def _numbers(values: Any) -> tuple[int, ...]:
    return tuple(_whole(value) for value in values)


def _view(storage: Any, offset: Any, shape: Any, stride: Any, dtype: torch.dtype | None = None, metadata: Any = None) -> _View:
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("a tensor without storage")
    known = metadata if isinstance(metadata, dict) else {}
    return _View(
        storage,
        dtype or storage.dtype,
        _whole(offset),
        _numbers(shape),
        _numbers(stride),
        bool(known.get("conj")),
        bool(known.get("neg")),
    )


def _second_version(
    storage: Any, offset: Any, shape: Any, stride: Any, _gradient: Any, _hooks: Any, metadata: Any = None
) -> _View:
    return _view(storage, offset, shape, stride, metadata=metadata)


def _third_version(
    storage: Any, offset: Any, shape: Any, stride: Any, _gradient: Any, _hooks: Any, dtype: Any, metadata: Any = None
) -> _View:
    return _view(storage, offset, shape, stride, dtype=_DTYPES[dtype.name], metadata=metadata)


def _first(data: Any, *_rest: Any) -> Any:
    """Of a parameter, its data; its attributes play no part."""
    return data


def _of_type(of: Any, _kind: Any, arguments: Sequence[Any], _state: Any) -> Any:
    """A tensor of a class of its own, or with attributes: the tensor."""
    maker = _MAKERS.get(of)
    return maker(*arguments) if maker else Made(of)


def _unread(kind: str) -> Maker:
    return lambda *_: _Unread(kind)


_MAKERS: dict[Named, Maker] = {
    Named("torch._utils", "_rebuild_tensor"): lambda storage, offset, shape, stride: _view(storage, offset, shape, stride),
    Named("torch._utils", "_rebuild_tensor_v2"): _second_version,
    Named("torch._utils", "_rebuild_tensor_v3"): _third_version,
    Named("torch._utils", "_rebuild_parameter"): _first,
    Named("torch._utils", "_rebuild_parameter_with_state"): _first,
    Named("torch._tensor", "_rebuild_from_type_v2"): _of_type,
    Named("torch._utils", "_rebuild_sparse_tensor"): _unread("sparse"),
    Named("torch._utils", "_rebuild_sparse_csr_tensor"): _unread("sparse"),
    Named("torch._utils", "_rebuild_nested_tensor"): _unread("nested"),
    Named("torch._utils", "_rebuild_qtensor"): _unread("quantised"),
    Named("torch._utils", "_rebuild_meta_tensor_no_storage"): _unread("meta"),
    Named("torch._utils", "_rebuild_wrapper_subclass"): _unread("wrapped"),
    Named("torch._utils", "_rebuild_device_tensor_from_numpy"): _unread("NumPy"),
    Named("torch", "Size"): lambda values=(): tuple(values),
}
"""What a file may ask for to make a tensor."""


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
