"""Views over datasets: ordered by people, made by a worker, of the base's own image objects."""

from typing import get_args
from uuid import UUID

import polars as pl
import pyarrow as pa

from api_schemas.base import JobState
from api_schemas.datasets import DatasetView
from api_schemas.manifest import MANIFEST, conform, content_digest, to_parquet
from api_schemas.selection import DerivedView, FoldSplits, Stratum, ViewRequest
from services.datasets import models
from services.datasets.service.catalogue import Datasets
from services.datasets.service.ingest import QUEUE
from services.datasets.service.keeping import KIND
from services.datasets.service.keys import manifest_key
from services.datasets.service.manifests import Manifests
from services.datasets.service.problems import (
    BaseFailed,
    FoldsMissing,
    NobodyStates,
    NothingChosen,
)
from services.datasets.service.standing import find, lock_manifests, newest, ready
from services.datasets.statistics.selection import absent, meets, one_a_patient, unmet
from services.datasets.statistics.splits import is_stated, split
from services.kit.auth import Caller
from services.kit.db import Database, Tx, new_id
from services.kit.http import earlier, once
from services.kit.jobs import Jobs, Lease, NewJob, Released, ending, lineage, step_of
from services.kit.jobs.lineage import Made
from services.kit.objects import ObjectStore, sha256

DERIVE = "view"
"""Kind of the job."""
PARQUET = "application/vnd.apache.parquet"


class Views:
    """Orders of views. What a view is afterwards, a dataset, is the catalogue's matter."""

    def __init__(self, db: Database, jobs: Jobs, manifests: Manifests, datasets: Datasets) -> None:
        self._db = db
        self._jobs = jobs
        self._manifests = manifests
        self._datasets = datasets

    def order(
        self, caller: Caller, base: UUID, request: ViewRequest, key: str | None
    ) -> DatasetView:
        """Make a view; it waits for a base that is still being made.

        Of a base that is there, what cannot act on it is refused at once (`check`).
        """
        asked = DerivedView(base=base, request=request)
        with self._db.transaction() as tx:
            made = earlier(tx, caller, key, asked)
        return self._datasets.dataset(caller, made or self._order(caller, asked, key))

    def _order(self, caller: Caller, asked: DerivedView, key: str | None) -> UUID:
        with self._db.transaction() as tx:
            base = find(tx.session, caller, asked.base)
            manifest = newest(tx.session, [base.id]).get(base.id)
        if manifest is not None:
            check(self._manifests.scan(manifest), asked.request)
        with self._db.transaction() as tx:
            return once(tx, caller, key, asked, lambda: self._submit(tx, caller, asked))

    def _submit(self, tx: Tx, caller: Caller, asked: DerivedView) -> UUID:
        base = find(tx.session, caller, asked.base)
        job = self._jobs.view(tx, base.job)
        manifest = newest(tx.session, [base.id]).get(base.id)
        over = job.state.terminal and job.state is not JobState.SUCCEEDED
        if manifest is None and over:
            words = ending(job.state, job.problem)
            raise BaseFailed(f"The job that was to make it {words}", field="dataset")
        row = models.Dataset(
            id=new_id(),
            project=caller.project,
            owner=caller.person,
            job=new_id(),
            name=asked.request.name,
            request=asked.request.model_dump(mode="json"),
            base=base.id,
            root=base.root or base.id,
        )
        tx.session.add(row)
        made = Made("datasets", QUEUE, KIND, row.id, row.name)
        lineage.note(tx, caller, made, {base.id: "dataset"})
        self._jobs.submit(
            tx,
            NewJob(
                id=row.job,
                service="datasets",
                kind=DERIVE,
                queue=QUEUE,
                caller=caller,
                resource=row.id,
                inputs=asked.model_dump(mode="json"),
                slices=[{"step": DERIVE}],
                waits_for=[] if manifest is not None else [base.job],
                unit="images",
            ),
        )
        tx.session.flush()
        return row.id


