"""Folders of an engine as objects, and predictions as Parquet."""

import re
from pathlib import Path
from typing import Any, TypedDict
from uuid import UUID

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from api_schemas.findings import Finding
from api_schemas.manifest import PREDICTIONS, to_parquet
from services.kit.objects import ObjectStore, sha256
from services.training.ports.engine import UNKNOWN
from services.training.service.samples import Labels, Strings


class Stored(TypedDict):
    """An object: what it is called here, its key and its digest."""

    name: str
    key: str
    sha256: str


def experiment_folder(project: UUID, experiment: UUID) -> str:
    return f"projects/{project}/experiments/{experiment}/"


def scoring_folder(project: UUID, scoring: UUID) -> str:
    return f"projects/{project}/scorings/{scoring}/"


def run_prefix(project: UUID, experiment: UUID, what: str, arm: str, seed: int) -> str:
    """Where the objects of a run lie; an arm's name loses what a path does not like."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", arm.replace("+", "-plus-").replace("%", "-percent"))
    return f"{experiment_folder(project, experiment)}{what}/{plain}/seed-{seed}"


def put(store: ObjectStore, prefix: str, name: str, content: bytes) -> Stored:
    digest = sha256(content)
    stem, dot, suffix = name.rpartition(".")
    key = f"{prefix}/{stem}-{digest[:16]}{dot}{suffix}"
    store.put(key, content)
    return Stored(name=name, key=key, sha256=digest)


def put_folder(store: ObjectStore, prefix: str, folder: Path) -> list[Stored]:
    return [put(store, prefix, f.name, f.read_bytes()) for f in sorted(folder.iterdir())]


def fetch_folder(store: ObjectStore, files: list[Stored], folder: Path) -> Path:
    """The folder as it was; raises `DigestMismatch` and `ObjectMissing`."""
    folder.mkdir(parents=True)
    for file in files:
        (folder / file["name"]).write_bytes(store.get(file["key"], file["sha256"]))
    return folder


def predictions(
    ids: Strings,
    patients: Strings,
    labels: list[Finding],
    truths: Labels,
    scores: NDArray[np.float64],
) -> bytes:
    """The Parquet of one test set: `truths` and `scores` are (n, L)."""
    count, width = scores.shape
    known = truths.reshape(-1)
    values: dict[str, Any] = {
        "sample_id": np.repeat(ids, width),
        "patient_id": np.repeat(patients, width),
        "label": np.tile(np.array(labels, dtype=object), count),
        "truth": pa.array(known, pa.int8(), mask=known == UNKNOWN),
        "score": scores.reshape(-1),
    }
    return to_parquet(pa.table(values, schema=PREDICTIONS))
