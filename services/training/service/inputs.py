"""What determines a run: two runs with one digest train the same classifier.

On a CPU, byte for byte; on other devices as nearly as they are alike. Knows plans; no data.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from api_schemas.arms import Arm, Source
from api_schemas.training import ExperimentRequest
from services.kit.jobs import lineage
from services.training.models import Experiment, Run
from services.training.service.blueprint import Blueprint
from services.training.service.catalogue import ref_key

METHOD = "classifier/3"
"""Changes whenever the same inputs would train another classifier."""


def inputs_digest(request: ExperimentRequest, blueprint: Blueprint, arm: Arm, seed: int) -> str:
    """SHA-256 over all that determines the run of an arm and seed; its name is no part of it."""
    planned = blueprint.arms[arm.name]
    stages = zip(arm.stages, planned.listed, planned.steps, strict=True)
    determined: dict[str, Any] = {
        "method": METHOD,
        "labels": blueprint.labels,
        "size_px": blueprint.size_px,
        "seed": seed,
        "policy": request.label_policy.model_dump(mode="json"),
        "classifier": request.classifier.model_dump(mode="json"),
        "validation": [
            blueprint.manifests[ref_key(request.validation.data)],
            request.validation.split,
        ],
        "stages": [
            {
                "steps": steps,
                "sources": [
                    _source(source, count, blueprint.manifests)
                    for source, count in zip(stage.sources, listed, strict=True)
                ],
            }
            for stage, listed, steps in stages
        ],
    }
    return hashlib.sha256(json.dumps(determined, sort_keys=True).encode()).hexdigest()


def _source(source: Source, count: int, manifests: Mapping[str, str]) -> dict[str, Any]:
    """How many images are listed says what `multiple` said, whatever it was counted in."""
    taken = source.model_dump(mode="json", exclude={"data", "multiple"})
    return {**taken, "manifest": manifests[ref_key(source.data)], "listed": count}


def digests(
    request: ExperimentRequest, blueprint: Blueprint, arms: Sequence[Arm]
) -> dict[tuple[str, int], str]:
    """Of every run, by arm and seed: every arm with the first seed before any with the second."""
    return {
        (arm.name, seed): inputs_digest(request, blueprint, arm, seed)
        for seed in request.seeds
        for arm in arms
    }


def finished_twins(session: Session, project: UUID, wanted: Collection[str]) -> dict[str, Run]:
    """By digest, finished runs of the project with these inputs, the oldest of each."""
    rows = session.scalars(
        select(Run)
        .join(Experiment, Experiment.id == Run.experiment)
        .where(Experiment.project == project, lineage.visible(Experiment.id))
        .where(Run.inputs_digest.in_(wanted), Run.finished_at.is_not(None))
        .where(Run.classifier.is_not(None))
        .order_by(Run.finished_at.desc())
    )
    return {row.inputs_digest or "": row for row in rows}
