"""Views over datasets: ordered by people, made by a worker, of the base's own image objects."""

from collections.abc import Iterable, Sequence
from typing import get_args
from uuid import UUID

import polars as pl
import pyarrow as pa
from sqlalchemy.orm import Session

from api_schemas.base import JobState
from api_schemas.datasets import DatasetView
from api_schemas.manifest import LABEL_COLUMNS, MANIFEST, conform, content_digest, to_parquet
from api_schemas.selection import (
    DerivedView,
    FoldSplits,
    NewSplits,
    Stratum,
    ViewRequest,
)
from services.datasets import models
from services.datasets.service.catalogue import Datasets
from services.datasets.service.ingest import QUEUE
from services.datasets.service.keeping import KIND
from services.datasets.service.keys import manifest_key
from services.datasets.service.manifests import Manifests
from services.datasets.service.problems import (
    BaseFailed,
    DatasetUnknown,
    FoldsMissing,
    JoinDiffers,
    NobodyStates,
    NothingChosen,
    PatientsOfTwoSplits,
)
from services.datasets.service.standing import (
    find,
    lock_manifests,
    newest,
    ready,
    root_ids,
    roots,
)
from services.datasets.statistics.selection import absent, meets, one_a_patient, unmet
from services.datasets.statistics.splits import is_stated, split
from services.datasets.views import has_images, kind_of, request_of
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
            bases = _bases(tx.session, caller, asked)
            check_alike(tx.session, bases)
            manifests = newest(tx.session, [base.id for base in bases])
        if len(manifests) == len(bases):
            table = joint(self._manifests.scan(manifests[base.id]) for base in bases)
            check(table, asked.request)
        with self._db.transaction() as tx:
            return once(tx, caller, key, asked, lambda: self._submit(tx, caller, asked))

    def _submit(self, tx: Tx, caller: Caller, asked: DerivedView) -> UUID:
        bases = _bases(tx.session, caller, asked)
        base = bases[0]
        manifests = newest(tx.session, [each.id for each in bases])
        waits: list[UUID] = []
        for number, each in enumerate(bases):
            if each.id in manifests:
                continue
            job = self._jobs.view(tx, each.job)
            if job.state.terminal and job.state is not JobState.SUCCEEDED:
                words = ending(job.state, job.problem)
                raise BaseFailed(f"The job that was to make it {words}", field=_field(number))
            waits.append(each.job)
        owners = dict.fromkeys(root for each in bases for root in root_ids(each))
        root, *joined = owners
        row = models.Dataset(
            id=new_id(),
            project=caller.project,
            owner=caller.person,
            job=new_id(),
            name=asked.request.name,
            request=asked.request.model_dump(mode="json"),
            base=base.id,
            root=root,
            joined=joined,
        )
        tx.session.add(row)
        made = Made("datasets", QUEUE, KIND, row.id, row.name)
        lineage.note(tx, caller, made, {each.id: _field(n) for n, each in enumerate(bases)})
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
                waits_for=waits,
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
            bases = _bases(tx.session, lease.caller, asked)
            check_alike(tx.session, bases)
            used = [ready(tx.session, base) for base in bases]
        table = joint(self._manifests.scan(manifest) for manifest in used)
        check(table, asked.request)
        frame = derive(table, asked.request)
        lease.stop_now()
        row = store_manifest(self._store, lease.caller.project, lease.resource, frame)
        lease.progress(row.images, row.images, "images")
        with lease.finishing() as tx:
            lock_manifests(tx.session, lease.caller.project)
            now = newest(tx.session, [base.id for base in bases])
            if {each.id for each in now.values()} != {each.id for each in used}:
                raise Released  # a patient was withdrawn meanwhile: again, of what is left
            if asked.request.join:
                tx.session.get_one(models.Dataset, lease.resource).warnings = _shared(frame)
            tx.session.add(row)


def _field(number: int) -> str:
    """What names a base in the request: the address, or an entry of `join`."""
    return f"join.{number - 1}.dataset" if number else "dataset"


