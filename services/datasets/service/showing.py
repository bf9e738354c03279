"""A dataset's contact sheet: which samples, fetched and verified, with what is said of them."""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from api_schemas.datasets import SheetQuery
from api_schemas.findings import ABSENT, FINDINGS, PRESENT, UNCERTAIN
from api_schemas.manifest import LABEL_COLUMNS
from services.datasets.reports.sheet import Pixels, sheet
from services.datasets.service.problems import NothingChosen
from services.datasets.statistics.selection import lots_of, meets
from services.kit.objects import ObjectStore

READERS = 8
COLUMNS = 6
SHORT = {
    "Enlarged Cardiomediastinum": "Enl. Cardiomed.",
    "Pleural Effusion": "Effusion",
    "Support Devices": "Devices",
}
Row = dict[str, Any]


def contact_sheet(
    store: ObjectStore, manifest: pl.LazyFrame, query: SheetQuery, name: str
) -> bytes:
    """PNG of the samples that meet the query and drew the lowest lots of its seed.

    Raises `NothingChosen` (422).
    """
    columns = ("pixel_sha256", "image_key", "image_sha256", "split", "age", "sex", "view")
    shown = meets(query) & pl.col("image_key").is_not_null()
    chosen = manifest.filter(shown).select(*columns, *LABEL_COLUMNS).collect()
    if not chosen.height:
        raise NothingChosen("No sample with an image meets all of the query; ask for less")
    lots = pl.Series("lot", lots_of(chosen, query.seed))
    rows = chosen.with_columns(lots).sort("lot").head(query.images).to_dicts()
    with ThreadPoolExecutor(READERS) as pool:
        pictures = list(pool.map(lambda row: _pixels(store, row), rows))
    title = f"{name}: {len(rows)} of {chosen.height} images, seed {query.seed}"
    captioned = [(p, _caption(row)) for p, row in zip(pictures, rows, strict=True)]
    return sheet(title, captioned, min(COLUMNS, len(rows)))


def _pixels(store: ObjectStore, row: Row) -> Pixels:
    content = store.get(row["image_key"], row["image_sha256"])
    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        return np.asarray(image.convert("L"))


def _caption(row: Row) -> Sequence[str]:
    """Who, then what is present, then what is uncertain."""
    age = "age unknown" if row["age"] is None else f"{row['age']} y"
    who = ", ".join(part for part in (row["sex"] or "sex unknown", age, row["view"]) if part)
    present, uncertain = _named(row, PRESENT), _named(row, UNCERTAIN)
    if not present and not any(row[f] == ABSENT for f in FINDINGS):
        present = "nothing stated"
    return (who, present or "none present", f"? {uncertain}" if uncertain else "")


def _named(row: Row, value: int) -> str:
    return ", ".join(SHORT.get(f, str(f)) for f in FINDINGS if row[f] == value)
