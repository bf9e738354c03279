"""Manifests for tests: a table from arrays, with as little said as possible."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from api_schemas.findings import FINDINGS, Finding
from api_schemas.manifest import MANIFEST


def manifest(
    patients: Sequence[str],
    labels: Mapping[Finding, Sequence[int | None]],
    *,
    split: str | Sequence[str] = "train",
    prefix: str = "s",
    replicas: Sequence[int] | None = None,
    keys: Sequence[str] | None = None,
    digests: Sequence[str] | None = None,
) -> pa.Table:
    """One row a patient entry; a finding that is not given is blank."""
    count = len(patients)
    values: dict[str, object] = {
        "sample_id": [f"{prefix}-{i:06d}" for i in range(count)],
        "image_key": list(keys or [""] * count),
        "image_sha256": list(digests or ["0" * 64] * count),
        "pixel_sha256": [
            hashlib.sha256(f"{patient} {i}".encode()).hexdigest()
            for i, patient in enumerate(patients)
        ],
        "patient_id": list(patients),
        "site": ["somewhere"] * count,
        "split": [split] * count if isinstance(split, str) else list(split),
        "replica": None if replicas is None else list(replicas),
        **{str(f): labels.get(f) for f in FINDINGS},
    }
    columns = [
        pa.nulls(count, field.type)
        if values.get(field.name) is None
        else pa.array(values[field.name], field.type)
        for field in MANIFEST
    ]
    return pa.table(columns, schema=MANIFEST)


def alternating(count: int, period: int = 2) -> list[int]:
    """0, 1, 0, 1, ... (or with a longer period), so that both classes are there."""
    return [int(i % period == period - 1) for i in range(count)]


def both(count: int, *findings: Finding) -> dict[Finding, list[int]]:
    return {finding: alternating(count, 2 + i) for i, finding in enumerate(findings)}


def random_labels(count: int, seed: int) -> dict[Finding, list[int | None]]:
    rng = np.random.default_rng(seed)
    return {f: [(0, 1, -1, None)[k] for k in rng.integers(0, 4, count)] for f in FINDINGS}
