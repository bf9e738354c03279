"""What was computed, on record: a number is never changed, only superseded by a later version."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from services.evaluation.models import (
    Answer,
    Baseline,
    Comparison,
    Evaluation,
    Metric,
    Plan,
    Result,
)
from services.evaluation.reports.facts import Report
from services.evaluation.service.problems import ResultsDiffer
from services.kit.db import new_id
from services.kit.jobs import Lease

ROUNDING = 1e-6
"""The same code may round otherwise on another processor; more than this apart are two numbers."""

Table = type[Result] | type[Comparison] | type[Answer] | type[Metric] | type[Baseline]


@dataclass(frozen=True)
class Page:
    """The stored report, and the manifests of the data whose images it shows."""

    key: str
    sha256: str
    shown: dict[str, str | None]


def is_known(session: Session, report: Report) -> bool:
    """Whether the newest version has these very numbers, by this method from these inputs.

    Raises `ResultsDiffer` when it has others although code and libraries are the same too.
    """
    newest = select(Evaluation).filter_by(plan=report.plan_id).order_by(Evaluation.version.desc())
    known = session.scalars(newest.limit(1)).one_or_none()
    if known is None or (known.method, known.inputs_digest) != (
        report.method,
        report.inputs_digest,
    ):
        return False
    differing = next(_differing(session, known, report), None)
    if differing is not None and known.versions == report.versions:
        raise ResultsDiffer(f"Version {known.version}: {differing}")
    return differing is None


def write(session: Session, lease: Lease, report: Report, page: Page) -> None:
    """A further version with its lines, in the plan's order."""
    plan = session.get_one(Plan, report.plan_id)
    newest = select(func.max(Evaluation.version)).filter_by(plan=plan.id)
    evaluation = Evaluation(
        id=new_id(),
        plan=plan.id,
        project=plan.project,
        experiment=plan.experiment,
        job=lease.job,
        version=(session.scalar(newest) or 0) + 1,
        method=report.method,
        versions=dict(report.versions),
        inputs_digest=report.inputs_digest,
        report_key=page.key,
        report_sha256=page.sha256,
        shown=page.shown,
    )
    session.add(evaluation)
    session.flush()
    for table, lines in _tables(report):
        values = [{"evaluation": evaluation.id, **line.model_dump()} for line in lines]
        if values:
            session.execute(insert(table), values)


def _tables(report: Report) -> list[tuple[Table, Sequence[BaseModel]]]:
    return [
        (Result, [*report.rows, *report.groups]),
        (Comparison, report.comparisons),
        (Answer, report.answers),
        (Metric, report.metrics),
        (Baseline, report.baselines),
    ]


def _differing(session: Session, known: Evaluation, report: Report) -> Iterator[str]:
    for table, lines in _tables(report):
        rows = session.scalars(
            select(table).filter_by(evaluation=known.id).order_by(table.id)
        ).all()
        if len(rows) != len(lines):
            yield f"{len(rows)} {table.__tablename__}, now {len(lines)}"
            continue
        for number, (row, line) in enumerate(zip(rows, lines, strict=True), 1):
            for name, value in line.model_dump().items():
                if not _same(getattr(row, name), value):
                    yield (
                        f"{name} of line {number} of {table.__tablename__} is"
                        f" {getattr(row, name)}, now {value}"
                    )


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=ROUNDING, abs_tol=ROUNDING**2)
    return bool(a == b)
