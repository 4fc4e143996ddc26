"""Devices' states become files, of which the store has the names; what older runs have as arrays stays.

A state gets a column for the arrays among its facts, which older states have as lists in the facts.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the table and the column."""
    op.add_column("states", sa.Column("tables", sa.LargeBinary))
    op.create_table(
        "state_files",
        sa.Column("run_id", sa.String, sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("device", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("round", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("nbytes", sa.BigInteger, nullable=False),
    )
