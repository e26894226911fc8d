"""Where finished cells are kept: SQLite by default, any database by URL. A cell is there whole, or not at all."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import alembic.command
import numpy as np
import pandas as pd
import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from sqlalchemy.exc import ArgumentError as URLError
from sqlalchemy.exc import IntegrityError, NoSuchModuleError, SQLAlchemyError

from eigencode._arguments import checked
from eigencode.errors import StudyError
from eigencode.studies.cell import RESULT_VERSION
from eigencode.studies.results.database import (
    BUSY_SECONDS,
    begin_ourselves,
    begin_sqlite,
    file_of,
    is_away,
    is_text,
    migrations,
    migrations_config,
    prepare_sqlite,
    reason_of,
    url_of,
    without_password,
)
from eigencode.studies.results.only_reading import OnlyReading
from eigencode.studies.results.schema import CELLS, KINDS, METADATA, OWNER, RESULTS, SPECTRA, Rows, names_of, rows_of, write

if TYPE_CHECKING:
    from eigencode.studies.execution.group import CellRecord

_T = TypeVar("_T")


PATIENCE = 60.0
"""Seconds in which a server that has gone away in the course of a run must be back."""

_BETWEEN_TRIES = 1.0
_MANY = 400
"""Identities asked for at once: databases limit the number of parameters."""


class Store:
    """Finished cells, their tidy results and spectra.

    Args:
        address: Path of an SQLite file, or a database URL such as postgresql+psycopg://user@host/name.
        make: Make the store if it is missing, and bring it to the present schema. Else it is only read, an older one too, and
            no file is made or changed.

    Raises:
        StudyError: the database cannot be reached or is not a store, or was written by a newer eigencode.
    """

    @checked(StudyError)
    def __init__(self, address: str | Path, *, make: bool = True) -> None:
        self.address = without_password(address)
        if "\0" in self.address or not is_text(self.address):
            raise StudyError(f"the store {self.address!r} is not a valid file name. Give a path in UTF-8.")
        if self.address.strip() == ":memory:":
            raise StudyError("the store :memory: would be gone with each connection. Name a file.")
        if not make and not self.is_there(address):
            raise StudyError(f"the store {self.address} does not exist: nothing has been run into it yet. Check the path.")
        if "://" not in self.address and os.path.isdir(os.path.expanduser(address)):
            raise StudyError(
                f"the store {self.address} is a folder. Name a file in it, such as {Path(address) / 'store.sqlite'}."
            )
        file = file_of(address)
        may_write = file is None or not os.path.exists(file) or (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK))
        self._only_reading = OnlyReading(file) if file and os.path.exists(file) and not (make and may_write) else None
        try:
            url, options = url_of(address), dict[str, Any]()
            if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
                raise StudyError(f"the store {self.address} would be gone with each connection. Name a file.")
            if url.get_backend_name() == "sqlite":
                options["connect_args"] = {"timeout": BUSY_SECONDS}
                if self._only_reading:
                    options["creator"] = self._only_reading.connect
                elif url.database:
                    Path(url.database).parent.mkdir(parents=True, exist_ok=True)
            self._engine = sa.create_engine(url, poolclass=sa.NullPool, **options)
        except (URLError, NoSuchModuleError, ModuleNotFoundError, ValueError) as error:
            raise StudyError(
                f"the store {self.address}: {reason_of(error)}. Give a file, or the URL of a database whose driver is installed, "
                "such as postgresql+psycopg://user@host/name."
            ) from None
        except OSError as error:
            raise StudyError(f"the store {self.address} cannot be made ({error.strerror}). Name another file.") from None
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", begin_ourselves if self._only_reading else prepare_sqlite)
            sa.event.listen(self._engine, "begin", begin_sqlite)
        self._there: dict[str, set[str]] = {}
        self._writing, self._patience = self._engine.execution_options(writing=True), 0.0
        self._there = self._reached(self._migrate if make and may_write else self._columns, "Name another file or database.")
        self._patience = PATIENCE

    @staticmethod
    def is_there(address: str | Path) -> bool:
        """Whether a file is there; a database elsewhere is taken to be."""
        file = file_of(address)
        return file is None or os.path.exists(file)

    def finished(self) -> dict[str, str | None]:
        """Identity of every cell that is there -> why it failed, or None.

        Raises:
            StudyError: cells of another result version are there.
        """
        rows = self._asked(CELLS, [self._select(CELLS, "id", "error", "result_version")])
        self._refuse_others(version for _, _, version in rows)
        return {identity: error for identity, error, _ in rows}

    def stamps(self) -> dict[str, str]:
        """Identity of every cell that is there, failed ones too -> when it was stored."""
        found = dict(self._asked(CELLS, [self._select(CELLS, "id", "finished")]))
        for cell, finished in found.items():
            with self._intact(f"cells.finished of {cell}"):
                datetime.fromisoformat(finished)
        return found

    def _refuse_others(self, versions_there: Iterable[int]) -> None:
        others = sorted(set(versions_there) - {RESULT_VERSION}, key=str)
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
        self._insert(rows_of(records, about), again=again)

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
                {table: [dict(zip(names_of(table), row, strict=True)) for row in other._rows(table, some)] for table in OWNER}
            )
        return len(wanted)

    def _insert(self, rows: Rows, *, again: bool = False) -> None:
        def insert() -> None:
            for attempt in range(3):
                try:
                    with self._writing.begin() as connection:
                        write(connection, rows, again=again)
                    return
                except IntegrityError:  # another writer was faster, between the look and the write
                    if attempt == 2:
                        raise
                    time.sleep(0.1)

        self._reached(insert)

    def cells(self, identities: Sequence[str] | None = None) -> pd.DataFrame:
        """Cells: id, seed, error, seconds, finished, code_revision, versions, hardware, and plan as nested values.

        Raises:
            StudyError: cells of another result version are in the store.
        """
        self._refuse_others(version for (version,) in self._asked(CELLS, [self._select(CELLS, "result_version").distinct()]))
        found = self._read(CELLS, identities)
        with self._intact("table cells"):
            for plan in found["plan"]:
                _ = plan["network"]["model"], plan["network"]["weights"], plan["images"]["data"], plan["training"]["epochs"]
        return found

    def results(self, identities: Sequence[str] | None = None) -> pd.DataFrame:
        """Tidy results: cell, layer, perturbation, strength, epoch, quantity, value."""
        return self._read(RESULTS, identities)

    def spectra(self, identities: Sequence[str] | None = None) -> pd.DataFrame:
        """Spectra: cell, layer, perturbation, strength, n_samples, n_features, floor, eigenvalues (arrays, largest first)."""
        table = self._read(SPECTRA, identities)
        with self._intact("spectra.eigenvalues"):
            table["eigenvalues"] = table["eigenvalues"].map(partial(np.frombuffer, dtype="<f8"))
        return table

    def _read(self, table: sa.Table, identities: Sequence[str] | None) -> pd.DataFrame:
        with self._intact(f"table {table.name}"):  # values that are not JSON
            rows = self._rows(table, identities)
        return pd.DataFrame(rows, columns=names_of(table))

    @contextmanager
    def _intact(self, what: str) -> Iterator[None]:
        """Whatever cannot be made of a value that was read: an SQLite file takes any kind in any column, and may be damaged."""
        try:
            yield
        except StudyError:
            raise
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
            self._refuse_damaged(what)

    def _refuse_damaged(self, what: str) -> NoReturn:
        raise StudyError(f"the store {self.address} is damaged: {what} holds what eigencode did not write. Use a copy of it.")

    def _rows(self, table: sa.Table, identities: Sequence[str] | None) -> list[tuple[Any, ...]]:
        queries = [self._select(table)]
        if identities is not None:
            column, wanted = OWNER[table], list(identities)
            queries = [queries[0].where(column.in_(wanted[at : at + _MANY])) for at in range(0, max(1, len(wanted)), _MANY)]
        return self._asked(table, queries)

    def _select(self, table: sa.Table, *names: str) -> sa.Select[Any]:
        """Columns of a table, by default all; those that an older store has not are null."""
        there = self._there.get(table.name, ())
        wanted = names or names_of(table)
        return sa.select(*(table.c[name] if name in there else sa.null().label(name) for name in wanted)).select_from(table)

    def _asked(self, table: sa.Table, queries: Sequence[sa.Select[Any]]) -> list[tuple[Any, ...]]:
        """What the database answers, all as of one moment."""
        if table.name not in self._there:
            return []

        def ask() -> list[tuple[Any, ...]]:
            with self._engine.begin() as connection:
                return [tuple(row) for query in queries for row in connection.execute(query)]

        rows = self._reached(partial(self._only_reading.read, ask) if self._only_reading else ask)
        for number, described in enumerate(queries[0].column_descriptions):
            column = table.c[described["name"]]
            kinds = (*KINDS[type(column.type)], *((NoneType,) if column.name not in self._there[table.name] else ()))
            if not all(isinstance(row[number], kinds) for row in rows):
                self._refuse_damaged(f"{table.name}.{column.name}")
        return rows

    def _columns(self) -> dict[str, set[str]]:
        """Table -> its columns, of a store that is only read; none of one that nothing has been written to."""

        def look() -> dict[str, set[str]]:
            with self._engine.begin() as connection:
                self._check_schema(connection)
                inspector = sa.inspect(connection)
                return {
                    name: {each["name"] for each in inspector.get_columns(name)}
                    for name in inspector.get_table_names()
                    if name in METADATA.tables
                }

        return self._only_reading.read(look) if self._only_reading else look()

    def _migrate(self) -> dict[str, set[str]]:
        """Brings the store to the present schema, and gives its tables with their columns."""
        present = {table.name: set(names_of(table)) for table in OWNER}
        with self._engine.begin() as connection:
            if MigrationContext.configure(connection).get_current_revision() == migrations().get_current_head():
                return present
        with self._writing.begin() as connection:
            if self._engine.dialect.name == "postgresql":
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7318401)")  # one process at a time
            if self._check_schema(connection) != migrations().get_current_head():
                config = migrations_config()
                config.attributes["connection"] = connection
                alembic.command.upgrade(config, "head")
        return present

    def _check_schema(self, connection: sa.Connection) -> str | None:
        """The schema that a database has; None if it has none.

        Raises:
            StudyError: that of a newer eigencode, or a database of something else.
        """
        scripts = migrations()
        found = MigrationContext.configure(connection).get_current_revision()
        if found is not None and found not in {script.revision for script in scripts.walk_revisions()}:
            raise StudyError(
                f"the store {self.address} has schema {found}, of a newer eigencode; this one knows "
                f"{scripts.get_current_head()}. Update eigencode, or use another store."
            )
        there = sa.inspect(connection).get_table_names() if found is None else []
        if "cells" in there or (there and self._engine.dialect.name == "sqlite"):
            raise StudyError(f"the store {self.address} is a database of something else. Use another.")
        return found

    def _reached(self, what: Callable[[], _T], otherwise: str = "What was finished before is unharmed.") -> _T:
        """What comes of asking the database, which is waited for if it has gone away."""
        until, is_told = time.monotonic() + self._patience, False
        while True:
            try:
                return what()
            except UnicodeDecodeError:  # what SQLite says of a damaged file, with bytes of it
                self._refuse_damaged("its schema")
            except SQLAlchemyError as error:
                if "no such table" in str(error) and self._there:
                    raise StudyError(
                        f"the store {self.address} has lost its tables: its file was removed or replaced meanwhile. Bring "
                        "it back, or give the command again for a new one."
                    ) from None
                if not is_away(error) or not self._patience:
                    raise StudyError(f"the store {self.address}: {reason_of(error)}. {otherwise}") from None
                if time.monotonic() > until:
                    raise StudyError(
                        f"the store {self.address} could not be reached for {self._patience:.0f} s: {reason_of(error)}. "
                        f"{otherwise} Give the command again when it is back."
                    ) from None
                if not is_told:
                    print(
                        f"Waiting up to {self._patience:.0f} s for the store {self.address}: {reason_of(error)}.",
                        file=sys.stderr,
                        flush=True,
                    )
                is_told = True
            time.sleep(_BETWEEN_TRIES)
