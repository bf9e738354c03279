"""Manifests for tests: rows of whatever attributes are given."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from api_schemas.manifest import MANIFEST


def manifest(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """One row each; what is not given is null, and a sample is named by its place."""
    always = {"site": "here", "split": "train", "image_sha256": "0" * 64}
    full = [
        {**dict.fromkeys(MANIFEST.names), **always}
        | {"sample_id": f"s{i}", "patient_id": f"p{i}", "image_key": f"k{i}"}
        | {"pixel_sha256": f"{i:064d}"}
        | row
        for i, row in enumerate(rows)
    ]
    empty = pl.from_arrow(MANIFEST.empty_table())
    return pl.DataFrame(full, schema=empty.schema)
