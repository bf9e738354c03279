"""Predictions of any classifier: checked and stored as they come, evaluated by a worker.

What is wrong with a file is said at once, and nothing of it is kept. Ids of images and patients
become pseudonyms before anything is stored, unless they are those of data that is here.
"""

import io
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypedDict
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from api_schemas.base import DatasetRef, DataSplit, Page
from api_schemas.datasets import DatasetKind
from api_schemas.evaluation import Flag
from api_schemas.evaluations import Evaluated, EvaluationRequest, EvaluationView
from api_schemas.manifest import content_digest, to_parquet
from api_schemas.shifts import ComparedSet
from services.evaluation import models
from services.evaluation.importers.faults import Faulty
from services.evaluation.importers.scores import PATH, Sheet, read_scores
from services.evaluation.importers.sets import Evaluand, check_paired, of_data, own, renamed
from services.evaluation.service.blaming import problem_of
from services.evaluation.service.intake import QUEUE
from services.evaluation.service.keeping import EVALUATION, evaluation_folder
from services.evaluation.service.problems import (
    EvaluationUnknown,
    PredictionsDamaged,
    PredictionsUnusable,
)
from services.evaluation.service.stock import Stock, ids, ref_of
from services.evaluation.service.tables import restore
from services.evaluation.statistics.analysis import METHOD
from services.evaluation.statistics.judgement import judge
from services.evaluation.statistics.predictions import Names, Predictions
from services.evaluation.views import evaluation_view
from services.kit.auth import Caller
from services.kit.db import Database, Tx, new_id
from services.kit.errors import ProblemError
from services.kit.http import earlier, once, page
from services.kit.jobs import Jobs, Lease, NewJob, lineage, step_of
from services.kit.jobs.lineage import Made
from services.kit.objects import DigestMismatch, ObjectMissing, ObjectStore, sha256
from services.kit.pseudonyms import Pseudonyms
from services.kit.uploads import FILE

JUDGE = "judge"
UNIT = "files"
REFERENCE, GROUPS = "reference", "groups"
FILE_LIMIT = 512 * 2**20
"""Bytes of a form, both files together."""
PARQUET = "application/vnd.apache.parquet"


class Stored(TypedDict):
    """An object by key and digest."""

    key: str
    sha256: str


