"""Cells, their tidy results and their spectra."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "cells",
        sa.Column("id", sa.String(20), primary_key=True),
        sa.Column("result_version", sa.Integer, nullable=False),
        sa.Column("plan", sa.JSON, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("finished", sa.String(32), nullable=False),
        sa.Column("code_revision", sa.String(64), nullable=False),
        sa.Column("versions", sa.JSON, nullable=False),
        sa.Column("hardware", sa.JSON, nullable=False),
    )
    op.create_table(
        "results",
        *_read_of_cells(),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("quantity", sa.String(100), nullable=False),
        sa.Column("value", sa.Float, nullable=False),
    )
    op.create_table(
        "spectra",
        *_read_of_cells(),
        sa.Column("n_samples", sa.Integer, nullable=False),
        sa.Column("n_features", sa.Integer, nullable=False),
        sa.Column("eigenvalues", sa.LargeBinary, nullable=False),
    )


def _read_of_cells() -> tuple[sa.Column[Any], ...]:
    """Columns of everything that was read from cells."""
    return (
        sa.Column("cell", sa.String(20), sa.ForeignKey("cells.id", ondelete="CASCADE"), nullable=False, index=True),
        sa.Column("layer", sa.String(200), nullable=False),
        sa.Column("perturbation", sa.String(100), nullable=False),
        sa.Column("strength", sa.Float, nullable=False),
    )


def downgrade() -> None:
    """Removes them."""
    for table in ("spectra", "results", "cells"):
        op.drop_table(table)
