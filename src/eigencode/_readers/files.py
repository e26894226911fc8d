"""Opening what is a regular file, and how much may come out of one."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from eigencode.errors import FileError

_EXPANSION, _LEAST = 32, 2**28
"""Compressed files may hold 32 times their size, or 256 MiB if that is more: what scientists store compresses less."""

_WEB_PAGE = re.compile(rb"\s*<(!doctype|html|head|body|\?xml|!--)", re.IGNORECASE)

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """A file to read bytes from; pipes, devices and folders are refused before they are opened.

    Args:
        path: The file.

    Yields:
        The open file, at its beginning.

    Raises:
        FileError: there is no such file, it may not be read, or it is not a regular file.
    """
    path = Path(os.path.expanduser(path))
    try:
        _check_kind(path, os.stat(path).st_mode)
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise FileError(f"{path} does not exist. Check the path.") from None
    except (OSError, ValueError) as error:  # a name that no file can have is a ValueError
        raise FileError(f"{path} cannot be opened ({getattr(error, 'strerror', None) or error}). Check the path.") from None
    with os.fdopen(descriptor, "rb") as file:
        _check_kind(path, os.fstat(descriptor).st_mode)  # another file may have taken its place meanwhile
        yield file


def _check_kind(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise FileError(f"{path} is {_KINDS.get(stat.S_IFMT(mode), 'no regular file')}, not a file. Name a file.")


def check_content(file: BinaryIO, path: Path) -> None:
    """Refuses what a failed download leaves, and goes back to the beginning.

    Args:
        file: The open file.
        path: What error messages call it.

    Raises:
        FileError: it is empty, a web page, or the place-holder of a large file.
    """
    head = file.read(512)
    file.seek(0)
    if not head:
        raise FileError(f"{path} is empty. Download it again.")
    if _WEB_PAGE.match(head):
        raise FileError(f"{path} is a web page. The download failed; fetch the file itself.")
    if head.startswith(b"version https://git-lfs"):
        raise FileError(f"{path} is a Git-LFS pointer, not the file itself. Run: git lfs pull")


def read_text(path: Path, *, most: int) -> str:
    """The text of a regular file in UTF-8.

    Args:
        path: The file.
        most: Bytes that it may have.

    Returns:
        The text.

    Raises:
        FileError: it cannot be opened, has more bytes, or is not text.
    """
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise FileError(f"{path} is longer than the {most} bytes that such a file may have. Check that it is the right file.")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise FileError(f"{path} is not a text file in UTF-8. Check that it is the right file.") from None


def allowed_bytes(file_size: int) -> int:
    """Bytes that may come out of a file of this size."""
    return max(_LEAST, _EXPANSION * file_size)


def size_of(file: BinaryIO) -> int:
    """Bytes of an open file."""
    return os.fstat(file.fileno()).st_size


def check_declared(declared: int, file: BinaryIO, path: Path, *, allowed: int | None = None) -> None:
    """Refuses a file that would become far larger than it is, before anything is allocated.

    Args:
        declared: Bytes that the file says it holds.
        file: The open file.
        path: What error messages call it.
        allowed: Bytes that it may still declare. Default: ``allowed_bytes`` of its size.

    Raises:
        FileError: it declares more.
    """
    size = size_of(file)
    if declared > (allowed_bytes(size) if allowed is None else allowed):
        raise FileError(
            f"{path} has {size} bytes and declares that it holds {declared}, which looks like a trap. If it is yours, save it "
            "without compression."
        )
