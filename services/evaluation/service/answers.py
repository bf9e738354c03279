"""Results, comparisons and reports as they are asked for: of the newest version, or of another
that is named.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import ColumnElement, Select, exists, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased

from api_schemas.base import Page
from api_schemas.evaluation import MACRO, Answer, BaselineRow, Comparison, MetricRow, ResultRow
from services.evaluation import models
from services.evaluation.reports.page import without_images
from services.evaluation.reports.tables import Study, cell
from services.evaluation.service import plans
from services.evaluation.service.particulars import detailed
from services.evaluation.service.problems import (
    FilterUnknown,
    ReportUnknown,
    VersionOfNothing,
    VersionUnknown,
)
from services.evaluation.service.sources import Sources
from services.evaluation.views import answer, baseline_row, comparison, metric_row, result_row
from services.kit.auth import Caller
from services.kit.db import Database
from services.kit.http import decode_cursor, page
from services.kit.jobs import lineage
from services.kit.objects import ObjectMissing, ObjectStore, sha256

Line = TypeVar("Line", models.Result, models.Metric)
Row = TypeVar(
    "Row", models.Result, models.Metric, models.Answer, models.Comparison, models.Baseline
)

ANY = "any"
"""Of groups: the lines of every one."""


@dataclass(frozen=True)
class Wanted:
    """Which lines are asked for; None means all, but of groups the lines over all images, and of
    versions the newest.
    """

    experiment: UUID | None = None
    version: int | None = None
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
            query = _lines(tx.session, caller, models.Result, wanted, cursor)
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
            query = _lines(tx.session, caller, models.Metric, wanted, cursor)
            return page(tx.session, query, models.Metric.id, cursor, limit, _metric_rows)

    def metrics_csv(self, caller: Caller, wanted: Wanted) -> str:
        with self._db.transaction() as tx:
            query = _lines(tx.session, caller, models.Metric, wanted).order_by(models.Metric.id)
            return _csv(MetricRow, _metric_rows(tx.session.scalars(query).all()))

    def answers(
        self, caller: Caller, wanted: Wanted, cursor: str | None, limit: int
    ) -> Page[Answer]:
        with self._db.transaction() as tx:
            query = _of_version(tx.session, caller, models.Answer, wanted, cursor)
            return page(tx.session, query, models.Answer.id, cursor, limit, _answers)

    def comparisons(
        self, caller: Caller, wanted: Wanted, cursor: str | None, limit: int
    ) -> Page[Comparison]:
        with self._db.transaction() as tx:
            query = _of_version(tx.session, caller, models.Comparison, wanted, cursor)
            return page(tx.session, query, models.Comparison.id, cursor, limit, _comparisons)

    def baselines(
        self, caller: Caller, wanted: Wanted, cursor: str | None, limit: int
    ) -> Page[BaselineRow]:
        with self._db.transaction() as tx:
            query = _of_version(tx.session, caller, models.Baseline, wanted, cursor)
            return page(tx.session, query, models.Baseline.id, cursor, limit, _baselines)

    def report(self, caller: Caller, wanted: Wanted) -> bytes:
        """The report of an experiment, HTML; raises `ReportUnknown` (404).

        Its images are taken out, here and in the store, once a patient has been withdrawn from
        their data or it has been deleted.
        """
        with self._db.transaction() as tx:
            row = _evaluation(tx.session, caller, wanted)
            if lineage.is_deleted(tx.session, row.plan):
                raise ReportUnknown("The report has been deleted")
            plan = tx.session.get_one(models.Plan, row.plan)
            redacted = tx.session.get(models.Redaction, row.id)
        if redacted is not None:
            return self._page(redacted.report_key, redacted.report_sha256)
        page = self._page(row.report_key, row.report_sha256)
        if row.shown and self._sources.shown(caller, plans.plan_of(plan)) != row.shown:
            return self._redact(plan, row, page)
        return page

    def study(self, caller: Caller, wanted: Wanted) -> Study:
        """What the tables of a report are made of; raises `ReportUnknown` (404)."""
        with self._db.transaction() as tx:
            evaluation = _evaluation(tx.session, caller, wanted)
            plan = tx.session.get_one(models.Plan, evaluation.plan)
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


def _lines(
    session: Session, caller: Caller, line: type[Line], wanted: Wanted, cursor: str | None = None
) -> Select[Line]:
    """The lines that are wanted of the caller's evaluations. Raises `FilterUnknown` (422)."""
    all_lines = _of_version(session, caller, line, wanted, cursor)
    query = _filtered(all_lines, line, wanted)
    if cursor is None and session.scalar(query.limit(1)) is None:
        _check_filters(session, all_lines, line, wanted)
    return query


