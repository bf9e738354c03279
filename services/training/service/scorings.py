"""What people do with scorings: ask for one, look, take the predictions, cancel."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from api_schemas.base import DatasetRef, Page
from api_schemas.scorings import ScoringRequest, ScoringView
from services.kit.auth import Caller
from services.kit.db import Database, Tx, new_id
from services.kit.errors import Conflict, NotFound
from services.kit.http import earlier, once, page
from services.kit.jobs import Jobs, NewJob, lineage
from services.kit.jobs.lineage import Made
from services.kit.objects import ObjectStore
from services.training.models import Classifier, Experiment, Scoring
from services.training.service import checks
from services.training.service.catalogue import Catalogue, Listed
from services.training.service.experiments import QUEUE, SERVICE, find_classifier
from services.training.service.keeping import SCORING
from services.training.service.leaks import Leaks, refuse
from services.training.service.samples import read_samples
from services.training.service.storing import Stored
from services.training.views import scoring_view

SCORE = "score"
UNIT = "images"


class ScoringUnknown(NotFound):
    pass


class ScoringNotReady(Conflict):
    slug = "scoring-not-ready"
    title = "There are no predictions (yet)"


@dataclass(frozen=True)
class Checked:
    """Data that may be scored, in the version that was looked at."""

    manifest: str
    images: int
    leakage: list[str]


class Checks:
    """Whether data may be scored by a classifier: the same at POST and in a blocked job."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._leaks = Leaks(catalogue)

    def look(self, caller: Caller, request: ScoringRequest, classifier: Classifier) -> Listed:
        """Raises `SizesDiffer` (422) and what the catalogue raises."""
        listed = self._catalogue.look(caller, request.data, "data")
        if listed.size_px is not None and listed.size_px != classifier.size_px:
            raise checks.SizesDiffer(
                f"Its images are {listed.size_px} px, the classifier takes {classifier.size_px}",
                field="data",
                accepted=classifier.size_px,
            )
        return listed

    def check(
        self,
        caller: Caller,
        request: ScoringRequest,
        classifier: Classifier,
        experiment: Experiment,
        listed: Listed,
    ) -> Checked:
        """Of data that is ready. Raises `NoImages` (422) and `LeakageFound` (409)."""
        samples = read_samples(self._catalogue.manifest(caller, request.data))
        rows = samples.split(request.split)
        if not len(rows):
            raise checks.NoImages(f"Its split '{request.split}' is empty", field="split")
        found = list(self._leaks.of(caller, classifier, experiment, samples, rows))
        if not request.allow_leakage:
            refuse(found)
        found += self._leaks.shared_with_generator(caller, classifier, experiment, listed)
        return Checked(listed.digest or "", len(rows), found)


class Scorings:
    """The scorings of a caller's project."""

    def __init__(self, db: Database, jobs: Jobs, store: ObjectStore, catalogue: Catalogue) -> None:
        self._db = db
        self._jobs = jobs
        self._store = store
        self._checks = Checks(catalogue)

    def order(self, caller: Caller, request: ScoringRequest, key: str | None) -> ScoringView:
        """Check what is there, and queue the scoring; it waits for data in the making."""
        with self._db.transaction() as tx:
            made = earlier(tx, caller, key, request)
        return self.scoring(caller, made or self._order(caller, request, key))

    def scoring(self, caller: Caller, scoring: UUID) -> ScoringView:
        with self._db.transaction() as tx:
            return self._views(tx, [_find(tx.session, caller, scoring)])[0]

    def browse(self, caller: Caller, cursor: str | None, limit: int) -> Page[ScoringView]:
        """The project's scorings, newest first."""
        with self._db.transaction() as tx:
            mine = select(Scoring).where(
                Scoring.project == caller.project, lineage.visible(Scoring.id)
            )
            return page(
                tx.session,
                mine,
                Scoring.id,
                cursor,
                limit,
                lambda rows: self._views(tx, rows),
                newest_first=True,
            )

    def predictions(self, caller: Caller, scoring: UUID) -> bytes:
        """The table as Parquet; raises `ScoringNotReady` (409)."""
        with self._db.transaction() as tx:
            row = _find(tx.session, caller, scoring)
            state = self._jobs.view(tx, row.job).state
        if row.predictions is None:
            raise ScoringNotReady(f"Its job is {state}")
        file = cast("Stored", row.predictions)
        return self._store.get(file["key"], file["sha256"])

    def cancel(self, caller: Caller, scoring: UUID) -> ScoringView:
        with self._db.transaction() as tx:
            self._jobs.cancel(tx, _find(tx.session, caller, scoring).job)
        return self.scoring(caller, scoring)

    # ------------------------------------------------------------ inside

    def _order(self, caller: Caller, request: ScoringRequest, key: str | None) -> UUID:
        with self._db.transaction() as tx:
            classifier = find_classifier(tx.session, caller, request.classifier)
            experiment = tx.session.get_one(Experiment, classifier.experiment)
        listed = self._checks.look(caller, request, classifier)
        checked = None
        if listed.ready:
            checked = self._checks.check(caller, request, classifier, experiment, listed)
        row = Scoring(
            id=new_id(),
            project=caller.project,
            owner=caller.person,
            job=new_id(),
            name=request.name or f"{classifier.arm}, seed {classifier.seed}",
            classifier=classifier.id,
            labels=classifier.labels,
            request=request.model_dump(mode="json"),
        )
        if checked is not None:
            adopt(row, checked)
        with self._db.transaction() as tx:
            return once(
                tx, caller, key, request, lambda: self._submit(tx, caller, row, classifier, listed)
            )

    def _submit(
        self, tx: Tx, caller: Caller, row: Scoring, classifier: Classifier, listed: Listed
    ) -> UUID:
        tx.session.add(row)
        ref = listed.ref
        data = ref.dataset if isinstance(ref, DatasetRef) else ref.generation
        uses = {classifier.experiment: "classifier", data: "data"}
        lineage.note(tx, caller, Made(SERVICE, QUEUE, SCORING, row.id, row.name), uses)
        self._jobs.submit(
            tx,
            NewJob(
                id=row.job,
                service=SERVICE,
                kind=SCORE,
                short=True,
                queue=QUEUE,
                caller=caller,
                resource=row.id,
                inputs=row.request,
                slices=[{"step": SCORE}],
                waits_for=[] if listed.ready else [listed.job.id],
                total=row.images or 0,
                unit=UNIT,
            ),
        )
        tx.session.flush()
        return row.id

    def _views(self, tx: Tx, rows: Sequence[Scoring]) -> list[ScoringView]:
        jobs = self._jobs.views(tx, [row.job for row in rows])
        return [scoring_view(row, jobs[row.job]) for row in rows]


def adopt(row: Scoring, checked: Checked) -> None:
    """Write down which version of the data is scored, and what is known of its patients."""
    row.manifest = checked.manifest
    row.images = checked.images
    row.leakage = checked.leakage


def _find(session: Session, caller: Caller, scoring: UUID) -> Scoring:
    mine = select(Scoring).filter_by(id=scoring, project=caller.project)
    row = session.scalars(mine.where(lineage.visible(Scoring.id))).one_or_none()
    if row is None:
        raise ScoringUnknown("There is no such scoring here")
    return row