def _bases(session: Session, caller: Caller, asked: DerivedView) -> list[models.Dataset]:
    """The datasets that a view is made of. Raises `DatasetUnknown`, and `JoinDiffers` for one that
    is named twice.
    """
    found = [find(session, caller, asked.base)]
    for number, ref in enumerate(asked.request.join, start=1):
        try:
            found.append(find(session, caller, ref.dataset))
        except DatasetUnknown as error:
            raise DatasetUnknown("There is no such dataset", field=_field(number)) from error
        if found[-1].id in {each.id for each in found[:-1]}:
            raise JoinDiffers("It is named twice", field=_field(number))
    return found


def check_alike(session: Session, bases: Sequence[models.Dataset]) -> None:
    """Raises `JoinDiffers` (422) for datasets whose images are not of one size and kind."""
    imports = roots(session, bases)
    first = imports[bases[0].id][0]
    for number, base in enumerate(bases):
        for root in imports[base.id]:
            differing = _differing(first, root)
            if differing is not None:
                told, ours = differing
                raise JoinDiffers(told, field=_field(number), accepted=ours)


def _differing(first: models.Dataset, other: models.Dataset) -> tuple[str, object] | None:
    """In what an import differs from the first one, and what that has."""
    ours, theirs = request_of(first), request_of(other)
    if theirs.size_px != ours.size_px:
        return f"Its images have {theirs.size_px} px, the others {ours.size_px}", ours.size_px
    if has_images(theirs) != has_images(ours):
        return "One was imported without its images, the other with them", None
    if getattr(theirs, "resize", None) != getattr(ours, "resize", None):
        kept = getattr(ours, "resize", None)
        return "Its images were resized in another way", kept
    if kind_of(first) is not kind_of(other):
        return f"Its images are {kind_of(other)}, the others {kind_of(first)}", kind_of(first)
    return None


def joint(tables: Iterable[pl.LazyFrame]) -> pl.LazyFrame:
    """The rows of several manifests as one, in their order."""
    return pl.concat(list(tables))


def _shared(frame: pl.DataFrame) -> list[str]:
    """A warning where splits share a picture though not a patient."""
    splits = (
        frame.drop_nulls("pixel_sha256").group_by("pixel_sha256").agg(pl.col("split").n_unique())
    )
    shared = splits.filter(pl.col("split") > 1).height
    if not shared:
        return []
    return [f"pictures that stand in more than one split, under different patients: {shared}"]


def derive(base: pl.LazyFrame, request: ViewRequest) -> pl.DataFrame:
    """The view's rows, in the base's order. The same request of the same base gives the same."""
    frame = _chosen(base, request).collect()
    if request.one_image_a_patient:
        frame = one_a_patient(frame, request.seed)
    return frame if request.splits is None else split(frame, request.splits)


def _chosen(base: pl.LazyFrame, request: ViewRequest) -> pl.LazyFrame:
    """The rows that meet the filter; a sample of several of the joined datasets once."""
    chosen = base.filter(meets(request.where))
    return chosen.unique("sample_id", keep="first", maintain_order=True) if request.join else chosen


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
    if request.join:
        _check_joined(chosen, request)
        chosen = _chosen(base, request)
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


def _check_joined(chosen: pl.LazyFrame, request: ViewRequest) -> None:
    """Raises `JoinDiffers` for a sample of two different contents, and `PatientsOfTwoSplits`."""
    content = [pl.col(name).n_unique() for name in ("pixel_sha256", *LABEL_COLUMNS)]
    samples = chosen.group_by("sample_id").agg(content).collect()
    differing = samples.filter(pl.any_horizontal(pl.exclude("sample_id") > 1)).height
    if differing:
        raise JoinDiffers(
            f"{differing} images are in several of the datasets, with different pixels or labels",
            field="join",
        )
    if isinstance(request.splits, NewSplits):
        return
    if isinstance(request.splits, FoldSplits):
        chosen = split(chosen.collect(), request.splits).lazy()
    patients = chosen.group_by("patient_id").agg(pl.col("split").n_unique()).collect()
    torn = patients.filter(pl.col("split") > 1).height
    if torn:
        raise PatientsOfTwoSplits(
            f"{torn} of {patients.height} patients are in several splits: what a classifier learns "
            "of them in one would be tested in another. Split anew, or leave them out by a filter",
            field="splits",
            accepted='{"kind": "new"} splits all patients anew',
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
