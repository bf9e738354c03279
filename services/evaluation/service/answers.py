"""Results, comparisons and reports as they are asked for: always of the newest version."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import Select, exists, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased

from api_schemas.base import Page
from api_schemas.evaluation import MACRO, Answer, Comparison, MetricRow, ResultRow
from services.evaluation import models
from services.evaluation.reports.page import without_images
from services.evaluation.reports.tables import Study, cell
from services.evaluation.service import plans
from services.evaluation.service.particulars import detailed
from services.evaluation.service.problems import ReportUnknown
from services.evaluation.service.sources import Sources
from services.evaluation.views import answer, comparison, metric_row, result_row
from services.kit.auth import Caller
from services.kit.db import Database
from services.kit.http import page
from services.kit.jobs import lineage
from services.kit.objects import ObjectMissing, ObjectStore, sha256

Line = TypeVar("Line", models.Result, models.Metric)

ANY = "any"
"""Of groups: the lines of every one."""


@dataclass(frozen=True)
class Wanted:
    """Which lines are asked for; None means all, but of groups the lines over all images."""

    experiment: UUID | None = None
    test: str | None = None
    arm: str | None = None
    label: str | None = None
    group: str | None = None
    metric: str | None = None


class Answers:
    """What came out of the caller's project. Before an evaluation is done there is nothing."""

    def __init__(self, db: Database, store: ObjectStore, sources: Sources) -> None:
        self._db = db
        self._store = store
        self._sources = sources

    def results(
        self, caller: Caller, wanted: Wanted, cursor: str | None, limit: int
    ) -> Page[ResultRow]:
        with self._db.transaction() as tx:
            query = _lines(tx.session, caller, models.Result, wanted)
            return page(tx.session, query, models.Result.id, cursor, limit, _result_rows)

    def results_csv(self, caller: Caller, wanted: Wanted) -> str:
        """All of them as CSV: the same numbers, an empty cell where JSON has null."""
        with self._db.transaction() as tx:
            query = _lines(tx.session, caller, models.Result, wanted).order_by(models.Result.id)
            return _csv(ResultRow, _result_rows(tx.session.scalars(query).all()))

    def metrics(
        self, caller: Caller, wanted: Wanted, cursor: str | None, limit: int
    ) -> Page[MetricRow]:
        with self._db.transaction() as tx:
            query = _lines(tx.session, caller, models.Metric, wanted)
            return page(tx.session, query, models.Metric.id, cursor, limit, _metric_rows)

    def metrics_csv(self, caller: Caller, wanted: Wanted) -> str:
        with self._db.transaction() as tx:
            query = _lines(tx.session, caller, models.Metric, wanted).order_by(models.Metric.id)
            return _csv(MetricRow, _metric_rows(tx.session.scalars(query).all()))

    def answers(
        self, caller: Caller, experiment: UUID | None, cursor: str | None, limit: int
    ) -> Page[Answer]:
        with self._db.transaction() as tx:
            _known(tx.session, caller, experiment)
            query = select(models.Answer).join(models.Evaluation).where(_newest(caller))
            if experiment is not None:
                query = query.where(models.Answer.experiment == experiment)
            return page(tx.session, query, models.Answer.id, cursor, limit, _answers)

    def comparisons(
        self, caller: Caller, experiment: UUID | None, cursor: str | None, limit: int
    ) -> Page[Comparison]:
        with self._db.transaction() as tx:
            _known(tx.session, caller, experiment)
            query = select(models.Comparison).join(models.Evaluation).where(_newest(caller))
            if experiment is not None:
                query = query.where(models.Comparison.experiment == experiment)
            return page(tx.session, query, models.Comparison.id, cursor, limit, _comparisons)

    def report(self, caller: Caller, experiment: UUID) -> bytes:
        """The newest report of an experiment, HTML; raises `ReportUnknown` (404).

        Its images are taken out, here and in the store, once a patient has been withdrawn from
        their data or it has been deleted.
        """
        with self._db.transaction() as tx:
            query = select(models.Evaluation).where(
                _newest(caller),
                models.Evaluation.experiment == experiment,
                lineage.visible(models.Evaluation.plan),
            )
            row = tx.session.scalars(query).one_or_none()
            if row is None:
                raise ReportUnknown("There is no report of such an experiment (yet)")
            plan = tx.session.get_one(models.Plan, row.plan)
            redacted = tx.session.get(models.Redaction, row.id)
        if redacted is not None:
            return self._page(redacted.report_key, redacted.report_sha256)
        page = self._page(row.report_key, row.report_sha256)
        if row.shown and self._sources.shown(caller, plans.plan_of(plan)) != row.shown:
            return self._redact(plan, row, page)
        return page

    def study(self, caller: Caller, experiment: UUID) -> Study:
        """What the tables of a report are made of; raises `ReportUnknown` (404)."""
        with self._db.transaction() as tx:
            plan = plans.find_of_experiment(tx.session, caller, experiment)
            newest = select(models.Evaluation).where(
                _newest(caller), models.Evaluation.plan == plan.id
            )
            evaluation = tx.session.scalars(newest).one_or_none()
            if evaluation is None:
                raise ReportUnknown("There is no report of such an experiment (yet)")
            rows = select(models.Result).filter_by(
                evaluation=evaluation.id, label=MACRO, group=None
            )
            found = select(models.Comparison).filter_by(evaluation=evaluation.id)
            return Study(
                detailed(tx.session, plan),
                plan.digest,
                evaluation.method,
                evaluation.inputs_digest,
                _result_rows(tx.session.scalars(rows.order_by(models.Result.id)).all()),
                _comparisons(tx.session.scalars(found.order_by(models.Comparison.id)).all()),
            )

    def _page(self, key: str, digest: str) -> bytes:
        try:
            return self._store.get(key, digest)
        except ObjectMissing as error:
            raise ReportUnknown("The report has been deleted") from error

    def _redact(self, plan: models.Plan, row: models.Evaluation, page: bytes) -> bytes:
        """Put a report without images in the place of one with, and remove that one."""
        left = without_images(page.decode()).encode()
        if left == page:
            return page  # it never had any
        digest = sha256(left)
        key = plans.report_key(plan, digest)
        self._store.put(key, left, "text/html; charset=utf-8")
        with self._db.transaction() as tx:
            tx.session.execute(
                insert(models.Redaction)
                .values(evaluation=row.id, report_key=key, report_sha256=digest)
                .on_conflict_do_nothing()
            )
        self._store.remove([row.report_key])
        return left


