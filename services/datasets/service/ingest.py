"""The ingest job: plan, then shards of images one after the other, then the manifest.

Each slice can be repeated: rows are rewritten, objects are named by their content. The next
slice is appended in the transaction that finishes the one before, so the manifest always comes
last. Nothing of the source but its images and the columns of the manifest outlives the job.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import ARRAY, String, cast, delete, func, insert, select, update
from sqlalchemy.orm import Session

from api_schemas.base import JobState
from api_schemas.datasets import DatasetRequest
from api_schemas.manifest import content_digest, to_parquet
from services.datasets.importers import Roots, open_source
from services.datasets.importers.images import encode_png, pixel_digest
from services.datasets.importers.pseudonyms import Pseudonyms
from services.datasets.importers.source import (
    Entry,
    Rejected,
    Source,
    SourceUnusable,
    Unreadable,
)
from services.datasets.importers.splits import assign, bucket
from services.datasets.models import Dataset, Manifest, Rejection, Sample
from services.datasets.service.keys import folder, image_key, manifest_key
from services.datasets.service.problems import NoUsableRow, as_problem
from services.datasets.service.standing import lock_manifests, withdrawn
from services.datasets.views import manifest_table
from services.kit.db import Database, new_id
from services.kit.errors import ProblemError
from services.kit.jobs import Jobs, Lease, LeaseLost, Released
from services.kit.objects import ObjectStore, sha256

INGEST = "ingest"
"""Kind of the job."""
QUEUE = "cpu"
UNIT = "images"
PLANNED_AT_ONCE = 2000
SHARD = 256
PUTS_AT_ONCE = 8

T = TypeVar("T")
_request: TypeAdapter[DatasetRequest] = TypeAdapter(DatasetRequest)


class Ingest:
    """Handler of the slices of an ingest job."""

    def __init__(
        self,
        db: Database,
        jobs: Jobs,
        store: ObjectStore,
        pseudonyms: Pseudonyms,
        roots: Roots,
    ) -> None:
        self._db = db
        self._jobs = jobs
        self._store = store
        self._pseudonyms = pseudonyms
        self._roots = roots

    def __call__(self, lease: Lease) -> None:
        steps = {"plan": self._plan, "images": self._images, "manifest": self._manifest}
        request = _request.validate_python(lease.inputs)
        try:
            steps[lease.payload["step"]](lease, request)
        except SourceUnusable as error:
            raise self._emptied(lease, as_problem(error)) from error
        except LeaseLost:
            self._remove_remains(lease)
            raise

    # ------------------------------------------------------------ plan

    def _plan(self, lease: Lease, request: DatasetRequest) -> None:
        """Read every row, without its picture, into samples and rejections."""
        source = open_source(request, self._roots)
        with lease.writing() as tx:  # what an earlier attempt left
            _forget_samples(tx.session, lease.resource)
            tx.session.execute(delete(Rejection).where(Rejection.dataset == lease.resource))
        total = 0
        for part in _batched(source.entries(), PLANNED_AT_ONCE):
            lease.stop_now()
            usable = [row for row in part if isinstance(row, Entry)]
            samples = [
                self._sample(lease.resource, str(request.site), total + n, row)
                for n, row in enumerate(usable)
            ]
            total += len(usable)
            with lease.writing() as tx:
                _insert(tx.session, Sample, samples)
                _insert(tx.session, Rejection, _rejections(lease.resource, part))
            lease.progress(0, total, UNIT, "reading the rows")
        if not total:
            raise self._emptied(lease, _nothing_usable())
        with lease.finishing(more=[_next_slice(0, total)]) as tx:
            lease.progress(0, total, UNIT, "preparing the images")
            tx.session.execute(
                update(Dataset).where(Dataset.id == lease.resource).values(notes=source.remarks())
            )

    def _sample(self, dataset: UUID, site: str, ordinal: int, row: Entry) -> dict[str, Any]:
        return {
            "dataset": dataset,
            "ordinal": ordinal,
            "line": row.line,
            "place": row.place,
            "bucket": bucket(site, row.patient),
            "sample_id": self._pseudonyms.sample(site, row.place),
            "patient_id": self._pseudonyms.patient(site, row.patient),
            "split": row.split,
            "fold": row.fold,
            "age": row.age,
            "sex": row.sex,
            "race": row.race,
            "view": row.view,
            "labels": {str(finding): value for finding, value in row.labels.items()},
        }

    # ------------------------------------------------------------ images

    def _images(self, lease: Lease, request: DatasetRequest) -> None:
        """Prepare and store the pictures of one shard."""
        first, total = lease.payload["first"], lease.payload["total"]
        with self._db.transaction() as tx:
            rows = tx.session.scalars(
                select(Sample)
                .where(Sample.dataset == lease.resource)
                .where(Sample.ordinal >= first, Sample.ordinal < first + SHARD)
                .order_by(Sample.ordinal)
            ).all()
        source = open_source(request, self._roots)
        stored, rejected = self._store_pictures(lease, source, rows, total)
        with lease.finishing(more=[_next_slice(first + SHARD, total)]) as tx:
            lease.progress(min(first + SHARD, total), total, UNIT, "preparing the images")
            if stored:
                tx.session.execute(update(Sample), stored)
            _insert(tx.session, Rejection, rejected)
            _drop_lines(tx.session, lease.resource, [r["line"] for r in rejected])

    def _store_pictures(
        self, lease: Lease, source: Source, rows: Sequence[Sample], total: int
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """New column values of the samples whose picture is stored, and rows of rejections."""
        stored: list[dict[str, Any]] = []
        rejected: list[dict[str, Any]] = []
        text = source.inscription()
        pictures = source.pictures([row.place or "" for row in rows])
        with ThreadPoolExecutor(PUTS_AT_ONCE) as pool:
            puts = []
            for row, picture in zip(rows, pictures, strict=True):
                lease.stop_now()
                if isinstance(picture, Unreadable):
                    rejected.append(
                        {"dataset": row.dataset, "line": row.line, "reason": picture.reason}
                    )
                    continue
                png = encode_png(picture, text)
                digest = sha256(png)
                key = image_key(lease.caller.project, row.dataset, row.ordinal, digest)
                puts.append(pool.submit(self._store.put, key, png, "image/png"))
                stored.append(
                    {
                        "dataset": row.dataset,
                        "ordinal": row.ordinal,
                        "image_key": key,
                        "image_sha256": digest,
                        "pixel_sha256": pixel_digest(picture),
                    }
                )
                lease.progress(row.ordinal + 1, total, UNIT, "preparing the images")
            for put in puts:
                put.result()
        return stored, rejected

    # ------------------------------------------------------------ manifest

    def _manifest(self, lease: Lease, request: DatasetRequest) -> None:
        """Split the patients and write the manifest."""
        with self._db.transaction() as tx:
            rows = tx.session.scalars(
                select(Sample).where(Sample.dataset == lease.resource).order_by(Sample.ordinal)
            ).all()
            banned = withdrawn(tx.session, lease.caller.project)
        rows, out = _without(rows, banned)
        if not rows:
            raise self._emptied(lease, _nothing_usable())
        self._store.remove(row.image_key for row in out if row.image_key is not None)
        splits = _splits(rows)
        table = manifest_table(list(rows), splits, str(request.site))
        content, digest = to_parquet(table), content_digest(table)
        key = manifest_key(lease.caller.project, lease.resource, digest)
        self._store.put(key, content, "application/vnd.apache.parquet")
        with lease.finishing() as tx:
            lock_manifests(tx.session, lease.caller.project)
            if withdrawn(tx.session, lease.caller.project) != banned:
                raise Released  # somebody was withdrawn meanwhile: again, without them
            lease.progress(len(rows), len(rows), UNIT)
            lines = [row.line for row in out]
            _drop_lines(tx.session, lease.resource, lines)
            _insert(tx.session, Rejection, [_of_withdrawn(lease.resource, n) for n in lines])
            _write_splits(tx.session, lease.resource, splits)
            tx.session.add(
                Manifest(
                    id=new_id(),
                    dataset=lease.resource,
                    digest=digest,
                    parquet_sha256=sha256(content),
                    images=len(rows),
                    patients=len(splits),
                    key=key,
                )
            )

    # ------------------------------------------------------------ when it ends otherwise

    def _emptied(self, lease: Lease, problem: ProblemError) -> ProblemError:
        """`problem`, once no half-read sample is left; the rejections stay: they tell why."""
        with lease.writing() as tx:
            _forget_samples(tx.session, lease.resource)
        return problem

    def _remove_remains(self, lease: Lease) -> None:
        """After a cancelled or failed job, what this worker put too late for others to remove."""
        with self._db.transaction() as tx:
            state = self._jobs.view(tx, lease.job).state
        if state in {JobState.CANCELLED, JobState.FAILED}:
            self._store.remove_prefix(folder(lease.caller.project, lease.resource))


def _next_slice(first: int, total: int) -> dict[str, Any]:
    if first < total:
        return {"step": "images", "first": first, "total": total}
    return {"step": "manifest"}


def _nothing_usable() -> NoUsableRow:
    return NoUsableRow("see the dataset's rejections for each row's reason", field="path")


def _rejections(dataset: UUID, part: Iterable[Entry | Rejected]) -> list[dict[str, Any]]:
    return [
        {"dataset": dataset, "line": row.line, "reason": row.reason}
        for row in part
        if isinstance(row, Rejected)
    ]


def _without(
    rows: Sequence[Sample], banned: tuple[set[str], set[str]]
) -> tuple[list[Sample], list[Sample]]:
    """The rows that stay, and those of withdrawn patients or samples."""
    patients, samples = banned
    out = [r for r in rows if r.patient_id in patients or r.sample_id in samples]
    lines = {r.line for r in out}
    return [r for r in rows if r.line not in lines], out


def _of_withdrawn(dataset: UUID, line: int) -> dict[str, Any]:
    return {"dataset": dataset, "line": line, "reason": "withdrawn from this project"}


def _splits(rows: Sequence[Sample]) -> dict[str, Any]:
    given: dict[str, Any] = {row.patient_id: row.split for row in rows if row.split is not None}
    return dict(assign({row.patient_id: row.bucket or 0 for row in rows}, given))


def _write_splits(session: Session, dataset: UUID, splits: dict[str, Any]) -> None:
    """Split every sample, and forget what only the ingest needed."""
    found = select(
        func.unnest(cast(list(splits), ARRAY(String))).label("patient"),
        func.unnest(cast(list(splits.values()), ARRAY(String))).label("split"),
    ).subquery()
    session.execute(
        update(Sample)
        .where(Sample.dataset == dataset, Sample.patient_id == found.c.patient)
        .values(split=found.c.split, place=None, bucket=None)
        .execution_options(synchronize_session=False)
    )


def _forget_samples(session: Session, dataset: UUID) -> None:
    session.execute(delete(Sample).where(Sample.dataset == dataset))


def _drop_lines(session: Session, dataset: UUID, lines: Sequence[int]) -> None:
    session.execute(delete(Sample).where(Sample.dataset == dataset, Sample.line.in_(lines)))


def _insert(session: Session, kind: type[Sample | Rejection], rows: Sequence[Any]) -> None:
    if rows:
        session.execute(insert(kind), rows)


def _batched(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while part := list(islice(items, size)):
        yield part
