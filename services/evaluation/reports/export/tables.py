"""A manifest as CSV, as CheXpert's tables are; `api_schemas.paper` writes the paper's."""

import polars as pl

from api_schemas.findings import View
from api_schemas.manifest import MADE
from api_schemas.paper import LABELS

COMPUTED = r"^[=+\-@\t\r\n]"
"""What a spreadsheet takes for a formula; an apostrophe in front makes it a text."""


def image_path(sample: str) -> str:
    """Where an exported image lies, relative to the table."""
    return f"images/{sample}.png"


def synthetic() -> pl.Expr:
    """Whether a row of a manifest is of a synthetic image, by its own word."""
    return pl.any_horizontal(pl.col(MADE).is_not_null()).alias("synthetic")


def chexpert_csv(manifest: pl.DataFrame, *, phantom: bool = False) -> bytes:
    """A table like CheXpert's `train.csv`, with patient, race, ethnicity, split and fold beside,
    and whether an image is synthetic (1 or 0), and of drawn phantoms.

    `POST /datasets` reads it again, as format `chexpert_csv`.
    """
    lateral = (pl.col("view") == View.LATERAL).fill_null(value=False)
    return _csv(
        manifest.select(
            pl.format("images/{}.png", "sample_id").alias("Path"),
            pl.col("sex").alias("Sex"),
            pl.col("age").alias("Age"),
            pl.when(lateral)
            .then(pl.lit("Lateral"))
            .otherwise(pl.lit("Frontal"))
            .alias("Frontal/Lateral"),
            pl.when(~lateral).then(pl.col("view")).alias("AP/PA"),
            *(pl.col(str(f)).cast(pl.Float64) for f in LABELS),
            pl.col("patient_id").alias("PID"),
            pl.col("race").alias("Race"),
            pl.col("ethnicity").alias("Ethnicity"),
            pl.col("split").alias("Split"),
            pl.col("fold").alias("Fold"),
            synthetic().cast(pl.Int8).alias("Synthetic"),
            pl.lit(int(phantom)).alias("Phantom"),
        )
    )


def _csv(table: pl.DataFrame) -> bytes:
    texts = pl.col(pl.String)
    harmless = pl.when(texts.str.contains(COMPUTED)).then("'" + texts).otherwise(texts)
    return table.with_columns(harmless.name.keep()).write_csv().encode()
