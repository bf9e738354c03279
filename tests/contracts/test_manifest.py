"""The manifest's schema: columns that came later change nothing about tables that lack them."""

import pyarrow as pa
import pytest

from api_schemas.findings import Ethnicity
from api_schemas.manifest import (
    MANIFEST,
    WrongTable,
    conform,
    content_digest,
    from_parquet,
    to_parquet,
)

BEFORE = pa.schema([field for field in MANIFEST if field.name != "ethnicity"])


def table(schema: pa.Schema, **stated: str) -> pa.Table:
    row = {"sample_id": "s", "patient_id": "p", "site": "here", "split": "test"}
    return pa.Table.from_pylist([dict.fromkeys(schema.names) | row | stated], schema=schema)


def test_a_manifest_from_before_ethnicity_is_read_and_keeps_its_digest() -> None:
    old = table(BEFORE, race="White")
    read = from_parquet(to_parquet(old), MANIFEST)
    assert read.schema == MANIFEST
    assert read["ethnicity"].to_pylist() == [None]
    assert content_digest(read) == content_digest(old)


def test_ethnicity_is_content_where_anybody_states_it() -> None:
    silent, *told = (
        content_digest(table(MANIFEST, **said))
        for said in ({}, *({"ethnicity": str(each)} for each in Ethnicity))
    )
    assert len({silent, *told}) == 3


def test_every_other_column_is_needed() -> None:
    with pytest.raises(WrongTable, match="race"):
        conform(table(MANIFEST).drop_columns("race"), MANIFEST)
    with pytest.raises(WrongTable, match=r"columns unknown: .*origin"):
        conform(table(MANIFEST).append_column("origin", pa.array(["x"])), MANIFEST)