class Derive:
    """Handler of the slice of a view's job."""

    def __init__(self, db: Database, store: ObjectStore, manifests: Manifests) -> None:
        self._db = db
        self._store = store
        self._manifests = manifests

    def __call__(self, lease: Lease) -> None:
        step_of(lease, DERIVE)
        asked = DerivedView.model_validate(lease.inputs)
        with self._db.transaction() as tx:
            base = ready(tx.session, find(tx.session, lease.caller, asked.base))
        table = self._manifests.scan(base)
        check(table, asked.request)
        frame = derive(table, asked.request)
        lease.stop_now()
        row = store_manifest(self._store, lease.caller.project, lease.resource, frame)
        lease.progress(row.images, row.images, "images")
        with lease.finishing() as tx:
            lock_manifests(tx.session, lease.caller.project)
            if newest(tx.session, [asked.base])[asked.base].id != base.id:
                raise Released  # a patient was withdrawn meanwhile: again, of what is left
            tx.session.add(row)


def derive(base: pl.LazyFrame, request: ViewRequest) -> pl.DataFrame:
    """The view's rows, in the base's order. The same request of the same base gives the same."""
    frame = base.filter(meets(request.where)).collect()
    if request.one_image_a_patient:
        frame = one_a_patient(frame, request.seed)
    return frame if request.splits is None else split(frame, request.splits)


def store_manifest(
    store: ObjectStore, project: UUID, dataset: UUID, frame: pl.DataFrame
) -> models.Manifest:
    """Put a manifest into the store; its row is for the caller to commit."""
    table: pa.Table = conform(frame.to_arrow(), MANIFEST)
    content, digest = to_parquet(table), content_digest(table)
    key = manifest_key(project, dataset, digest)
    store.put(key, content, PARQUET)
    return models.Manifest(
        id=new_id(),
        dataset=dataset,
        digest=digest,
        parquet_sha256=sha256(content),
        images=frame.height,
        patients=frame["patient_id"].n_unique(),
        key=key,
    )


def check(base: pl.LazyFrame, request: ViewRequest) -> None:
    """Raises `NothingChosen`, `FoldsMissing` and `NobodyStates` (422), naming the field, for what
    would choose nothing of the base or would not change it.
    """
    missing = absent(base, request.where)
    if missing is not None:
        name, value, there = missing
        raise NothingChosen(f"No sample has {name} {value}", field=f"where.{name}", accepted=there)
    chosen = base.filter(meets(request.where))
    if not chosen.select(pl.len()).collect().item():
        alone = unmet(base, request.where)
        if alone is not None:
            raise NothingChosen("No sample of the base meets it", field=f"where.{alone}")
        raise NothingChosen("No sample of the base meets all of it; ask for less", field="where")
    if isinstance(request.splits, FoldSplits):
        _check_folds(chosen, request.splits)
    elif request.splits is not None and request.splits.stratify:
        frame = chosen.collect()
        for stratum in request.splits.stratify:
            if not is_stated(frame, stratum):
                raise NobodyStates(
                    f"No sample states its {stratum}: splits cannot be alike in it",
                    field="splits.stratify",
                    accepted=[s for s in get_args(Stratum) if is_stated(frame, s)],
                )


def _check_folds(chosen: pl.LazyFrame, how: FoldSplits) -> None:
    folds: list[int] = (
        chosen.select(pl.col("fold").drop_nulls().unique().sort()).collect()["fold"].to_list()
    )
    if not folds:
        raise FoldsMissing(
            "No sample that is chosen is in a fold",
            field="splits.kind",
            accepted='{"kind": "new", "folds": 5} deals folds',
        )
    for name, fold in (("validation", how.validation), ("test", how.test)):
        if fold is not None and fold not in folds:
            raise FoldsMissing(f"There is no fold {fold}", field=f"splits.{name}", accepted=folds)
