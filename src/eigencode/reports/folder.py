"""The folder that a command leaves: at every moment it holds the earlier results, none, or all of the new ones.

A folder cannot be exchanged for another where it holds files of the user's own, is a mount or somebody's working folder, and
several files cannot be renamed at once. So the new results are written to ``.partial`` in it, which becomes ``.whole`` by one
rename: before it there are none of them, after it all. Then they are moved to their places, the record last, and ``.whole`` is
removed at the very end. Whoever finds it moves the rest; a folder has the results whose record is in one of both places.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import Timeout
from safetensors import SafetensorError

from eigencode._files import alone, make_safe, stamp, sync, why
from eigencode._readers.files import read_text
from eigencode.errors import DataError, DiskError, FileError
from eigencode.reports.drawing import Drawing

CONTENTS = (
    "spectra.parquet",
    "summary.csv",
    "components.safetensors",
    "images.safetensors",
    "members",
    "cells.sqlite",
    "history.csv",
    "results.parquet",
    "cells.csv",
    "study.yaml",
    "report.md",
    "record.json",
    "report.html",
    "figures",
)
"""Everything that commands leave in their folder."""

_ALSO_NAMES_OF_OTHERS = ("study.yaml", "report.md")
"""What may as well be a file of the user's own, and stays where new results have none of the name."""

RECORD = "record.json"

_LONGEST_RECORD = 2**30

_LOCK, _PARTIAL, _WHOLE, _EARLIER = ".lock", ".partial", ".whole", ".earlier"

_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
"""Reasons that room on the disk would not fix."""

_HOW_NOT_WHAT = ("overwrite", "json")
"""Options that play no part in what results are."""


def contents_of(folder: Path) -> list[str]:
    """Names of the results that a folder holds."""
    return [name for name in CONTENTS if os.path.lexists(folder / name)]


def record_of(folder: Path) -> dict[str, Any] | None:
    """The record of the results that a folder holds; None if it holds none."""
    for place in (folder / RECORD, folder / _WHOLE / RECORD):
        try:
            found = json.loads(read_text(place, most=_LONGEST_RECORD))
        except (FileError, ValueError, RecursionError):
            continue
        return found if isinstance(found, dict) else None
    return None


@contextmanager
def claimed(
    folder: Path, *, overwrite: bool | None, configuration: Mapping[str, Any] | None = None, wait: bool = False
) -> Iterator[None]:
    """Keeps a folder for one run, from its first check to the end, and clears away what runs that were killed left in it.

    Args:
        folder: Where results are to go; made if missing, and removed again if it stays empty.
        overwrite: Whether earlier results may be replaced; None for a command that cannot be told so.
        configuration: Of the command: it may renew results of its own whose run was killed when it had just written them.
        wait: Wait for a run that has it, in place of an error.

    Raises:
        DataError: it is a file or cannot be written to, another run has it, or earlier results are there.
    """
    missing, earlier = [each for each in (folder, *folder.parents) if not os.path.exists(each)], stamp(folder / RECORD)
    try:
        with _locked(folder, wait=wait):
            _check(folder, overwrite, configuration)
            if not _is_own(folder, configuration):
                _end(folder)
            try:
                yield
            finally:
                shutil.rmtree(folder / _PARTIAL, ignore_errors=True)
    except KeyboardInterrupt as interruption:
        message = "" if stamp(folder / RECORD) == earlier else _kept(folder)
        raise KeyboardInterrupt(str(interruption) or message) from None
    finally:
        with contextlib.suppress(OSError, ValueError):
            for each in missing:
                each.rmdir()


def write_folder(
    folder: Path,
    *,
    write_data: Callable[[Path], None],
    record: Mapping[str, Any],
    page: str,
    figures: Mapping[str, Drawing],
    finish: Callable[[], None] | None = None,
) -> Path:
    """Writes data, record, page and figures; the folder gets all of them or none.

    Args:
        folder: Where to write; made if missing.
        write_data: Called with a folder into which it writes the data's files.
        record: Becomes record.json.
        page: Becomes report.html.
        figures: Become PNG and SVG files in figures/.
        finish: Called when the results are in place, perhaps twice: removes what they make useless.

    Returns:
        Path of the page.

    Raises:
        DiskError: they cannot be written; the folder is as it was.
    """
    partial, whole, is_whole = folder / _PARTIAL, folder / _WHOLE, False

    def put_in_place() -> None:
        _move(folder)
        if finish:
            finish()
        _end(folder)

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with alone(folder / _LOCK):
            _recover(folder)
            try:
                partial.mkdir()
                write_data(partial)
                _write_rest(partial, record, page, figures)
                os.replace(partial, whole)
                is_whole = True
                sync(folder)
                put_in_place()
            except KeyboardInterrupt:
                if not is_whole:
                    raise
                put_in_place()
                raise KeyboardInterrupt(_kept(folder)) from None
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except (OSError, SafetensorError, DiskError) as error:
        if is_whole:
            raise DiskError(
                f"the results are written, but cannot be put in place in {folder} ({why(error)}). Give the command again."
            ) from None
        raise DiskError(f"the report cannot be written to {folder} ({why(error)}). Make room, or name another folder.") from None
    return folder / "report.html"


