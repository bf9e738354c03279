"""A manifest of 2,000,000 rows: filtered, paged, counted, split anew.

Made up by this script and read from a temporary folder by the code that the service runs; no
server takes part. Run from the repository's root: `python -m benchmarks.manifests [--rows N]`.
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast
from uuid import UUID

import numpy as np
import polars as pl

from api_schemas.datasets import SampleQuery
from api_schemas.findings import FINDINGS, Finding, Race, Sex, View
from api_schemas.manifest import MANIFEST, conform, content_digest, to_parquet
from api_schemas.selection import Filter, NewSplits, ViewRequest
from services.datasets.models import Manifest
from services.datasets.service.deriving import derive
from services.datasets.service.manifests import Manifests
from services.datasets.service.paging import cursor_of, samples_page
from services.datasets.statistics.summary import summary
from services.kit.objects import ObjectStore, sha256

IMAGES_A_PATIENT = 3.4
WHERE = Filter(sex=[Sex.FEMALE], view=[View.PA], age_from=60, present=[Finding.PLEURAL_EFFUSION])


class OneObject:
    """Stands where the object store would."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def get(self, _key: str, _digest: str | None = None) -> bytes:
        return self._content


def made_up(rows: int) -> pl.DataFrame:
    """As a large hospital's would be: 3.4 images a patient, 14 labels of four values each."""
    rng = np.random.default_rng(0)
    number = pl.int_range(rows, eager=True).alias("n")
    patient = np.sort(rng.integers(0, max(1, round(rows / IMAGES_A_PATIENT)), rows))

    def one_of(values: Sequence[object]) -> pl.Series:
        names = pl.Series([*map(str, values), None], dtype=pl.String)
        return names.gather(pl.Series(rng.integers(0, len(values) + 1, rows)))

    def hexadecimal(prefix: str) -> pl.Expr:
        parts = [pl.col("n").hash(seed).cast(pl.String).str.zfill(16) for seed in range(4)]
        return (pl.lit(prefix) + pl.concat_str(parts)).str.slice(0, len(prefix) + 64)

    labels = {
        str(f): pl.Series([1, 0, -1, None]).gather(pl.Series(rng.integers(0, 4, rows)))
        for f in FINDINGS
    }
    told = pl.DataFrame({"n": number, "p": patient}).select(
        hexadecimal("hospital-").str.slice(0, 41).alias("sample_id"),
        pl.format("projects/p/datasets/d/images/{}.png", hexadecimal("")).alias("image_key"),
        hexadecimal("").alias("image_sha256"),
        hexadecimal("").alias("pixel_sha256"),
        pl.format("hospital:{}", pl.col("p").cast(pl.String).str.zfill(32)).alias("patient_id"),
        pl.lit("hospital").alias("site"),
        pl.Series("split", ["train", "train", "train", "validation", "test"])
        .gather(pl.Series(patient % 5))
        .alias("split"),
        one_of(list(Sex)).alias("sex"),
        one_of(list(Race)).alias("race"),
        one_of(list(View)).alias("view"),
        pl.Series("age", rng.integers(18, 100, rows)),
        *(column.alias(name) for name, column in labels.items()),
    )
    missing = [pl.lit(None).alias(name) for name in MANIFEST.names if name not in told.columns]
    return told.with_columns(missing)


def seconds(call: Callable[[], object], times: int = 5) -> tuple[float, float]:
    """Median and largest of some calls."""
    took: list[float] = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return statistics.median(took), max(took)


def show(what: str, call: Callable[[], object], times: int = 5) -> None:
    median, largest = seconds(call, times)
    most = "" if times == 1 else f"   largest of {times}: {largest:7.3f} s"
    print(f"  {what:<62} {median:7.3f} s{most}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    rows: int = parser.parse_args().rows
    table = conform(made_up(rows).to_arrow(), MANIFEST)
    content = to_parquet(table)
    row = Manifest(id=UUID(int=7), key="k", parquet_sha256=sha256(content))
    print(f"{rows} rows, {len(content) / 2**20:.0f} MiB of Parquet")
    with tempfile.TemporaryDirectory() as folder:
        manifests = Manifests(cast("ObjectStore", OneObject(content)), Path(folder))
        show("fetched, verified and laid out on disk (once)", lambda: manifests.scan(row), 1)
        pages(manifests, row)
        show("the summary", lambda: summary(manifests.scan(row)), 3)
        views(manifests, row)
        show("the content digest of all rows", lambda: content_digest(table), 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory, the made-up table included: {peak:.1f} GiB")


def pages(manifests: Manifests, row: Manifest) -> None:
    """First, middle and last pages, and one sample by its name."""

    def page(where: Filter, cursor: str | None) -> str | None:
        query = SampleQuery(**where.model_dump(), cursor=cursor, limit=100)
        return samples_page(manifests.scan(row), row.id, query).next

    rows = manifests.scan(row).select(pl.len()).collect().item()
    last = cursor_of(row.id, rows - 100)
    show("a page of 100, without a filter, the first", lambda: page(Filter(), None))
    show("a page of 100, without a filter, the last", lambda: page(Filter(), last))
    show("a page of 100 that meet four conditions, the first", lambda: page(WHERE, None))
    show("a page of 100 that meet four conditions, the last", lambda: page(WHERE, last))
    rare = Filter(present=list(FINDINGS[:9]))
    show("a page of what nine findings together leave", lambda: page(rare, None))
    name = str(manifests.scan(row).select("sample_id").tail(1).collect().item())
    by_name = pl.col("sample_id") == name
    show("one sample by its name", lambda: manifests.scan(row).filter(by_name).collect())


def views(manifests: Manifests, row: Manifest) -> None:
    """What the job of a view computes."""
    base = manifests.scan(row)
    request = ViewRequest(name="v", where=WHERE)
    thin = ViewRequest(name="v", one_image_a_patient=True)
    anew = ViewRequest(name="v", splits=NewSplits(kind="new"))
    show("a view by four conditions", lambda: derive(base, request), 3)
    show("a view of one image a patient", lambda: derive(base, thin), 1)
    show("a view with new, stratified splits", lambda: derive(base, anew), 1)


if __name__ == "__main__":
    main()
