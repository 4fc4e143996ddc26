"""What the task judges, after rounds whose evaluation is still to come and after the best of those judged."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table; older runs have nothing to put into it."""
    op.create_table(
        "outcomes",
        sa.Column("run_id", sa.String, sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("round", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("arrays", sa.LargeBinary, nullable=False),
    )
