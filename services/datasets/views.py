"""Rows and manifests of datasets as wire types."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from pydantic import TypeAdapter

from api_schemas.base import JobView
from api_schemas.datasets import (
    DatasetKind,
    DatasetView,
    Duplicate,
    ManifestView,
    Rejection,
    RejectionCode,
    Sample,
)
from api_schemas.imports import DatasetRequest, FileImport, PhantomImport, SeededImport
from api_schemas.manifest import LABEL_COLUMNS, MANIFEST, conform
from api_schemas.provenance import ImageOrigin, ImageOrigins
from api_schemas.selection import DerivedView, ViewRequest
from api_schemas.terms import FREE, UNSTATED, Licence, strictest
from api_schemas.withdrawals import WithdrawalView, Withdrawn
from services.datasets import models

VIEW = "view"
UNNAMED = "unnamed"
"""In a manifest, the generator of a synthetic image that does not name it."""
PHANTOM_TERMS = "Drawn phantoms: no patient, no radiograph, no restriction."

_request: TypeAdapter[DatasetRequest] = TypeAdapter(DatasetRequest)


def request_of(row: models.Dataset) -> DatasetRequest:
    return _request.validate_python(row.request)


def dataset_view(
    row: models.Dataset,
    roots: Sequence[models.Dataset],
    job: JobView,
    manifest: models.Manifest | None,
    rejected: int,
) -> DatasetView:
    """`roots` are the imports that the images come from: the dataset itself, but for a view."""
    request, origins = request_of(roots[0]), joint_origins(roots)
    terms = [_terms(request_of(root), origins_of(root)) for root in roots]
    return DatasetView(
        id=row.id,
        name=row.name,
        kind=kind_of(roots[0]),
        origins=origins,
        format=VIEW if row.base else request.format,
        site="+".join(dict.fromkeys(str(request_of(root).site) for root in roots)),
        size_px=request.size_px,
        has_images=has_images(request),
        terms="; ".join(dict.fromkeys(text for text in terms if text)),
        licence=strictest([licence_of(root) for root in roots]),
        view=derived_view(row),
        created_at=row.created_at,
        job=job,
        manifest=None if manifest is None else manifest_view(manifest),
        rejected=rejected,
        warnings=row.warnings,
        notes=row.notes,
    )


def licence_of(root: models.Dataset) -> Licence:
    """As stated since the import; else the strictest of what was stated with it and of what the
    images say of themselves.
    """
    if root.licence is not None:
        return Licence.model_validate(root.licence)
    request, origins = request_of(root), origins_of(root)
    if isinstance(request, PhantomImport):
        return FREE
    said = UNSTATED if origins is None else origins.licence
    stated = [each for each in (request.licence, said) if each != UNSTATED]
    return strictest(stated) if stated else UNSTATED


def kind_of(root: models.Dataset) -> DatasetKind:
    return _kind(request_of(root), origins_of(root))


def has_images(request: DatasetRequest) -> bool:
    return not isinstance(request, FileImport) or request.images


def joint_origins(roots: Sequence[models.Dataset]) -> ImageOrigins | None:
    """What the images of several imports say of their own making, together."""
    said = [each for each in map(origins_of, roots) if each is not None]
    if len(said) < 2:  # noqa: PLR2004 - nothing to add up
        return said[0] if said else None
    counts = ("images", "synthetic", "drawn", "phantom", "generators_unnamed")
    lists = ("generators", "cohorts", "terms")
    return ImageOrigins.model_validate(
        {name: sum(getattr(each, name) for each in said) for name in counts}
        | {name: sorted({v for each in said for v in getattr(each, name)}) for name in lists}
        | {"licence": strictest([each.licence for each in said])}
    )


def origins_of(root: models.Dataset) -> ImageOrigins | None:
    return None if root.origins is None else ImageOrigins.model_validate(root.origins)


def _terms(request: DatasetRequest, origins: ImageOrigins | None) -> str:
    if isinstance(request, PhantomImport):
        return PHANTOM_TERMS
    said = [] if origins is None else origins.terms
    return "; ".join(dict.fromkeys(text for text in (request.terms, *said) if text))


def derived_view(row: models.Dataset) -> DerivedView | None:
    if row.base is None:
        return None
    return DerivedView(base=row.base, request=ViewRequest.model_validate(row.request))


def _kind(request: DatasetRequest, origins: ImageOrigins | None) -> DatasetKind:
    if isinstance(request, PhantomImport):
        return DatasetKind.PHANTOM
    if isinstance(request, SeededImport):
        return DatasetKind.SYNTHETIC
    if origins is None:
        return DatasetKind.REAL
    if origins.synthetic == origins.images:
        return DatasetKind.SYNTHETIC
    return DatasetKind.PHANTOM if origins.drawn == origins.images else DatasetKind.MIXED


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


def withdrawal_view(row: models.Withdrawal, job: JobView) -> WithdrawalView:
    """Counts only: who it was stays in the request."""
    return WithdrawalView(
        id=row.id,
        patients=len(row.patients),
        samples=len(row.samples),
        everywhere=row.everywhere,
        found=row.found,
        elsewhere=row.elsewhere,
        note=row.note,
        created_at=row.created_at,
        job=job,
        datasets=[Withdrawn.model_validate(each) for each in row.outcome],
    )


def sample_view(row: Mapping[str, Any]) -> Sample:
    """A row of a manifest."""
    stored = {name: row[name] for name in _SAMPLE_COLUMNS}
    return Sample.model_validate({**stored, "labels": {name: row[name] for name in LABEL_COLUMNS}})


_SAMPLE_COLUMNS = tuple(n for n in Sample.model_fields if n != "labels")


def manifest_table(rows: Sequence[Any], splits: Mapping[str, str], site: str) -> pa.Table:
    """The manifest of ingested samples (`models.Sample`, or its columns); `splits` by patient."""
    columns: dict[str, Any] = {
        name: [getattr(row, name) for row in rows] for name in MANIFEST.names if _is_stored(name)
    }
    columns["split"] = [splits[row.patient_id] for row in rows]
    columns["site"] = [site] * len(rows)
    columns["generator_id"] = [_generator(row.origin) for row in rows]
    for name in LABEL_COLUMNS:
        columns[name] = [row.labels.get(name) for row in rows]
    arrays = [pa.array(columns.get(f.name) or [None] * len(rows), f.type) for f in MANIFEST]
    return conform(pa.Table.from_arrays(arrays, schema=MANIFEST), MANIFEST)


def _generator(origin: dict[str, Any] | None) -> str | None:
    """The generator of a synthetic image; `UNNAMED` where its file does not name it."""
    if origin is None:
        return None
    said = ImageOrigin.model_validate(origin)
    if said.kind != "synthetic":
        return None
    return UNNAMED if said.generator is None else str(said.generator)


def _is_stored(name: str) -> bool:
    return name in models.Sample.__table__.columns and name != "split"
