"""Blueprints say how many images each source lists; how fast classifiers train is kept."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "training_0003"
down_revision = "training_0001"
branch_labels = None
depends_on = None

EXPERIMENTS = sa.table(
    "experiments",
    sa.column("id", sa.Uuid()),
    sa.column("arms", JSONB()),
    sa.column("blueprint", JSONB()),
    schema="training",
)


def upgrade() -> None:
    _rewrite(_by_source)
    for column in (
        sa.Column("inputs_digest", sa.String(), nullable=True),
        sa.Column("reused", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("problem", JSONB(), nullable=True),
        sa.Column("curve", JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
    ):
        op.add_column("runs", column, schema="training")
    op.create_index("ix_training_runs_inputs_digest", "runs", ["inputs_digest"], schema="training")
    op.create_table(
        "calibrations",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("project", sa.Uuid(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("configuration", JSONB(), nullable=False),
        sa.Column("job", sa.Uuid(), nullable=True),
        sa.Column("device", sa.String(), nullable=True),
        *(sa.Column(name, sa.Float(), nullable=True) for name in ("setup_s", "step_s", "image_s")),
        sa.Column("measured_at", sa.DateTime(timezone=True), nullable=True),
        schema="training",
    )
    op.create_index(
        "calibrations_of_key", "calibrations", ["key", "measured_at"], schema="training"
    )


def downgrade() -> None:
    op.drop_table("calibrations", schema="training")
    op.drop_index("ix_training_runs_inputs_digest", "runs", schema="training")
    for name in ("curve", "problem", "reused", "inputs_digest"):
        op.drop_column("runs", name, schema="training")
    _rewrite(_by_stage)


def _rewrite(converted: Any) -> None:
    connection = op.get_bind()
    planned = sa.select(EXPERIMENTS).where(EXPERIMENTS.c.blueprint.is_not(None))
    for row in connection.execute(planned).all():
        connection.execute(
            EXPERIMENTS.update()
            .where(EXPERIMENTS.c.id == row.id)
            .values(blueprint=converted(row.arms, dict(row.blueprint)))
        )


def _by_source(arms: list[dict[str, Any]], blueprint: dict[str, Any]) -> dict[str, Any]:
    unit = blueprint.pop("yardstick")
    for arm in arms:
        planned = blueprint["arms"][arm["name"]]
        del planned["images"]
        planned["listed"] = [
            [max(1, round(source["multiple"] * unit)) for source in stage["sources"]]
            for stage in arm["stages"]
        ]
    return blueprint


def _by_stage(arms: list[dict[str, Any]], blueprint: dict[str, Any]) -> dict[str, Any]:
    """The first source's images, however many times: what multiples were counted in."""
    first = arms[0]
    listed = blueprint["arms"][first["name"]]["listed"][0][0]
    blueprint["yardstick"] = round(listed / first["stages"][0]["sources"][0]["multiple"])
    for planned in blueprint["arms"].values():
        planned["images"] = [sum(stage) for stage in planned.pop("listed")]
    return blueprint
