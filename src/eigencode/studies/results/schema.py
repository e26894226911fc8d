"""Tables of a store: cells, their tidy results, and their spectra."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from types import NoneType
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa

if TYPE_CHECKING:
    from eigencode.studies.execution.group import CellRecord


METADATA = sa.MetaData()
CELLS = sa.Table(
    "cells",
    METADATA,
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
    return sa.Table(name, METADATA, *where, sa.Column("strength", sa.Float), *own)


RESULTS = _read_of_cells(
    "results", sa.Column("epoch", sa.Integer), sa.Column("quantity", sa.String), sa.Column("value", sa.Float)
)
SPECTRA = _read_of_cells(
    "spectra",
    sa.Column("n_samples", sa.Integer),
    sa.Column("n_features", sa.Integer),
    sa.Column("floor", sa.Float),
    sa.Column("eigenvalues", sa.LargeBinary),
)
OWNER = {CELLS: CELLS.c.id, RESULTS: RESULTS.c.cell, SPECTRA: SPECTRA.c.cell}
"""Table -> its column with the cell that a row is of."""

KINDS: dict[type[Any], tuple[type[Any], ...]] = {
    sa.String: (str, NoneType),
    sa.Text: (str, NoneType),
    sa.Integer: (int, NoneType),
    sa.BigInteger: (int, NoneType),
    sa.Float: (float, int, NoneType),
    sa.LargeBinary: (bytes,),
    sa.JSON: (dict, NoneType),
}
"""Type of a column -> what its values are in Python."""

Rows = dict[sa.Table, list[dict[str, Any]]]


def names_of(table: sa.Table) -> list[str]:
    """Columns of a table."""
    return [str(column.name) for column in table.columns]


def rows_of(records: Sequence[CellRecord], about: dict[str, Any]) -> Rows:
    """Cells as rows of each table; `about` is what holds for all of them."""
    rows: Rows = {table: [] for table in OWNER}
    for record in records:
        plan, identity = record.plan, record.plan.identity
        cell = {"id": identity, "plan": asdict(plan), "seed": plan.member.seed, "error": record.error, "seconds": record.seconds}
        rows[CELLS].append(cell | record.computed_with | about)
        rows[RESULTS] += [
            {"cell": identity, **{str(key): value for key, value in row.items()}} for row in record.rows.to_dict("records")
        ]
        rows[SPECTRA] += [
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


def write(connection: sa.Connection, rows: Rows, *, again: bool) -> None:
    """Writes cells that are not there; those that are give way if they failed, or if asked."""
    ids = [cell["id"] for cell in rows[CELLS]]
    found = connection.execute(sa.select(CELLS.c.id, CELLS.c.error).where(CELLS.c.id.in_(ids))).all()
    replaced = {row.id for row in found if again or row.error is not None}
    kept = {row.id for row in found} - replaced
    for table in reversed(OWNER):
        connection.execute(table.delete().where(OWNER[table].in_(replaced)))
    for table, column in OWNER.items():
        new = [row for row in rows[table] if row[column.name] not in kept]
        if new:
            connection.execute(table.insert(), new)
