"""Where finished cells are kept: SQLite by default, any database by URL. A cell is there whole, or not at all."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Any, NoReturn
from urllib.parse import quote, unquote

import alembic.command
import numpy as np
import pandas as pd
import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import ArgumentError as URLError
from sqlalchemy.exc import IntegrityError, NoSuchModuleError, SQLAlchemyError

from eigencode.errors import StudyError
from eigencode.studies.running import CellRecord
from eigencode.studies.study import RESULT_VERSION

_METADATA = sa.MetaData()
_CELLS = sa.Table(
    "cells",
    _METADATA,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("result_version", sa.Integer),
    sa.Column("plan", sa.JSON),
    sa.Column("seed", sa.BigInteger),
    sa.Column("error", sa.Text),
    sa.Column("seconds", sa.Float),
    sa.Column("finished", sa.String),
    sa.Column("code_revision", sa.String),
    sa.Column("versions", sa.JSON),
    sa.Column("hardware", sa.JSON),
)


def _read_of_cells(name: str, *own: sa.Column[Any]) -> sa.Table:
    """A table of what was read from cells: of which, at which layer, under what and how much of it."""
    where = (sa.Column("cell", sa.String), sa.Column("layer", sa.String), sa.Column("perturbation", sa.String))
    return sa.Table(name, _METADATA, *where, sa.Column("strength", sa.Float), *own)


_RESULTS = _read_of_cells(
    "results", sa.Column("epoch", sa.Integer), sa.Column("quantity", sa.String), sa.Column("value", sa.Float)
)
_SPECTRA = _read_of_cells(
    "spectra",
    sa.Column("n_samples", sa.Integer),
    sa.Column("n_features", sa.Integer),
    sa.Column("floor", sa.Float),
    sa.Column("eigenvalues", sa.LargeBinary),
)
_OWNER = {_CELLS: _CELLS.c.id, _RESULTS: _RESULTS.c.cell, _SPECTRA: _SPECTRA.c.cell}
"""Table -> its column with the cell that a row is of."""

_KINDS: dict[type[Any], tuple[type[Any], ...]] = {
    sa.String: (str, NoneType),
    sa.Text: (str, NoneType),
    sa.Integer: (int, NoneType),
    sa.BigInteger: (int, NoneType),
    sa.Float: (float, int, NoneType),
    sa.LargeBinary: (bytes,),
    sa.JSON: (dict, NoneType),
}
"""Type of a column -> what its values are in Python."""

_Rows = dict[sa.Table, list[dict[str, Any]]]
_BUSY_SECONDS = 60
_MANY = 400
"""Identities asked for at once: databases limit the number of parameters."""


class Store:
    """Finished cells, their tidy results and spectra.

    Args:
        address: Path of an SQLite file, or a database URL such as postgresql+psycopg://user@host/name.
        make: Make a file that is missing; else that is an error.

    Raises:
        StudyError: the database cannot be reached or is no store, or was written by a newer eigencode.
    """

    def __init__(self, address: str | Path, *, make: bool = True) -> None:
        self.address = without_password(address)
        if not make and not self.is_there(address):
            raise StudyError(f"the store {self.address} does not exist: nothing has been run into it yet. Check the path.")
        if "://" not in self.address and Path(address).is_dir():
            raise StudyError(
                f"the store {self.address} is a folder. Name a file in it, such as {Path(address) / 'store.sqlite'}."
            )
        try:
            url, options = _url_of(address), dict[str, Any]()
            if url.get_backend_name() == "sqlite":
                options["connect_args"] = {"timeout": _BUSY_SECONDS}
                if url.database:
                    Path(url.database).parent.mkdir(parents=True, exist_ok=True)
            self._engine = sa.create_engine(_as_allowed(url), poolclass=sa.NullPool, **options)
        except (URLError, NoSuchModuleError, ModuleNotFoundError, ValueError) as error:
            raise StudyError(
                f"the store {self.address}: {_reason(error)}. Give a file, or the URL of a database whose driver is installed, "
                "such as postgresql+psycopg://user@host/name."
            ) from None
        except OSError as error:
            raise StudyError(f"the store {self.address} cannot be made ({error.strerror}). Name another file.") from None
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", _prepare_sqlite)
            sa.event.listen(self._engine, "begin", _begin_sqlite)
        self._writing = self._engine.execution_options(writing=True)
        with self._reached("Name another file or database."):
            self._migrate()

    @staticmethod
    def is_there(address: str | Path) -> bool:
        """Whether a file is there; a database elsewhere is taken to be."""
        place = str(address).removeprefix("sqlite:///")
        return "://" in place or Path(place).exists()

    def finished(self) -> dict[str, str | None]:
        """Identity of every cell that is there -> why it failed, or None.

        Raises:
            StudyError: cells of another result version are there.
        """
        with self._reached(), self._engine.begin() as connection:
            rows = connection.execute(sa.select(_CELLS.c.id, _CELLS.c.error, _CELLS.c.result_version)).all()
        self._refuse_others(row.result_version for row in rows)
        return {row.id: row.error for row in rows}

    def stamps(self) -> dict[str, str]:
        """Identity of every cell that is there, failed ones too -> when it was stored."""
        with self._reached(), self._engine.begin() as connection:
            found = {row.id: row.finished for row in connection.execute(sa.select(_CELLS.c.id, _CELLS.c.finished))}
        for cell, finished in found.items():
            with self._intact(f"cells.finished of {cell}"):
                datetime.fromisoformat(finished)
        return found

    def _refuse_others(self, versions_there: Iterable[int]) -> None:
        others = sorted(set(versions_there) - {RESULT_VERSION})
        if others:
            raise StudyError(
                f"the store {self.address} holds cells of result version {others[0]}; this eigencode makes version "
                f"{RESULT_VERSION}, whose numbers differ. Use another store, or the eigencode that made it."
            )

    def save(self, records: Sequence[CellRecord], *, again: bool = False) -> None:
        """Writes cells in one transaction; those that another writer has finished meanwhile are left as they are.

        Args:
            records: Cells.
            again: Replace cells that are there.

        Raises:
            StudyError: they cannot be written; nothing has been.
        """
        about = {
            "result_version": RESULT_VERSION,
            "finished": datetime.now(UTC).isoformat(timespec="microseconds"),
        }
        self._insert(_rows_of(records, about), again=again)

    def merge(self, other: Store) -> int:
        """Copies the cells of another store that are not here, as they are there; one that failed here gives way to a result.

        Args:
            other: Store, which stays as it is.

        Returns:
            Number of cells copied.

        Raises:
            StudyError: cells of another result version are in one of them, or they cannot be written. What was copied stays.
        """
        here, there = self.finished(), other.finished()
        wanted = [cell for cell, error in there.items() if cell not in here or (here[cell] is not None and error is None)]
        for at in range(0, len(wanted), _MANY):
            some = wanted[at : at + _MANY]
            self._insert(
                {table: [dict(zip(_names(table), row, strict=True)) for row in other._rows(table, some)] for table in _OWNER}
            )
        return len(wanted)

    def _insert(self, rows: _Rows, *, again: bool = False) -> None:
        with self._reached():
            for attempt in range(3):
                try:
                    with self._writing.begin() as connection:
                        _write(connection, rows, again=again)
                    return
                except IntegrityError:  # another writer was faster, between the look and the write
                    if attempt == 2:
                        raise
                    time.sleep(0.1)

    def cells(self, identities: Sequence[str] | None = None) -> pd.DataFrame:
        """Cells: id, seed, error, seconds, finished, code_revision, versions, hardware, and plan as nested values.

        Raises:
            StudyError: cells of another result version are in the store.
        """
        with self._reached(), self._engine.begin() as connection:
            there = connection.execute(sa.select(_CELLS.c.result_version).distinct()).scalars().all()
        self._refuse_others(there)
        found = self._read(_CELLS, identities)
        with self._intact("table cells"):
            for plan in found["plan"]:
                _ = plan["network"]["model"], plan["network"]["weights"], plan["images"]["data"], plan["training"]["epochs"]
        return found

    def results(self, identities: Sequence[str] | None = None) -> pd.DataFrame:
        """Tidy results: cell, layer, perturbation, strength, epoch, quantity, value."""
        return self._read(_RESULTS, identities)

    def spectra(self, identities: Sequence[str] | None = None) -> pd.DataFrame:
        """Spectra: cell, layer, perturbation, strength, n_samples, n_features, floor, eigenvalues (arrays, largest first)."""
        table = self._read(_SPECTRA, identities)
        with self._intact("spectra.eigenvalues"):
            table["eigenvalues"] = table["eigenvalues"].map(partial(np.frombuffer, dtype="<f8"))
        return table

    def _read(self, table: sa.Table, identities: Sequence[str] | None) -> pd.DataFrame:
        with self._intact(f"table {table.name}"):  # values that are no JSON
            rows = self._rows(table, identities)
        for number, column in enumerate(table.columns):
            kinds = _KINDS[type(column.type)]
            if not all(isinstance(row[number], kinds) for row in rows):
                self._refuse_damaged(f"{table.name}.{column.name}")
        return pd.DataFrame(rows, columns=_names(table))

    @contextmanager
    def _intact(self, what: str) -> Iterator[None]:
        """Whatever cannot be made of a value that was read: an SQLite file takes any kind in any column, and may be damaged."""
        try:
            yield
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
            self._refuse_damaged(what)

    def _refuse_damaged(self, what: str) -> NoReturn:
        raise StudyError(f"the store {self.address} is damaged: {what} holds what eigencode did not write. Use a copy of it.")

    def _rows(self, table: sa.Table, identities: Sequence[str] | None) -> list[tuple[Any, ...]]:
        queries = [sa.select(table)]
        if identities is not None:
            column, wanted = _OWNER[table], list(identities)
            queries = [sa.select(table).where(column.in_(wanted[at : at + _MANY])) for at in range(0, max(1, len(wanted)), _MANY)]
        with self._reached(), self._engine.begin() as connection:
            return [tuple(row) for query in queries for row in connection.execute(query)]

    def _migrate(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
        scripts = ScriptDirectory.from_config(config)
        known, newest = {script.revision for script in scripts.walk_revisions()}, scripts.get_current_head()
        with self._engine.begin() as connection:
            if MigrationContext.configure(connection).get_current_revision() == newest:
                return
        with self._writing.begin() as connection:
            if self._engine.dialect.name == "postgresql":
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7318401)")  # one process at a time
            present = MigrationContext.configure(connection).get_current_revision()
            if present is not None and present not in known:
                raise StudyError(
                    f"the store {self.address} has schema {present}, of a newer eigencode; this one knows {newest}. Update "
                    "eigencode, or use another store."
                )
            if present == newest:
                return
            there = sa.inspect(connection).get_table_names() if present is None else []
            if "cells" in there or (there and self._engine.dialect.name == "sqlite"):
                raise StudyError(f"the store {self.address} is a database of something else. Use another.")
            config.attributes["connection"] = connection
            alembic.command.upgrade(config, "head")

    @contextmanager
    def _reached(self, otherwise: str = "What was finished before is unharmed.") -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise StudyError(f"the store {self.address}: {_reason(error)}. {otherwise}") from None


def _names(table: sa.Table) -> list[str]:
    return [str(column.name) for column in table.columns]


def _rows_of(records: Sequence[CellRecord], about: dict[str, Any]) -> _Rows:
    """Cells as rows of each table; `about` is what holds for all of them."""
    rows: _Rows = {table: [] for table in _OWNER}
    for record in records:
        plan, identity = record.plan, record.plan.identity
        cell = {"id": identity, "plan": asdict(plan), "seed": plan.member.seed, "error": record.error, "seconds": record.seconds}
        rows[_CELLS].append(cell | record.computed_with | about)
        rows[_RESULTS] += [
            {"cell": identity, **{str(key): value for key, value in row.items()}} for row in record.rows.to_dict("records")
        ]
        rows[_SPECTRA] += [
            {
                "cell": identity,
                "layer": each.layer,
                "perturbation": each.perturbation,
                "strength": each.strength,
                "n_samples": each.spectrum.n_samples,
                "n_features": each.spectrum.n_features,
                "floor": each.spectrum.floor,
                "eigenvalues": np.asarray(each.spectrum.eigenvalues, dtype="<f8").tobytes(),
            }
            for each in record.spectra
        ]
    return rows


def _write(connection: sa.Connection, rows: _Rows, *, again: bool) -> None:
    """Writes cells that are not there; those that are give way if they failed, or if asked."""
    ids = [cell["id"] for cell in rows[_CELLS]]
    found = connection.execute(sa.select(_CELLS.c.id, _CELLS.c.error).where(_CELLS.c.id.in_(ids))).all()
    replaced = {row.id for row in found if again or row.error is not None}
    kept = {row.id for row in found} - replaced
    for table in reversed(_OWNER):
        connection.execute(table.delete().where(_OWNER[table].in_(replaced)))
    for table, column in _OWNER.items():
        new = [row for row in rows[table] if row[column.name] not in kept]
        if new:
            connection.execute(table.insert(), new)


def without_password(address: str | Path) -> str:
    """The address of a store as it may be shown."""
    text = str(address)
    if "://" not in text:
        return text
    try:
        url = sa.make_url(text)
    except (URLError, ValueError):
        return re.sub(r"(://[^:/@]*):.*@", r"\1:***@", text)
    shown = url.update_query_dict({"password": "***"}) if "password" in url.query else url
    return unquote(shown.render_as_string(hide_password=True))


def _url_of(address: str | Path) -> sa.URL:
    if "://" in str(address):
        return sa.make_url(str(address))
    return sa.URL.create("sqlite", database=str(Path(address).absolute()))


def _as_allowed(url: sa.URL) -> sa.URL:
    """The URL of a database; of an SQLite file that may be read and not written, one that asks for no more.

    Such a file has no log beside it unless a writer is at work right now, and is then taken to stay as it is: a study that
    somebody else is running should not be read so.
    """
    path = Path(url.database or "")
    if url.get_backend_name() != "sqlite" or not path.is_file():
        return url
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        return url
    query = {"mode": "ro", "uri": "true"}
    if not Path(f"{path}-wal").exists():
        query["immutable"] = "1"
    return sa.URL.create("sqlite", database=f"file:{quote(str(path))}", query=query)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    """Transactions that begin when we say so, a log that readers need not wait for, and writes that survive a power cut."""
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    until = time.monotonic() + _BUSY_SECONDS
    while True:
        try:  # of a new file this does not wait by itself, as all else does
            cursor.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_READONLY:
                break
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.02)
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    """Writers wait for each other at once; readers wait for nobody."""
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writing") else "BEGIN")


def _reason(error: Exception) -> str:
    """The database's own words, in one line."""
    original = getattr(error, "orig", None) or error
    return " ".join(str(original).split()).rstrip(".?")[:300]
