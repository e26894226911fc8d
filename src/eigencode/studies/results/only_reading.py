"""Reads an SQLite file without making or changing any file: SQLite itself leaves a log and its index beside what it reads."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from sqlalchemy.exc import OperationalError, SQLAlchemyError

_T = TypeVar("_T")

_SECONDS = 30.0
"""In which a writer must pause for as long as a reading takes."""

_PAUSE = 0.05

_NEW_LOG = 3.0
"""Seconds in which a writer that has begun a log marks its index."""


class OnlyReading(threading.local):
    """Connections to a file that only read, and readings during which nobody has written to it.

    Args:
        path: SQLite file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self._log, self._index, self._journal = (Path(f"{self._path}-{kind}") for kind in ("wal", "shm", "journal"))
        self._is_watched = False

    def connect(self) -> sqlite3.Connection:
        """A connection.

        A file without a log is taken to stay as it is, and watched. A log with its index is read as SQLite does, but for the
        marks that it makes in the index. A log without its index, which no process can be using, is read from a copy; so is a
        file with a journal, of a writer that is at work or was killed: what it had not finished has to be taken back first.
        """
        if _has_content(self._journal):
            self._is_watched = True
            return self._of_a_copy()
        if not _has_content(self._log):
            self._is_watched = True
            return self._opened("mode=ro&immutable=1")
        if not self._index.exists():
            self._is_watched = True
            return self._of_a_copy()
        connection = self._opened("mode=ro&readonly_shm=1")
        try:
            connection.execute("SELECT 1 FROM sqlite_master").fetchall()
        except sqlite3.OperationalError as error:
            connection.close()
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_READONLY:
                raise
            return self._opened("mode=ro")  # a writer is at work whose index has no mark yet: it is theirs, and they remove it
        return connection

    def read(self, what: Callable[[], _T]) -> _T:
        """What was read while nobody wrote to the file; read again if somebody did.

        Raises:
            OperationalError: it was written to all the time.
        """
        begun = time.monotonic()
        while True:
            before, self._is_watched = self._state(), False
            try:
                found = what()
            except (SQLAlchemyError, OSError) as error:  # of pages that do not belong together, or a log that is gone
                if self._state() == before and not (_is_of_a_new_log(error) and time.monotonic() < begun + _NEW_LOG):
                    raise
            else:
                if not self._is_watched or self._state() == before:
                    return found
            if time.monotonic() > begun + _SECONDS:
                busy = sqlite3.OperationalError("it is written to all the time")
                raise OperationalError(None, None, busy)
            time.sleep(_PAUSE)

    def _state(self) -> tuple[int, int, int, bool, bool]:
        """Changes whenever the file is written to."""
        found = self._path.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns, _has_content(self._log), _has_content(self._journal)

    def _opened(self, how: str) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{quote(str(self._path))}?{how}", uri=True)

    def _of_a_copy(self) -> sqlite3.Connection:
        with tempfile.TemporaryDirectory() as folder:
            copied = Path(shutil.copy(self._path, folder))
            for beside in (self._log, self._journal):
                if _has_content(beside):
                    shutil.copy(beside, folder)
            source, connection = sqlite3.connect(copied), sqlite3.connect(":memory:")
            source.backup(connection)
            source.close()
        return connection


def _is_of_a_new_log(error: Exception) -> bool:
    """Whether SQLite would have to mark the index of a log, since a writer has begun another between two statements."""
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", 0)
    return code & 0xFF == sqlite3.SQLITE_READONLY


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False
