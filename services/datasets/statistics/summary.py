"""What a manifest holds, counted."""

import numpy as np
import polars as pl

from api_schemas.datasets import LabelCounts, Missingness, Summary
from api_schemas.findings import ABSENT, PRESENT, UNCERTAIN
from api_schemas.manifest import LABEL_COLUMNS
from services.datasets.statistics.selection import UNKNOWN

ATTRIBUTES = ("age", "sex", "race", "ethnicity", "view", "fold")


def summary(manifest: pl.LazyFrame) -> Summary:
    """Counts over a manifest, in one pass over the columns that are counted."""
    columns = ("patient_id", "split", "site", *ATTRIBUTES, *LABEL_COLUMNS)
    frame = manifest.select(columns).collect()
    patients = frame["patient_id"].n_unique()
    return Summary(
        images=frame.height,
        patients=patients,
        images_a_patient=frame.height / max(1, patients),
        labels={name: _label_counts(frame[name]) for name in LABEL_COLUMNS},
        pairs=_pairs(frame.select(LABEL_COLUMNS)),
        missing={name: _missing(frame[name]) for name in (*ATTRIBUTES, *LABEL_COLUMNS)},
        splits=_counts(frame["split"]),
        sex=_counts(frame["sex"]),
        race=_counts(frame["race"]),
        ethnicity=_counts(frame["ethnicity"]),
        view=_counts(frame["view"]),
        site=_counts(frame["site"]),
        age_decades=_counts((frame["age"] // 10 * 10).cast(pl.String)),
    )


def _label_counts(column: pl.Series) -> LabelCounts:
    return LabelCounts(
        present=_times(column, PRESENT),
        absent=_times(column, ABSENT),
        uncertain=_times(column, UNCERTAIN),
        blank=column.null_count(),
    )


def _times(column: pl.Series, value: int) -> int:
    return int((column == value).sum())


def _pairs(labels: pl.DataFrame) -> dict[str, dict[str, int]]:
    """In how many images two findings are present together."""
    present = labels.select((pl.all() == PRESENT).fill_null(value=False)).to_numpy()
    together = np.rint(present.T.astype(np.float32) @ present.astype(np.float32)).astype(int)
    return {
        a: dict(zip(labels.columns, map(int, row), strict=True))
        for a, row in zip(labels.columns, together, strict=True)
    }


def _missing(column: pl.Series) -> Missingness:
    nobody = column.null_count()
    return Missingness(images=nobody, share=nobody / max(1, len(column)))


def _counts(column: pl.Series) -> dict[str, int]:
    counted = column.fill_null(UNKNOWN).value_counts(name="images").sort(column.name)
    return dict(counted.iter_rows())
