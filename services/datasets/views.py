"""Rows and manifests of datasets as wire types."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import polars as pl
import pyarrow as pa
from pydantic import TypeAdapter

from api_schemas.base import JobView
from api_schemas.datasets import (
    DatasetKind,
    DatasetView,
    Duplicate,
    LabelCounts,
    ManifestView,
    Rejection,
    RejectionCode,
    Sample,
    Summary,
)
from api_schemas.findings import ABSENT, PRESENT, UNCERTAIN
from api_schemas.imports import DatasetRequest, FileImport, PhantomImport, SeededImport
from api_schemas.manifest import LABEL_COLUMNS, MANIFEST, conform
from services.datasets import models

UNKNOWN = "unknown"
PHANTOM_TERMS = "Drawn phantoms: no patient, no radiograph, no restriction."

_request: TypeAdapter[DatasetRequest] = TypeAdapter(DatasetRequest)


def request_of(row: models.Dataset) -> DatasetRequest:
    return _request.validate_python(row.request)


def dataset_view(
    row: models.Dataset, job: JobView, manifest: models.Manifest | None, rejected: int
) -> DatasetView:
    request = request_of(row)
    return DatasetView(
        id=row.id,
        name=row.name,
        kind=_kind(request),
        format=request.format,
        site=str(request.site),
        size_px=request.size_px,
        has_images=not isinstance(request, FileImport) or request.images,
        terms=PHANTOM_TERMS if isinstance(request, PhantomImport) else request.terms,
        created_at=row.created_at,
        job=job,
        manifest=None if manifest is None else manifest_view(manifest),
        rejected=rejected,
        notes=row.notes,
    )


def _kind(request: DatasetRequest) -> DatasetKind:
    if isinstance(request, PhantomImport):
        return DatasetKind.PHANTOM
    return DatasetKind.SYNTHETIC if isinstance(request, SeededImport) else DatasetKind.REAL


def manifest_view(row: models.Manifest) -> ManifestView:
    return ManifestView(
        id=row.id, digest=row.digest, images=row.images, patients=row.patients, key=row.key
    )


def rejection_view(row: models.Rejection) -> Rejection:
    return Rejection(line=row.line, code=RejectionCode(row.code), reason=row.reason)


def duplicate_view(row: models.Duplicate) -> Duplicate:
    return Duplicate(
        sample_id=row.sample_id,
        other_sample_id=row.other_sample_id,
        identical=row.identical,
        distance=row.distance,
        same_patient=row.same_patient,
    )


def sample_view(row: models.Sample, site: str) -> Sample:
    stored = {name: getattr(row, name) for name in _SAMPLE_COLUMNS}
    return Sample.model_validate({**stored, "site": site, "labels": _in_order(row.labels)})


_SAMPLE_COLUMNS = tuple(n for n in Sample.model_fields if n not in {"site", "labels"})


def _in_order(labels: Mapping[str, int | None]) -> dict[str, int | None]:
    return {name: labels.get(name) for name in LABEL_COLUMNS}


def manifest_table(rows: Sequence[Any], splits: Mapping[str, str], site: str) -> pa.Table:
    """The manifest of ingested samples (`models.Sample`, or its columns); `splits` by patient."""
    columns: dict[str, Any] = {
        name: [getattr(row, name) for row in rows] for name in MANIFEST.names if _is_stored(name)
    }
    columns["split"] = [splits[row.patient_id] for row in rows]
    columns["site"] = [site] * len(rows)
    for name in LABEL_COLUMNS:
        columns[name] = [row.labels.get(name) for row in rows]
    arrays = [pa.array(columns.get(f.name) or [None] * len(rows), f.type) for f in MANIFEST]
    return conform(pa.Table.from_arrays(arrays, schema=MANIFEST), MANIFEST)


def _is_stored(name: str) -> bool:
    return name in models.Sample.__table__.columns and name != "split"


def summary(manifest: pa.Table) -> Summary:
    """Counts over a manifest."""
    frame = cast("pl.DataFrame", pl.from_arrow(manifest))
    age = pl.col("age")
    decades = frame.select((age // 10 * 10).cast(pl.String).alias("decade"))
    return Summary(
        images=frame.height,
        patients=frame["patient_id"].n_unique(),
        labels={name: _label_counts(frame[name]) for name in LABEL_COLUMNS},
        splits=_counts(frame["split"]),
        sex=_counts(frame["sex"]),
        race=_counts(frame["race"]),
        view=_counts(frame["view"]),
        site=_counts(frame["site"]),
        age_decades=_counts(decades["decade"]),
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


def _counts(column: pl.Series) -> dict[str, int]:
    counted = column.fill_null(UNKNOWN).value_counts(name="images").sort(column.name)
    return dict(counted.iter_rows())
