"""Manifests as CSV: as CheXpert's tables are, and as the paper's."""

from collections.abc import Sequence

import polars as pl

from api_schemas.findings import FINDINGS, Finding

CHEXPERT_ORDER: Sequence[Finding] = (
    Finding.NO_FINDING,
    Finding.ENLARGED_CARDIOMEDIASTINUM,
    Finding.CARDIOMEGALY,
    Finding.LUNG_OPACITY,
    Finding.LUNG_LESION,
    Finding.EDEMA,
    Finding.CONSOLIDATION,
    Finding.PNEUMONIA,
    Finding.ATELECTASIS,
    Finding.PNEUMOTHORAX,
    Finding.PLEURAL_EFFUSION,
    Finding.PLEURAL_OTHER,
    Finding.FRACTURE,
    Finding.SUPPORT_DEVICES,
)
"""The columns of CheXpert's own tables."""
COMPUTED = r"^[=+\-@\t\r\n]"
"""What a spreadsheet takes for a formula; an apostrophe in front makes it a text."""


def image_path(sample: str) -> str:
    """Where an exported image lies, relative to the table."""
    return f"images/{sample}.png"


def chexpert_csv(manifest: pl.DataFrame) -> bytes:
    """A table like CheXpert's `train.csv`, with patient, race, split and fold beside.

    `POST /datasets` reads it again, as format `chexpert_csv`.
    """
    return _csv(
        manifest.select(
            _path("sample_id").alias("Path"),
            pl.col("sex").alias("Sex"),
            pl.col("age").alias("Age"),
            pl.lit("Frontal").alias("Frontal/Lateral"),
            pl.col("view").alias("AP/PA"),
            *(pl.col(str(f)).cast(pl.Float64) for f in CHEXPERT_ORDER),
            pl.col("patient_id").alias("PID"),
            pl.col("race").alias("Race"),
            pl.col("split").alias("Split"),
            pl.col("fold").alias("Fold"),
        )
    )


def seeded_csv(manifest: pl.DataFrame, *, synthetic: bool) -> bytes:
    """The paper's table. A synthetic row says by `Seed` and `ReplicaID` how it was made, by `Path`
    whose condition it has (where a real image lent it), by `Save Path` where it lies.
    """
    own = _path("sample_id")
    lender = pl.when(pl.col("parent_sample_id").is_not_null()).then(_path("parent_sample_id"))
    columns = [
        (lender if synthetic else own).alias("Path"),
        pl.col("patient_id").alias("PID"),
        pl.col("sex").alias("Sex"),
        pl.col("age").alias("Age"),
        pl.lit("Frontal").alias("Frontal/Lateral"),
        pl.col("view").alias("AP/PA"),
        *(pl.col(str(f)) for f in FINDINGS),
        pl.col("race").alias("Race"),
        pl.col("fold").alias("Fold"),
    ]
    if synthetic:
        columns += [
            pl.col("seed").alias("Seed"),
            pl.col("replica").alias("ReplicaID"),
            own.alias("Save Path"),
        ]
    return _csv(manifest.select(columns))


def _path(column: str) -> pl.Expr:
    return pl.format("images/{}.png", pl.col(column))


def _csv(table: pl.DataFrame) -> bytes:
    texts = pl.col(pl.String)
    harmless = pl.when(texts.str.contains(COMPUTED)).then("'" + texts).otherwise(texts)
    return table.with_columns(harmless.name.keep()).write_csv().encode()
