"""A manifest as arrays, and which of its images and labels a run uses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from api_schemas.base import EvaluationSplit
from api_schemas.content_order import content_names, lot
from api_schemas.findings import ABSENT, FINDINGS, PRESENT, Finding
from api_schemas.findings import UNCERTAIN as SAID_UNCERTAIN
from api_schemas.manifest import LABEL_COLUMNS
from api_schemas.training import LabelPolicy
from services.training.ports.engine import UNKNOWN

BLANK = -2
"""A label nobody mentioned, in an array of labels."""

Rows = NDArray[np.int64]
Labels = NDArray[np.int8]
Strings = NDArray[Any]
"""Arrays of Python strings."""


@dataclass(frozen=True)
class Samples:
    """The columns of a manifest that training looks at."""

    ids: Strings
    keys: Strings
    digests: Strings
    pixels: Strings  # digests of the grey levels: equal for equal pictures
    patients: Strings
    splits: Strings
    replicas: NDArray[np.int64]
    labels: Labels  # (N, 14): 1, 0, -1 or BLANK
    ages: NDArray[np.int64]  # -1: not stated
    folds: NDArray[np.int64]  # -1: none
    stated: Mapping[str, Strings]  # site, sex, race, ethnicity and view; None: not stated

    def split(self, name: EvaluationSplit) -> Rows:
        """The rows of a split, in manifest order."""
        if name == "all":
            return np.arange(len(self.ids))
        return np.flatnonzero(self.splits == name)


def read_samples(manifest: pa.Table) -> Samples:
    def strings(name: str) -> Strings:
        return manifest[name].to_numpy(zero_copy_only=False)

    def numbers(name: str, blank: int) -> NDArray[np.int64]:
        return manifest[name].fill_null(blank).to_numpy(zero_copy_only=False)

    labels = np.stack([numbers(name, BLANK) for name in LABEL_COLUMNS], axis=1)
    return Samples(
        ids=strings("sample_id"),
        keys=strings("image_key"),
        digests=strings("image_sha256"),
        pixels=strings("pixel_sha256"),
        patients=strings("patient_id"),
        splits=strings("split"),
        replicas=numbers("replica", 0).astype(np.int64),
        labels=labels.astype(np.int8),
        ages=numbers("age", -1).astype(np.int64),
        folds=numbers("fold", -1).astype(np.int64),
        stated={name: strings(name) for name in ("site", "sex", "race", "ethnicity", "view")},
    )


def columns(labels: list[Finding]) -> list[int]:
    """The places of `labels` among all findings."""
    return [FINDINGS.index(label) for label in labels]


def targets(labels: Labels, policy: LabelPolicy) -> Labels:
    """What training is told: 1, 0 or UNKNOWN, under the policy."""
    meant = np.full_like(labels, UNKNOWN)
    meant[labels == PRESENT] = 1
    meant[labels == ABSENT] = 0
    if policy.uncertain != "ignore":
        meant[labels == SAID_UNCERTAIN] = int(policy.uncertain)
    if policy.blank != "ignore":
        meant[labels == BLANK] = int(policy.blank)
    return meant


def truth(labels: Labels) -> Labels:
    """What is evaluated against: uncertain and blank labels are UNKNOWN whatever the policy."""
    return targets(labels, LabelPolicy())


def both_classes(known: Labels) -> NDArray[np.bool_]:
    """Which labels (columns) are 1 somewhere and 0 somewhere."""
    return (known == 1).any(axis=0) & (known == 0).any(axis=0)


def in_order_of_use(samples: Samples, rows: Rows) -> Rows:
    """Places in `rows` in the order in which a source gives its images.

    Whole replicas first; within one, by a hash of the pixels, so that a part of a source is a fair
    sample of it and the same one in every arm, run and installation.
    """
    lots = [lot("use", name) for name in content_names(samples.pixels[rows].tolist())]
    order = sorted(range(len(rows)), key=lambda i: (samples.replicas[rows[i]], lots[i]))
    return np.array(order, dtype=np.int64)


def listing(order: Rows, count: int) -> Rows:
    """The first `count` places of a source's endless repetition."""
    return np.resize(order, count)


def shuffled(part: Labels, seed: int, stage: int, source: int) -> Labels:
    """The same label vectors, dealt to other images: the negative control."""
    rng = np.random.default_rng([seed, stage, source])
    return part[rng.permutation(len(part))]