def _write_rest(partial: Path, record: Mapping[str, Any], page: str, figures: Mapping[str, Drawing]) -> None:
    (partial / RECORD).write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    (partial / "figures").mkdir()
    for name, figure in figures.items():
        (partial / "figures" / f"{name}.png").write_bytes(figure.png)
        (partial / "figures" / f"{name}.svg").write_bytes(figure.svg)
    (partial / "report.html").write_text(page, encoding="utf-8")
    for path in partial.glob("**/.*.lock"):  # that could not be removed
        path.unlink()
    for path in partial.rglob("*"):
        sync(path) if path.is_dir() else make_safe(path)
    sync(partial)


def _check(folder: Path, overwrite: bool | None, configuration: Mapping[str, Any] | None) -> None:
    """Refuses a folder that holds earlier results, or files of the user's that results would replace."""
    if overwrite or _is_own(folder, configuration):
        return
    remedy = "Name another folder" + ("." if overwrite is None else ", or pass --overwrite true.")
    if record_of(folder) is not None:
        raise DataError(f"--out: {folder} already holds results. {remedy}")
    if there := next((name for name in CONTENTS if (folder / name).exists()), None):
        raise DataError(f"--out: {folder} holds {there}, which would be replaced. {remedy}")


def remove_at_once(path: Path) -> None:
    """Removes a folder, if it is there, in that of the results: a kill leaves all of it, or what the next run clears away.

    Raises:
        OSError: it is all still there.
    """
    rest = path.with_name(f"{_PARTIAL}-finished")
    _remove(rest)
    if path.exists():
        path.rename(rest)
    shutil.rmtree(rest, ignore_errors=True)


def _recover(folder: Path) -> None:
    """Puts in place what a run had written when it was killed, and removes what it had half written; the lock is held."""
    _move(folder)
    for path in (folder / _PARTIAL, *folder.glob(".partial-????????")):
        with contextlib.suppress(OSError):
            _remove(path)


def _move(folder: Path) -> None:
    """Moves results to their places, the record last; does the rest when it is called again."""
    whole = folder / _WHOLE
    if not (whole / RECORD).exists():
        return
    if (folder / RECORD).exists():
        os.replace(folder / RECORD, whole / _EARLIER)  # from now on there are no earlier results
        sync(folder)
    if (whole / _EARLIER).exists():  # nothing new is in its place yet
        new = {path.name for path in whole.iterdir()}
        for name in CONTENTS:
            if name not in new and name not in _ALSO_NAMES_OF_OTHERS:
                _remove(folder / name)
        (whole / _EARLIER).unlink()
    sync(folder)
    for path in sorted(whole.iterdir(), key=lambda path: path.name == RECORD):
        place = folder / path.name
        if path.is_dir() or (place.is_dir() and not place.is_symlink()):  # whose places are not taken by a rename
            _remove(place)
        os.replace(path, place)
    sync(folder)


def _remove(path: Path) -> None:
    """Removes a file, a link or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _end(folder: Path) -> None:
    """Removes the mark of results whose run has not come to its end."""
    with contextlib.suppress(FileNotFoundError):
        (folder / _WHOLE).rmdir()


def _is_unfinished(folder: Path) -> bool:
    """Whether the run that wrote the results has not come to its end."""
    return (folder / _WHOLE).is_dir()


def _is_own(folder: Path, configuration: Mapping[str, Any] | None) -> bool:
    """Whether a folder holds results of this configuration whose run was killed when it had just written them."""
    record = record_of(folder) if configuration is not None and _is_unfinished(folder) else None
    return record is not None and _identity(record.get("configuration")) == _identity(configuration)


def _identity(configuration: Any) -> str:
    """Of what a command was told, as far as it decides the results."""
    kept = configuration if isinstance(configuration, Mapping) else {}
    return json.dumps({name: value for name, value in kept.items() if name not in _HOW_NOT_WHAT}, sort_keys=True)


def _kept(folder: Path) -> str:
    return f"all results are in {folder}."


@contextmanager
def _locked(folder: Path, *, wait: bool) -> Iterator[None]:
    if os.path.exists(folder) and not folder.is_dir():
        raise DataError(f"--out: {folder} is a file. Name a folder.")
    if folder.is_symlink() and not os.path.exists(folder):
        raise DataError(f"--out: {folder} is a link to a folder that does not exist. Make that folder, or name another.")
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(alone(folder / _LOCK, wait=wait))
            _recover(folder)
        except Timeout:
            raise DataError(
                f"--out: another run is at work in {folder}. Wait until it has ended, or name another folder."
            ) from None
        except (OSError, ValueError) as error:  # the latter of a name that no folder can have
            blocked = next(each for each in (folder.absolute(), *folder.absolute().parents) if os.path.exists(each))
            if getattr(error, "errno", None) in _FORBIDDEN:
                raise DataError(
                    f"--out: {folder} cannot be written, since {blocked} is not a folder that you may write to."
                ) from None
            raise DataError(f"--out: {folder} cannot be written ({why(error)}). Make room, or name another folder.") from None
        yield
