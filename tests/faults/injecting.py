"""Makes one call to the disk fail in a command, or the process end at it: run as a server that forks for each command.

Each line of its input is a JSON object: words, folder, at (number of the call, from 1; 0 for none) and fault (enospc, eio, kill or the
name of a signal). Each line of its output: status, out, err and calls (the names of the calls that were made, in order). Calls are those of
this process to files within the folder: what Python writes itself, and whole calls of writers in C, which fail when half is written.
"""

import builtins
import contextlib
import errno
import functools
import io
import json
import os
import signal
import sqlite3
import sys
import traceback
from pathlib import Path

KILLED = 99

LATER = ("pandas.io.formats.csvs", "pyarrow.pandas_compat", "rich.progress", "sqlalchemy.dialects.sqlite", "torch._dynamo")
"""What commands import when they first need it: once here, for all of them."""


class Faults:
    """Counts calls, and lets one of them go wrong."""

    def __init__(self, folder, at, fault):
        self.folder, self.at, self.fault, self.calls = f"{folder}/", at, fault, []

    def owns(self, path):
        """Whether a path is of a file in the folder."""
        try:
            return os.path.abspath(os.fsdecode(path)).startswith(self.folder)  # not the folder itself
        except TypeError:
            return False

    def call(self, name, path=None, *, half=None, error=None):
        """Counts a call; if it is the one, it goes wrong, after half of what it does was done."""
        self.calls.append(f"{name} {Path(os.fsdecode(path)).name}" if path is not None else name)
        if len(self.calls) != self.at:
            return
        if half and not self.fault.startswith("SIG"):
            half()
        if self.fault == "kill":
            os._exit(KILLED)
        if self.fault.startswith("SIG"):
            os.kill(os.getpid(), getattr(signal, self.fault))
            return
        number = getattr(errno, self.fault.upper())
        raise (error or OSError)(number, os.strerror(number))


class _Sqlite(sqlite3.Connection):
    """A connection whose statements that write are calls."""

    faults = None

    def cursor(self, factory=None):
        return super().cursor(_Cursor)

    def commit(self):
        _of_sqlite(self.faults, "COMMIT")
        super().commit()


class _Cursor(sqlite3.Cursor):
    def execute(self, statement, *arguments):
        if statement.split()[0].upper() not in ("SELECT", "PRAGMA", "BEGIN", "ROLLBACK"):
            _of_sqlite(_Sqlite.faults, statement)
        return super().execute(statement, *arguments)

    def executemany(self, statement, *arguments):
        _of_sqlite(_Sqlite.faults, statement)
        return super().executemany(statement, *arguments)


def _of_sqlite(faults, statement):
    def fail(number, _reason):
        return sqlite3.OperationalError("database or disk is full" if number == errno.ENOSPC else "disk I/O error")

    faults.call(f"sqlite {' '.join(statement.split()[:3])}", error=fail)