def _lines(session: Session, caller: Caller, line: type[Line], wanted: Wanted) -> Select[Line]:
    """The lines of the caller's newest evaluations that are wanted."""
    _known(session, caller, wanted.experiment)
    asked = {name: value for name, value in vars(wanted).items() if value is not None}
    group = asked.pop("group", None)
    query = select(line).filter_by(**asked).join(models.Evaluation).where(_newest(caller))
    if group == ANY:
        return query.where(line.group.is_not(None))
    return query.where(line.group == group)


def _known(session: Session, caller: Caller, experiment: UUID | None) -> None:
    """An experiment that nobody registered is a mistake, not an empty list."""
    if experiment is not None:
        plans.find_of_experiment(session, caller, experiment)


def _newest(caller: Caller) -> Any:
    """The caller's evaluations that no later version supersedes."""
    later = aliased(models.Evaluation)
    superseded = exists().where(
        later.plan == models.Evaluation.plan, later.version > models.Evaluation.version
    )
    return (models.Evaluation.project == caller.project) & ~superseded


def _result_rows(rows: Sequence[models.Result]) -> list[ResultRow]:
    return [result_row(row) for row in rows]


def _metric_rows(rows: Sequence[models.Metric]) -> list[MetricRow]:
    return [metric_row(row) for row in rows]


def _answers(rows: Sequence[models.Answer]) -> list[Answer]:
    return [answer(row) for row in rows]


def _comparisons(rows: Sequence[models.Comparison]) -> list[Comparison]:
    return [comparison(row) for row in rows]


def _csv(wire: type[BaseModel], rows: Sequence[BaseModel]) -> str:
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(wire.model_fields)
    for row in rows:
        writer.writerow([cell(value) for value in row.model_dump(mode="json").values()])
    return sink.getvalue()
