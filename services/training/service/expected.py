"""What a cohort in the making will hold, as far as its order says."""

from uuid import UUID

import numpy as np

from api_schemas.findings import ABSENT, COMPATIBLE_WITH_NO_FINDING, FINDINGS, PRESENT, Finding
from api_schemas.findings import UNCERTAIN as SAID_UNCERTAIN
from api_schemas.generators import NEEDS_ALL
from services.training.service.samples import BLANK, Labels, Samples, columns


def mirroring(
    mirrored: Samples, cohort: UUID, replicas: int, *, site: str, encoder: str | None
) -> Samples:
    """The samples of a cohort that mirrors a dataset, before any image is made or withheld.

    Keys and digests are unknown and stand empty; every synthetic patient has one image.
    """
    rows = np.tile(mirrored.split("train"), replicas)
    count = len(rows)
    patients = np.array([f"synthetic/{cohort}/{i}" for i in range(count)], dtype=object)
    unknown = np.full(count, None, dtype=object)
    stated = {name: mirrored.stated[name][rows] for name in ("sex", "race")}
    return Samples(
        ids=patients,
        keys=np.full(count, "", dtype=object),
        digests=np.full(count, "", dtype=object),
        pixels=patients,
        patients=patients,
        splits=np.full(count, "train", dtype=object),
        replicas=np.repeat(np.arange(replicas), count // replicas),
        labels=_conditions(mirrored.labels[rows], encoder),
        ages=mirrored.ages[rows],
        folds=np.full(count, -1),
        stated={
            **stated,
            "site": np.full(count, site, dtype=object),
            "ethnicity": unknown,
            "view": unknown,
        },
    )


def _conditions(labels: Labels, encoder: str | None) -> Labels:
    """Labels as generation conditions on them: an uncertain one is unknown, and `No Finding`
    yields to a finding.
    """
    labels = np.where(labels == SAID_UNCERTAIN, np.int8(BLANK), labels)
    if encoder in NEEDS_ALL:
        labels[labels == BLANK] = ABSENT
    against = columns([f for f in FINDINGS if f not in COMPATIBLE_WITH_NO_FINDING])
    diseased = (labels[:, against] == PRESENT).any(axis=1)
    (healthy,) = columns([Finding.NO_FINDING])
    labels[diseased & (labels[:, healthy] == PRESENT), healthy] = ABSENT
    return labels