class _Raw(io.FileIO):
    """A file each of whose writes is a call."""

    faults = None

    def write(self, data):
        half = memoryview(data)[: len(data) // 2]
        self.faults.call("write", self.name, half=lambda: super(_Raw, self).write(half))
        return super().write(data)


def patch(faults):
    """Puts the calls under the faults."""
    _patch_paths(faults)
    _patch_descriptors(faults)
    _Raw.faults = _Sqlite.faults = faults
    _patch_open(faults)

    import pyarrow.parquet
    import safetensors.torch

    for module, name, place in ((safetensors.torch, "save_file", 1), (pyarrow.parquet, "write_table", 1)):
        patch_writer(faults, module, name, place)

    real_connect = sqlite3.connect
    for module in (sqlite3, sqlite3.dbapi2):
        module.connect = lambda database, *arguments, **options: real_connect(
            database, *arguments, **{"factory": _Sqlite, **options}
        )


def _patch_paths(faults):
    """Calls that take a path."""

    def counted(name, real, owned):
        def call(*arguments, **options):
            if owned(*arguments, **options):
                faults.call(name, arguments[0])
            return real(*arguments, **options)

        return call

    for name in ("mkdir", "rename", "replace", "unlink", "remove", "rmdir"):
        setattr(
            os,
            name,
            counted(name, getattr(os, name), lambda path, *_, dir_fd=None, **__: dir_fd is not None or faults.owns(path)),
        )


def _patch_descriptors(faults):
    """Files by their descriptors."""
    real_open, descriptors = os.open, {}

    def os_open(path, flags, *arguments, **options):
        descriptor = real_open(path, flags, *arguments, **options)
        if faults.owns(path) and "dir_fd" not in options:
            descriptors[descriptor] = path
            if flags & os.O_CREAT:
                faults.call("create", path)
        return descriptor

    os.open = os_open
    for name in ("fsync", "write"):
        real = getattr(os, name)

        def of_descriptor(descriptor, *arguments, name=name, real=real):
            if descriptor in descriptors:
                faults.call(name, descriptors[descriptor])
            return real(descriptor, *arguments)

        setattr(os, name, of_descriptor)


def _patch_open(faults):
    """Files that Python opens for writing."""
    plain_open = builtins.open

    def opened(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
        if isinstance(file, int) or not set(mode) & set("wax+") or not faults.owns(file):
            return plain_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        faults.call("create", file)
        raw = _Raw(os.fspath(file), mode.replace("b", "").replace("t", ""), closefd, opener)
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, io.text_encoding(encoding), errors, newline)

    builtins.open = io.open = opened


def patch_writer(faults, module, name, place):
    """A writer in C: half of its file is there when it fails."""
    real = getattr(module, name)

    def write(*arguments, **options):
        path, result = arguments[place], real(*arguments, **options)
        if not isinstance(path, (str, os.PathLike)):  # a file that pandas has opened with pyarrow, which none but results are
            faults.call(name)
        elif faults.owns(path):
            faults.call(name, path, half=lambda: os.truncate(path, os.path.getsize(path) // 2))
        return result

    setattr(module, name, write)
    for label, other in list(sys.modules.items()):  # where it was imported by its name
        if label.startswith("eigencode.") and vars(other).get(name) is real:
            setattr(other, name, write)


def run(words, folder, at, fault):
    """Runs a command under faults; gives its status and the calls."""
    from eigencode.__main__ import main

    os.chdir(folder)
    faults = Faults(folder, at, fault)
    patch(faults)
    sys.argv = ["eigencode", *words]
    try:
        status = main()
    except SystemExit as stopped:
        status = stopped.code
    except BaseException:
        traceback.print_exc()
        status = 1
    return status, faults.calls


def answer(words, folder, at, fault, told):
    """In the child: runs, and leaves what is to be told beside the folder."""
    for number, name in ((1, "out"), (2, "err")):
        descriptor = os.open(f"{told}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
    with contextlib.suppress(OSError):
        os.close(descriptor)
    write = os.write
    status, calls = run(words, folder, at, fault)
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(f"{told}.calls", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    write(descriptor, json.dumps(calls).encode())
    os._exit(status or 0)


def _drawn(_figure, file, **_options):
    """In place of a drawing, which takes most of a small command's time: a file written by Python, as matplotlib's are."""
    with contextlib.nullcontext(file) if hasattr(file, "write") else open(file, "wb") as written:
        written.write(b"figure")


def serve():
    """Answers until its input ends."""
    import matplotlib

    matplotlib.use("agg")
    from importlib import import_module

    from matplotlib.figure import Figure

    from eigencode import cli

    for _, module in cli._COMMANDS.values():
        import_module(module)
    for module in LATER:
        import_module(module)
    import_module("sklearn.datasets").load_digits()
    cli.build_parser = functools.cache(cli.build_parser)
    for name in cli._COMMANDS:
        cli.build_parser(name)
    import_module("torch").set_num_threads(1)
    Figure.savefig, Figure.draw_without_rendering = _drawn, lambda _figure: None
    for line in sys.stdin:
        asked = json.loads(line)
        told = asked["folder"] + ".told"
        for name in ("out", "err", "calls"):
            Path(f"{told}.{name}").write_text("[]" if name == "calls" else "")
        child = os.fork()
        if child == 0:
            answer(asked["words"], asked["folder"], asked["at"], asked["fault"], told)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out, err, calls = (Path(f"{told}.{name}").read_text() for name in ("out", "err", "calls"))
        print(json.dumps({"status": status, "out": out, "err": err, "calls": json.loads(calls)}), flush=True)


if __name__ == "__main__":
    serve()
