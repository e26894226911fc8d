"""Files that are there whole or not at all, whenever a process is killed and whatever happens to the disk."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from eigencode.errors import DiskError

_WITHOUT_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


def locked(path: Path, *, wait: bool, again: bool = False) -> FileLock:
    """A lock on a file, held until it is released.

    Args:
        path: File to lock.
        wait: Wait for a process that has it.
        again: Whether a process that has the lock may take it again.

    Raises:
        Timeout: another process has it, and is not waited for.
        DiskError: the file system has no locks.
    """
    lock = FileLock(path, is_singleton=again)
    try:
        lock.acquire(blocking=wait)
    except NotImplementedError as error:
        raise _without_locks(path, error) from None
    except OSError as error:
        if isinstance(error, Timeout) or error.errno not in _WITHOUT_LOCKS:
            raise
        raise _without_locks(path, error) from None
    return lock


def _without_locks(path: Path, error: Exception) -> DiskError:
    return DiskError(
        f"{path.parent} cannot be used: its file system has no locks ({why(error)}), by which processes keep out of each other's "
        "way. Name a folder on another disk, such as a local one."
    )


@contextmanager
def alone(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Holds a lock, which the system takes back from a process that is killed; its file is gone afterwards.

    Args:
        path: File to lock; a process that has the lock may take it again.
        wait: Wait for a process that has it.

    Raises:
        Timeout: another process has it, and is not waited for.
    """
    lock = locked(path, wait=wait, again=True)
    try:
        yield
    finally:
        if lock.lock_counter == 1:  # removed while it is held: who waits for it sees that it is gone, and makes it anew
            with contextlib.suppress(OSError):
                path.unlink()
        lock.release()


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A file that takes the place of another, which stays as it is until the new one is safe on disk.

    Args:
        path: The file; its folder is made if missing. A link is followed.

    Yields:
        Where to write, in a folder of its own beside the file, since some writers make temporary files, too.

    Raises:
        DiskError: it cannot be written; what was there is as it was.
    """
    given, path = path, _resolved(os.path.expanduser(path))
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path.with_name(f".{path.name}.lock")):
            shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed: another would have the lock
            try:
                partial.mkdir(exist_ok=True)
                yield partial / path.name
                make_safe(partial / path.name, mode=path.stat().st_mode & 0o777 if path.exists() else None)
                os.replace(partial / path.name, path)
                sync(path.parent)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise DiskError(f"{given} cannot be written ({why(error)}). Make room, or name another file.") from error


def _resolved(path: str | Path) -> Path:
    """Where a link leads."""
    try:
        return Path(path).resolve()
    except (OSError, RuntimeError) as error:
        raise DiskError(f"{path} cannot be written, since it is a link that leads to itself. Name another file.") from error


def make_safe(path: Path, *, mode: int | None = None) -> None:
    """Sees to it that a file's contents survive a power cut, and that others may read it, as far as the user lets them.

    Args:
        path: File.
        mode: Its permissions. Default: those that a new file gets, which safetensors does not give.
    """
    path.chmod(0o666 & ~_umask() if mode is None else mode)
    sync(path)


def stamp(path: Path) -> tuple[int, int] | None:
    """Changes whenever a file gives way to another; None while there is none."""
    with contextlib.suppress(OSError, ValueError):
        found = path.stat()
        return found.st_ino, found.st_mtime_ns
    return None


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # of a folder, on a file system that has no such thing
            raise
    finally:
        os.close(descriptor)


def why(error: BaseException) -> str:
    """The system's reason why something could not be written, in one line."""
    if isinstance(error, DiskError) and error.__cause__:
        return why(error.__cause__)
    return " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