class Evaluations:
    """The evaluations of a caller's project."""

    def __init__(
        self, db: Database, jobs: Jobs, store: ObjectStore, stock: Stock, pseudonyms: Pseudonyms
    ) -> None:
        self._db = db
        self._jobs = jobs
        self._store = store
        self._stock = stock
        self._pseudonyms = pseudonyms

    def order(
        self,
        caller: Caller,
        request: EvaluationRequest,
        files: Mapping[str, Path],
        key: str | None,
    ) -> EvaluationView:
        """Read the files (`file` and perhaps `reference`), keep what is in them, and queue the
        evaluation. Raises `PredictionsUnusable` (422) naming file, column and line of each fault.
        """
        with self._db.transaction() as tx:
            made = earlier(tx, caller, key, request)
        return self.evaluation(caller, made or self._order(caller, request, files, key))

    def evaluation(self, caller: Caller, evaluation: UUID) -> EvaluationView:
        with self._db.transaction() as tx:
            return self._view(tx, find(tx.session, caller, evaluation))

    def cancel(self, caller: Caller, evaluation: UUID) -> EvaluationView:
        """Raises `JobFinished` (409)."""
        with self._db.transaction() as tx:
            self._jobs.cancel(tx, find(tx.session, caller, evaluation).job)
        return self.evaluation(caller, evaluation)

    def browse(self, caller: Caller, cursor: str | None, limit: int) -> Page[EvaluationView]:
        """The project's evaluations, newest first."""
        with self._db.transaction() as tx:
            mine = select(models.Judgement).where(
                models.Judgement.project == caller.project, lineage.visible(models.Judgement.id)
            )
            return page(
                tx.session,
                mine,
                models.Judgement.id,
                cursor,
                limit,
                lambda rows: self._views(tx, rows),
                newest_first=True,
            )

    # ------------------------------------------------------------ inside

    def _order(
        self,
        caller: Caller,
        request: EvaluationRequest,
        files: Mapping[str, Path],
        key: str | None,
    ) -> UUID:
        sheets: dict[str, Sheet] = {}
        faults: list[tuple[str, Faulty]] = []
        for field, path in files.items():
            with _noting(field, faults):
                sheets[field] = self._identified(caller, request, read_scores(path))
        if len(sheets) > 1:
            with _noting(REFERENCE, faults):
                check_paired(sheets[FILE], sheets[REFERENCE])
        evaluands, compared = self._evaluands(caller, request, sheets, faults)
        if faults:
            raise problem_of(faults, PredictionsUnusable)
        evaluation = new_id()
        stored = self._store_all(evaluation_folder(caller.project, evaluation), evaluands)
        row = models.Judgement(
            id=evaluation,
            project=caller.project,
            owner=caller.person,
            job=new_id(),
            name=request.name,
            request=request.model_dump(mode="json"),
            files=stored,
            compared=None if compared is None else compared.model_dump(mode="json"),
        )
        try:
            with self._db.transaction() as tx:
                made = once(
                    tx, caller, key, request, lambda: self._submit(tx, caller, request, row)
                )
        except ProblemError:
            self._store.remove(each["key"] for each in stored.values())
            raise
        if made != evaluation:  # somebody sent the same with the same key at the same time
            self._store.remove(each["key"] for each in stored.values())
        return made

    def _identified(self, caller: Caller, request: EvaluationRequest, sheet: Sheet) -> Sheet:
        """With sample ids in place of the paths of images that are here."""
        wanted = data_of(request)
        if not sheet.by_path or wanted is None or not isinstance(wanted.data, DatasetRef):
            return sheet
        try:
            found = self._stock.sample_ids(caller, wanted.data.dataset, sheet.samples.to_list())
        except ValidationError:
            raise Faulty("A path is longer than any", column=PATH) from None
        return renamed(sheet, found)

    def _evaluands(
        self,
        caller: Caller,
        request: EvaluationRequest,
        sheets: Mapping[str, Sheet],
        faults: list[tuple[str, Faulty]],
    ) -> tuple[dict[str, Evaluand], ComparedSet | None]:
        wanted = data_of(request)
        if wanted is None:
            meant, compared = partial(self._own, caller), None
        else:
            item = self._stock.look(caller, wanted.data, "data")
            rows = self._stock.rows(caller, wanted, "data")
            meant, compared = partial(of_data, rows=rows), item.compared(wanted, rows)
        made: dict[str, Evaluand] = {}
        for field, sheet in sheets.items():
            with _noting(field, faults):
                made[field] = meant(sheet)
        return made, compared

    def _own(self, caller: Caller, sheet: Sheet) -> Evaluand:
        """Ids mean something within a project alone, so that is part of what is hashed."""
        names, place = self._pseudonyms, str(caller.project)
        return own(
            sheet, lambda name: names.sample(place, name), lambda name: names.patient(place, name)
        )

    def _store_all(self, folder: str, evaluands: Mapping[str, Evaluand]) -> dict[str, Stored]:
        tables = {field: each.predictions.table() for field, each in evaluands.items()}
        groups = evaluands[FILE].groups
        if groups:
            tables[GROUPS] = pa.table(
                {name: pa.array(values.tolist()) for name, values in groups.items()}
            )
        return {name: self._put(folder, name, table) for name, table in tables.items()}

    def _put(self, folder: str, name: str, table: pa.Table) -> Stored:
        content = to_parquet(table)
        digest = sha256(content)
        stored = Stored(key=f"{folder}{name}-{digest[:16]}.parquet", sha256=digest)
        self._store.put(stored["key"], content, PARQUET)
        return stored

    def _submit(
        self, tx: Tx, caller: Caller, request: EvaluationRequest, row: models.Judgement
    ) -> UUID:
        tx.session.add(row)
        wanted = data_of(request)
        uses = {} if wanted is None else ids(data=wanted.data)
        if request.scoring is not None:
            lineage.require(tx.session, caller, request.scoring, "scoring")
            uses[request.scoring] = "scoring"
        lineage.note(tx, caller, Made("evaluation", QUEUE, EVALUATION, row.id, request.name), uses)
        self._jobs.submit(
            tx,
            NewJob(
                id=row.job,
                service="evaluation",
                kind=JUDGE,
                short=True,
                queue=QUEUE,
                caller=caller,
                resource=row.id,
                inputs=row.request,
                slices=[{"step": JUDGE}],
                total=len(row.files),
                unit=UNIT,
            ),
        )
        tx.session.flush()
        return row.id

    def _view(self, tx: Tx, row: models.Judgement) -> EvaluationView:
        return self._views(tx, [row])[0]

    def _views(self, tx: Tx, rows: Sequence[models.Judgement]) -> list[EvaluationView]:
        jobs = self._jobs.views(tx, [row.job for row in rows])
        return [evaluation_view(row, jobs[row.job]) for row in rows]


