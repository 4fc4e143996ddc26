"""Who may write to a run: a lease with a fencing token."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the table; a run that nobody drives has no lease."""
    op.create_table(
        "leases",
        sa.Column("run_id", sa.String, sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("token", sa.Integer, nullable=False),
        sa.Column("holder", sa.JSON, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
    )
