"""How fast classifiers train, as far as anybody has measured it.

A speed belongs to a configuration (what determines how long a step takes) on a device. Estimates
take the newest measurement: where several devices differ, that is the one that worked last.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from api_schemas.planning import Estimate
from api_schemas.training import ClassifierSettings
from services.kit.auth import Caller
from services.kit.db import new_id
from services.training.models import Calibration

DETERMINE_SPEED = ("preset", "batch_size", "precision")
SECONDS_AN_HOUR = 3600


@dataclass(frozen=True)
class Speed:
    """Seconds to begin, for a training step, and for an image that is only scored."""

    setup_s: float
    step_s: float
    image_s: float


@dataclass(frozen=True)
class Work:
    """What a run does: steps, and images scored in validations and tests."""

    steps: int
    scored: int


def configuration(settings: ClassifierSettings, size_px: int) -> dict[str, Any]:
    """What a step's time follows from, on a given device."""
    given = settings.model_dump(mode="json")
    return {name: given[name] for name in DETERMINE_SPEED if name in given} | {"size_px": size_px}


def key_of(configured: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(configured, sort_keys=True).encode()).hexdigest()


def newest(session: Session, key: str) -> Calibration | None:
    measured = select(Calibration).where(Calibration.key == key, Calibration.step_s.is_not(None))
    return session.scalars(measured.order_by(Calibration.measured_at.desc()).limit(1)).first()


def asked_for(session: Session, caller: Caller, key: str) -> Calibration | None:
    """The project's last measurement of such a configuration that was asked for."""
    mine = select(Calibration).filter_by(key=key, project=caller.project)
    asked = mine.where(Calibration.job.is_not(None)).order_by(Calibration.id.desc()).limit(1)
    return session.scalars(asked).first()


def estimate(measured: Calibration, runs: Iterable[Work]) -> Estimate:
    """Hours for all runs one after the other."""
    of_run = [
        (measured.setup_s or 0)
        + run.steps * (measured.step_s or 0)
        + run.scored * (measured.image_s or 0)
        for run in runs
    ]
    return Estimate(
        device_hours=sum(of_run) / SECONDS_AN_HOUR,
        device=measured.device or "",
        seconds_per_step=measured.step_s or 0,
        measured_at=measured.measured_at or datetime.now(UTC),
    )


def note_step(
    session: Session, caller: Caller, configured: dict[str, Any], device: str, step_s: float
) -> None:
    """A real run has shown how long its steps take. The rest is as it was last measured there;
    where nothing was, a first dry run still measures it all.
    """
    key = key_of(configured)
    before = newest(session, key)
    if before is None or before.device != device:
        return
    session.execute(delete(Calibration).filter_by(key=key, device=device, job=None))
    session.add(
        Calibration(
            id=new_id(),
            project=caller.project,
            key=key,
            configuration=configured,
            device=device,
            setup_s=before.setup_s,
            step_s=step_s,
            image_s=before.image_s,
            measured_at=datetime.now(UTC),
        )
    )
