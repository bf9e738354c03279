"""How good a cohort is: ordered by people, measured by a worker, shown as a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import polars as pl
from sqlalchemy import select
from sqlalchemy.orm import Session

from api_schemas.base import DatasetRef, DataSplit, Page
from api_schemas.qualities import QualityRequest, QualityView, ReferenceSet
from api_schemas.terms import UNCHECKED, WITHDRAWN, strictest
from services.evaluation import models
from services.evaluation.ports import Generations
from services.evaluation.reports.quality import QualityPage, render
from services.evaluation.service import agreement
from services.evaluation.service.features import GivenTables
from services.evaluation.service.intake import QUEUE
from services.evaluation.service.keeping import QUALITY
from services.evaluation.service.measuring import (
    UNIT,
    check_cohort,
    check_reference,
    split_of,
)
from services.evaluation.service.neighbours import Neighbours
from services.evaluation.service.problems import (
    QualityNotReady,
    QualityUnknown,
    ReferenceMissing,
)
from services.evaluation.service.stock import Awaited, Item, Stock, ids
from services.evaluation.views import quality_view
from services.kit.auth import Caller
from services.kit.db import Database, Tx, new_id
from services.kit.http import earlier, once, page
from services.kit.jobs import Jobs, NewJob, lineage
from services.kit.jobs.lineage import Made


@dataclass(frozen=True)
class _Checked:
    """The jobs of the sets that are in the making, and the cohort where it is not."""

    waits: list[UUID]
    cohort: Item | None
    reference: ReferenceSet


class Qualities:
    """The measured cohorts of a caller's project."""

    def __init__(
        self,
        db: Database,
        jobs: Jobs,
        stock: Stock,
        generations: Generations,
        given: GivenTables,
    ) -> None:
        self._db = db
        self._jobs = jobs
        self._stock = stock
        self._generations = generations
        self._given = given
        self._neighbours = Neighbours(stock, generations)

    def order(self, caller: Caller, request: QualityRequest, key: str | None) -> QualityView:
        """Waits for a cohort or reference in the making; feature tables and evaluations must be
        there. Raises `ReferenceMissing`, `ReferenceNotReal` and `TooFewToMeasure` (422).
        """
        with self._db.transaction() as tx:
            made = earlier(tx, caller, key, request)
        return self.quality(caller, made or self._order(caller, request, key))

    def quality(self, caller: Caller, quality: UUID) -> QualityView:
        with self._db.transaction() as tx:
            return self._view(tx, _find(tx.session, caller, quality))

    def browse(self, caller: Caller, cursor: str | None, limit: int) -> Page[QualityView]:
        """The project's measured cohorts, newest first."""
        with self._db.transaction() as tx:
            mine = select(models.Quality).where(
                models.Quality.project == caller.project, lineage.visible(models.Quality.id)
            )
            return page(
                tx.session,
                mine,
                models.Quality.id,
                cursor,
                limit,
                lambda rows: self._views(tx, rows),
                newest_first=True,
            )

    def page(self, caller: Caller, quality: UUID) -> str:
        """HTML; raises `QualityNotReady` (409). The numbers are those that were measured, the
        pictures what is there now.
        """
        view = self.quality(caller, quality)
        if view.result is None:
            raise QualityNotReady(f"Its job is {view.job.state}")
        cohort = self._generations.generation(caller, view.request.cohort.generation)
        item = self._stock.look(caller, view.request.cohort, "cohort")
        reference = self._stock.look(caller, view.result.reference.set.data, "reference")
        return render(
            QualityPage(
                id=view.id,
                measured_at=view.job.finished_at or view.created_at,
                quality=view.result,
                seed=view.request.seed,
                likest=self._neighbours.of(caller, cohort),
                phantom=bool(cohort.phantom),
                licence=strictest([cohort.licence, reference.licence]),
                changed=item.digest != view.result.cohort.manifest,
                reference_changed=reference.digest != view.result.reference.manifest,
                withdrawn=WITHDRAWN in item.flags,
                unchecked=UNCHECKED in item.flags,
            )
        )

    def _order(self, caller: Caller, request: QualityRequest, key: str | None) -> UUID:
        order = self._check(caller, request)
        with self._db.transaction() as tx:
            return once(
                tx,
                caller,
                key,
                request,
                lambda: self._submit(tx, caller, request, order),
            )

    def _submit(
        self,
        tx: Tx,
        caller: Caller,
        request: QualityRequest,
        order: _Checked,
    ) -> UUID:
        reference = order.reference
        awaited = [*order.waits]
        if request.agreement is not None and order.cohort is not None:
            awaited += agreement.check(tx.session, caller, request.agreement, order.cohort)
        row = models.Quality(
            id=new_id(),
            project=caller.project,
            owner=caller.person,
            job=new_id(),
            request=request.model_copy(update={"reference": reference}).model_dump(mode="json"),
        )
        tx.session.add(row)
        uses = ids(cohort=request.cohort, reference=reference.data)
        for place, pair in enumerate(request.features):
            uses |= {pair.cohort: f"features.{place}.cohort"}
            uses |= {pair.reference: f"features.{place}.reference"}
        if request.agreement is not None:
            evaluations = request.agreement.model_dump(exclude_none=True)
            uses |= {each: f"agreement.{name}" for name, each in evaluations.items()}
        lineage.note(tx, caller, Made("evaluation", QUEUE, QUALITY, row.id), uses)
        self._jobs.submit(
            tx,
            NewJob(
                id=row.job,
                service="evaluation",
                kind=QUALITY,
                queue=QUEUE,
                caller=caller,
                resource=row.id,
                inputs=row.request,
                slices=[{"step": QUALITY}],
                waits_for=awaited,
                unit=UNIT,
            ),
        )
        tx.session.flush()
        return row.id

    def _own_dataset(self, caller: Caller, request: QualityRequest) -> ReferenceSet:
        """All of what the cohort's generator was trained on."""
        cohort = self._generations.generation(caller, request.cohort.generation)
        dataset = self._generations.generator(caller, cohort.generator).dataset
        if dataset is None:
            raise ReferenceMissing(
                "Name the real images to compare with",
                field="reference",
                accepted='{"data": {"dataset": id}, "split": "all"}',
            )
        return ReferenceSet(data=DatasetRef(dataset=dataset))

    def _check(self, caller: Caller, request: QualityRequest) -> _Checked:
        """Raises what can be known to be wrong by now; the worker checks both sets again.

        What is made from a finished cohort, features and agreement, is not waited for: where they
        are asked of one in the making, `DataNotReady` (409).
        """
        look = self._stock.look if request.features or request.agreement else self._stock.look_ahead
        cohort = look(caller, request.cohort, "cohort")
        reference = request.reference or self._own_dataset(caller, request)
        beside = look(caller, reference.data, "reference")
        waits: list[UUID] = []
        frames: list[pl.DataFrame] = []
        if isinstance(cohort, Awaited):
            waits.append(cohort.job.id)
            if cohort.images is not None:
                check_cohort(cohort.images)
        else:
            wanted = DataSplit(data=request.cohort)
            frames.append(self._stock.rows_with_images(caller, wanted, "cohort"))
            check_cohort(frames[-1].height)
        if isinstance(beside, Awaited):
            waits.append(beside.job.id)
        else:
            frames.append(self._stock.rows_with_images(caller, split_of(reference), "reference"))
            check_reference(beside, frames[-1])
        for place, pair in enumerate(request.features):
            field = f"features.{place}"
            self._given.check(caller, pair, field, (request.cohort, reference.data))
            self._given.read(caller, pair, field, frames)
        return _Checked(waits, None if isinstance(cohort, Awaited) else cohort, reference)

    def _view(self, tx: Tx, row: models.Quality) -> QualityView:
        return self._views(tx, [row])[0]

    def _views(self, tx: Tx, rows: Sequence[models.Quality]) -> list[QualityView]:
        jobs = self._jobs.views(tx, [row.job for row in rows])
        return [quality_view(row, jobs[row.job]) for row in rows]


def _find(session: Session, caller: Caller, quality: UUID) -> models.Quality:
    mine = select(models.Quality).filter_by(id=quality, project=caller.project)
    row = session.scalars(mine.where(lineage.visible(models.Quality.id))).one_or_none()
    if row is None:
        raise QualityUnknown("There is no such quality here")
    return row