def _filtered(query: Select[Line], line: type[Line], wanted: Wanted) -> Select[Line]:
    for name in ("test", "arm", "label", "metric"):
        value = getattr(wanted, name)
        if value is not None:
            query = query.where(getattr(line, name) == value)
    if wanted.group == ANY:
        return query.where(line.group.is_not(None))
    return query.where(line.group == wanted.group)


def _check_filters(session: Session, lines: Select[Line], line: type[Line], wanted: Wanted) -> None:
    """Raise `FilterUnknown` for the test, arm or group that no line has, where there are lines."""
    for name in ("test", "arm", "group"):
        value = getattr(wanted, name)
        if value is None or value == ANY:
            continue
        column = getattr(line, name)
        values = select(column).where(
            column.is_not(None), line.id.in_(lines.with_only_columns(line.id))
        )
        there = sorted(session.scalars(values.distinct()))
        if there and value not in there:
            raise FilterUnknown(f"No line has this {name}", field=name, accepted=there)


def _of_version(
    session: Session, caller: Caller, table: type[Row], wanted: Wanted, cursor: str | None
) -> Select[Row]:
    """Rows of the version that is wanted, of one experiment or of all. The pages of an experiment
    are of the version that the first of them was of, whatever was computed in between.
    """
    query = select(table)
    if wanted.experiment is not None:
        # one that nobody registered is a mistake, not an empty list
        plans.find_of_experiment(session, caller, wanted.experiment)
        query = query.where(table.experiment == wanted.experiment)
        if cursor is not None and wanted.version is None:
            wanted = replace(wanted, version=_version_at(session, table, cursor))
    return query.join(models.Evaluation).where(_version(session, caller, wanted))


def _version_at(session: Session, table: type[Row], cursor: str) -> int | None:
    of_row = select(models.Evaluation.version).join(table)
    return session.scalar(of_row.where(table.id == decode_cursor(cursor, int)))


def _evaluation(session: Session, caller: Caller, wanted: Wanted) -> models.Evaluation:
    """Raises `ReportUnknown` (404)."""
    query = select(models.Evaluation).filter_by(experiment=wanted.experiment)
    row = session.scalars(query.where(_version(session, caller, wanted))).one_or_none()
    if row is None:
        raise ReportUnknown("There is no report of such an experiment (yet)")
    return row


def _version(session: Session, caller: Caller, wanted: Wanted) -> ColumnElement[bool]:
    """The caller's evaluations of a version that is there; unless one is named, those that no
    later one supersedes. Raises `VersionOfNothing` (422) and `VersionUnknown` (404).
    """
    mine = models.Evaluation.project == caller.project
    if wanted.version is None:
        later = aliased(models.Evaluation)
        superseded = exists().where(
            later.plan == models.Evaluation.plan, later.version > models.Evaluation.version
        )
        return mine & ~superseded
    if wanted.experiment is None:
        raise VersionOfNothing("Say of which", field="experiment")
    there = models.Evaluation.version == wanted.version
    of = select(models.Evaluation.id).filter_by(experiment=wanted.experiment)
    if session.scalar(of.where(mine, there)) is None:
        raise VersionUnknown("The experiment has no such version", field="version")
    return mine & there


def _result_rows(rows: Sequence[models.Result]) -> list[ResultRow]:
    return [result_row(row) for row in rows]


def _metric_rows(rows: Sequence[models.Metric]) -> list[MetricRow]:
    return [metric_row(row) for row in rows]


def _answers(rows: Sequence[models.Answer]) -> list[Answer]:
    return [answer(row) for row in rows]


def _comparisons(rows: Sequence[models.Comparison]) -> list[Comparison]:
    return [comparison(row) for row in rows]


def _baselines(rows: Sequence[models.Baseline]) -> list[BaselineRow]:
    return [baseline_row(row) for row in rows]


def _csv(wire: type[BaseModel], rows: Sequence[BaseModel]) -> str:
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(wire.model_fields)
    for row in rows:
        writer.writerow([cell(value) for value in row.model_dump(mode="json").values()])
    return sink.getvalue()
