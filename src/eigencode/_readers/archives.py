"""Zip files, of .npz and of torch.save, that have one directory and hold what they declare."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import IO, BinaryIO

from eigencode._readers.files import check_declared
from eigencode.errors import FileError

_END, _END_64, _LOCATOR_64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_LARGEST_DIRECTORY = 2**25
_HEADER = 30
"""Bytes of an entry's own header, without its name."""


class Archive:
    """A zip file open for reading.

    A zip file names the place of its directory, and readers may also look for it before the end of the file. Where the two are
    not the same place, two readers see two different files: those are refused, as are entries that overlap.

    Args:
        file: Open file.
        path: What error messages call it.

    Raises:
        FileError: more than one directory, or far more content than the file has bytes.
        zipfile.BadZipFile: no zip file, or a damaged one.
    """

    def __init__(self, file: BinaryIO, path: Path) -> None:
        _check_directory(file, path)
        self._zip = zipfile.ZipFile(file)
        self._entries = {entry.filename: entry for entry in self._zip.infolist()}
        entries = sorted(self._zip.infolist(), key=lambda entry: entry.header_offset)
        if len(self._entries) < len(entries) or any(
            first.header_offset + _HEADER + first.compress_size > second.header_offset for first, second in pairwise(entries)
        ):
            raise zipfile.BadZipFile("entries that are there twice, or overlap")
        check_declared(sum(entry.file_size for entry in entries), file, path)

    @property
    def names(self) -> list[str]:
        """Names of the entries."""
        return list(self._entries)

    def size(self, name: str) -> int:
        """Bytes of an entry, as declared."""
        return self._entries[name].file_size

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """An entry as a file; damage to its bytes is found at their end, where the archive has a checksum."""
        entry = self._entries[name]
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise zipfile.BadZipFile(f"compression of kind {entry.compress_type}")
        if entry.CRC == 0:  # torch.save may be told to compute none
            entry.CRC = None  # type: ignore[assignment]
        with self._zip.open(entry) as stream:
            yield stream

    def read(self, name: str) -> bytes:
        """All bytes of an entry."""
        with self.open(name) as stream:
            return stream.read()


def _check_directory(file: BinaryIO, path: Path) -> None:
    """Refuses an archive whose directory is not where its end record says."""
    length = file.seek(0, 2)
    file.seek(max(0, length - 2**16 - 100))
    tail = file.read()
    end = tail.rfind(_END)
    if end < 0 or len(tail) < end + 22:
        raise EOFError("it is truncated")
    size, offset = struct.unpack_from("<LL", tail, end + 12)
    stop = length - len(tail) + end
    if end >= 76 and tail[end - 20 : end - 16] == _LOCATOR_64:
        (place,) = struct.unpack_from("<Q", tail, end - 12)
        stop -= 76
        if place != stop or tail[end - 76 : end - 72] != _END_64:
            raise FileError(_AMBIGUOUS.format(path=path))
        size, offset = struct.unpack_from("<QQ", tail, end - 36)
    if size > _LARGEST_DIRECTORY:
        raise zipfile.BadZipFile("directory of more than 32 MiB")
    if offset + size != stop:
        raise FileError(_AMBIGUOUS.format(path=path))
    file.seek(0)


_AMBIGUOUS = (
    "{path} is a zip file with two directories, or a part of one: readers would not agree on what it holds. Do not use it."
)
