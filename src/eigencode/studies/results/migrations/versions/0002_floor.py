"""The numerical floor of spectra, by which they can be fitted over other ranks; unknown for those kept before."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0002", "0001"


def upgrade() -> None:
    """Adds it."""
    op.add_column("spectra", sa.Column("floor", sa.Float))


def downgrade() -> None:
    """Removes it."""
    op.drop_column("spectra", "floor")