class Judge:
    """Handler of an evaluation's slice."""

    def __init__(self, db: Database, store: ObjectStore) -> None:
        self._db = db
        self._store = store

    def __call__(self, lease: Lease) -> None:
        step_of(lease, JUDGE)
        with self._db.transaction() as tx:
            row = tx.session.get_one(models.Judgement, lease.resource)
        ours = self._predictions(row, FILE)
        theirs = self._predictions(row, REFERENCE) if REFERENCE in row.files else None
        lease.stop_now()
        order = ours.by_content()
        found = judge(
            ours.take(order),
            theirs and theirs.take(order),
            {name: values[order] for name, values in self._groups(row).items()},
            _flags(row),
        )
        result = Evaluated.model_validate(
            {
                "method": METHOD,
                "images": len(ours.samples),
                "patients": len(set(ours.patients.tolist())),
                "labels": found.labels,
                "data": row.compared,
                "digest": content_digest(ours.table()),
                "reference_digest": theirs and content_digest(theirs.table()),
                "rows": found.rows,
            }
        )
        lease.progress(len(row.files), len(row.files), UNIT)
        with lease.finishing() as tx:
            kept = tx.session.get_one(models.Judgement, lease.resource)
            kept.result = result.model_dump(mode="json")

    def _predictions(self, row: models.Judgement, field: str) -> Predictions:
        return restore(self._content(row, field))

    def _groups(self, row: models.Judgement) -> dict[str, Names]:
        if GROUPS not in row.files:
            return {}
        table = pq.read_table(io.BytesIO(self._content(row, GROUPS)))
        return {
            name: table[name].to_numpy(zero_copy_only=False).astype("str")
            for name in table.column_names
        }

    def _content(self, row: models.Judgement, field: str) -> bytes:
        stored = row.files[field]
        try:
            return self._store.get(stored["key"], stored["sha256"])
        except (ObjectMissing, DigestMismatch) as error:
            raise PredictionsDamaged("Send them again", field=field) from error


def _flags(row: models.Judgement) -> list[Flag]:
    """What a reader must know of all numbers: what was waived, and whose images these are."""
    data = None if row.compared is None else ComparedSet.model_validate(row.compared)
    made = data is not None and data.kind in {DatasetKind.SYNTHETIC, DatasetKind.MIXED}
    said: list[tuple[Flag, bool]] = [
        ("leakage_waived", row.request["leakage"] is not None),
        ("phantom", data is not None and data.phantom),
        ("synthetic", made),
    ]
    return [flag for flag, holds in said if holds]


@contextmanager
def _noting(field: str, faults: list[tuple[str, Faulty]]) -> Generator[None]:
    """Keep the faults of the file under `field`, to be told with those of the other."""
    try:
        yield
    except Faulty as fault:
        faults.append((field, fault))


def data_of(request: EvaluationRequest) -> DataSplit | None:
    """What the predictions are of, where their sender said it."""
    if request.data is None:
        return None
    return DataSplit(data=ref_of(request.data), split=request.split)


def find(
    session: Session, caller: Caller, evaluation: UUID, field: str | None = None
) -> models.Judgement:
    """Raises `EvaluationUnknown` (404)."""
    mine = select(models.Judgement).filter_by(id=evaluation, project=caller.project)
    row = session.scalars(mine.where(lineage.visible(models.Judgement.id))).one_or_none()
    if row is None:
        raise EvaluationUnknown("There is no such evaluation here", field=field)
    return row
