"""The ingest job: plan, then shards of images side by side, then the manifest.

Each slice can be repeated: rows are rewritten, objects are named by their content. The manifest's
slice is appended in the transaction that finishes the last shard. Nothing of the source but its
images and the columns of the manifest outlives the job.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import delete, insert, update
from sqlalchemy.orm import Session

from api_schemas.base import JobState
from api_schemas.datasets import RejectionCode
from api_schemas.imports import DatasetRequest, FileImport
from api_schemas.manifest import content_digest, to_parquet
from api_schemas.provenance import ImageOrigin, ImageOrigins
from api_schemas.withdrawals import PATIENT_ID
from services.datasets.importers import Roots, duplicates, open_source
from services.datasets.importers.source import (
    Decoders,
    Entry,
    Rejected,
    Source,
    SourceUnusable,
    Unreadable,
)
from services.datasets.importers.splits import bucket
from services.datasets.models import Dataset, Duplicate, Manifest, Rejection, Sample
from services.datasets.service import samples
from services.datasets.service.ahead import Pictures, ReadAhead, Shard
from services.datasets.service.keys import folder, image_key, manifest_key
from services.datasets.service.omissions import warnings
from services.datasets.service.problems import NoUsableRow, UploadGone, as_problem
from services.datasets.service.standing import Banned, known_patients, lock_manifests, withdrawn
from services.datasets.service.uploads import Uploads
from services.kit.db import Database, new_id
from services.kit.errors import ProblemError
from services.kit.jobs import WITH_WARNINGS, Jobs, Lease, LeaseLost, Released, step_of
from services.kit.objects import ObjectStore, sha256
from services.kit.pseudonyms import Pseudonyms

INGEST = "ingest"
"""Kind of the job."""
QUEUE = "cpu"
UNIT = "images"
PLANNED_AT_ONCE = 5000
SHARD = 256
PUTS_AT_ONCE = 8
BURST = 64
"""Pictures put together: one at a time wakes the store for each, at three times the cost."""
DUPLICATES_TOLD = 10_000
WITHDRAWN = "withdrawn from this project"
MANIFEST = "manifest"

PSEUDONYM = re.compile(PATIENT_ID)

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
        uploads: Uploads,
        decoders: Decoders,
    ) -> None:
        self._db = db
        self._jobs = jobs
        self._store = store
        self._pseudonyms = pseudonyms
        self._roots = roots
        self._uploads = uploads
        self._decoders = decoders
        self._ahead = ReadAhead()

    def __call__(self, lease: Lease) -> None:
        steps = {"plan": self._plan, "images": self._images, MANIFEST: self._manifest}
        step = step_of(lease, *steps)
        request = _request.validate_python(lease.inputs)
        try:
            steps[step](lease, request)
        except SourceUnusable as error:
            raise self._emptied(lease, as_problem(error)) from error
        except UploadGone as problem:
            raise self._emptied(lease, problem) from None
        except LeaseLost:
            self._remove_remains(lease)
            raise

    def _source(self, lease: Lease, request: DatasetRequest) -> Source:
        roots = self._roots
        if isinstance(request, FileImport) and request.upload is not None:
            project = lease.caller.project
            roots = Roots.of([self._uploads.unpacked(project, request.upload, lease.stop_now)])
        return open_source(request, roots)

    # ------------------------------------------------------------ plan

    def _plan(self, lease: Lease, request: DatasetRequest) -> None:
        """Read every row, without its picture, into samples and rejections."""
        source = self._source(lease, request)
        with lease.writing() as tx:  # what an earlier attempt left
            samples.forget(tx.session, lease.resource)
            tx.session.execute(delete(Rejection).where(Rejection.dataset == lease.resource))
        total = read = 0
        stated: Counter[str] = Counter()
        for part in _batched(source.entries(self._decoders), PLANNED_AT_ONCE):
            lease.stop_now()
            usable = [row for row in part if isinstance(row, Entry)]
            names = {row.patient for row in usable if PSEUDONYM.fullmatch(row.patient)}
            with lease.writing() as tx:
                known = known_patients(tx.session, names)
                planned = (
                    self._sample(lease.resource, str(request.site), total + n, row, known)
                    for n, row in enumerate(usable)
                )
                samples.copy_in(tx.session, planned)
                _insert(tx.session, Rejection, _rejections(lease.resource, part))
            total += len(usable)
            read += len(part)
            stated.update(
                row.split for row in part if isinstance(row, Rejected) and row.split is not None
            )
            lease.progress(0, total, UNIT, "reading the rows")
        if not total:
            raise self._emptied(lease, _nothing_usable() if read else _nothing_there())
        wanted = not isinstance(request, FileImport) or request.images
        with self._db.transaction() as tx:
            planned = samples.planned(tx.session, lease.resource) + stated
        about = {"total": total, "planned": planned}
        shards = [{"step": "images", "first": n, **about} for n in range(0, total, SHARD)]
        more = shards if wanted else [{"step": MANIFEST, "planned": planned}]
        with lease.finishing(more=more) as tx:
            lease.progress(0, total, UNIT, "preparing the images")
            tx.session.execute(
                update(Dataset).where(Dataset.id == lease.resource).values(notes=source.remarks())
            )

    def _sample(
        self, dataset: UUID, site: str, ordinal: int, row: Entry, known: set[str]
    ) -> dict[str, Any]:
        """The columns of a planned sample. A patient who is `known` was exported from here, and
        keeps the pseudonym.
        """
        names = self._pseudonyms
        patient = row.patient if row.patient in known else names.patient(site, row.patient)
        return {
            "dataset": dataset,
            "ordinal": ordinal,
            "line": row.line,
            "place": row.place,
            "bucket": bucket(site, row.patient),
            "sample_id": names.sample(site, row.place),
            "patient_id": patient,
            "split": row.split,
            "fold": row.fold,
            "age": row.age,
            "sex": row.sex,
            "race": row.race,
            "ethnicity": row.ethnicity,
            "view": row.view,
            "labels": row.labels,
            "seed": row.seed,
            "replica": row.replica,
            "parent_sample_id": None if row.parent is None else names.sample(site, row.parent),
            "origin": row.origin and row.origin.model_dump(mode="json"),
        }

    # ------------------------------------------------------------ images

    def _images(self, lease: Lease, request: DatasetRequest) -> None:
        """Prepare and store the pictures of one shard; others may be at work on other shards."""
        first, total = lease.payload["first"], lease.payload["total"]
        with self._db.transaction() as tx:
            rows = samples.shard(tx.session, lease.resource, first, SHARD)
            done = samples.stored(tx.session, lease.resource)
            banned = withdrawn(tx.session, lease.caller.project)
        source = self._source(lease, request)
        pictures = self._ahead.take(*self._asked(lease, source, first, rows))

        def go_on() -> None:
            following = self._ahead.next_first()
            if following is not None and following < total:
                with self._db.transaction() as tx:
                    rows = samples.shard(tx.session, lease.resource, following, SHARD)
                shard, begin = self._asked(lease, source, following, rows)
                self._ahead.begin(shard, begin())

        stored, rejected = self._store_pictures(lease, pictures, rows, banned, done, total, go_on)
        kept = sum("image_key" in each for each in stored)
        manifest = {"step": MANIFEST, "planned": lease.payload["planned"]}
        with lease.finishing(last=[manifest]) as tx:
            lease.progress(done + kept, total, UNIT, "preparing the images")
            if stored:
                tx.session.execute(update(Sample), stored)
            _insert(tx.session, Rejection, rejected)
            samples.drop_lines(tx.session, lease.resource, [r["line"] for r in rejected])

    def _asked(
        self, lease: Lease, source: Source, first: int, rows: Sequence[Sample]
    ) -> tuple[Shard, Callable[[], Pictures]]:
        """A shard, and what begins to prepare its pictures."""
        places = [row.place or "" for row in rows]
        shard = Shard(lease.resource, first, places)
        return shard, lambda: source.pictures(places, self._decoders)

    def _store_pictures(
        self,
        lease: Lease,
        pictures: Pictures,
        rows: Sequence[Sample],
        banned: Banned,
        done: int,
        total: int,
        go_on: Callable[[], None],
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """New column values of the samples, and rows of rejections. A picture that was withdrawn is
        not stored; its sample is dropped with the others of its kind.

        Calls `go_on` while the last pictures are being prepared.
        """
        stored: list[dict[str, Any]] = []
        unreadable: list[Rejected] = []
        with ThreadPoolExecutor(PUTS_AT_ONCE) as pool:
            puts: list[Future[None]] = []
            waiting: list[tuple[str, bytes]] = []
            countdown = range(len(rows), 0, -1)

            def put_waiting() -> None:
                puts.extend(pool.submit(self._store.put, *each, "image/png") for each in waiting)
                waiting.clear()

            for left, row, picture in zip(countdown, rows, pictures, strict=True):
                lease.stop_now()
                if left == BURST:
                    go_on()
                if isinstance(picture, Unreadable):
                    unreadable.append(Rejected(row.line, picture.reason, picture.code))
                    continue
                place = {"dataset": row.dataset, "ordinal": row.ordinal}
                if banned.hold(row, picture.pixel_sha256):
                    stored.append({**place, "pixel_sha256": picture.pixel_sha256})
                    continue
                digest = sha256(picture.png)
                key = image_key(lease.caller.project, row.dataset, row.ordinal, digest)
                waiting.append((key, picture.png))
                if len(waiting) == BURST:
                    put_waiting()
                stored.append(
                    {
                        **place,
                        "image_key": key,
                        "image_sha256": digest,
                        "pixel_sha256": picture.pixel_sha256,
                        "descriptor": picture.descriptor,
                        "picture_notes": list(picture.notes),
                        **_made(row, picture.origin),
                    }
                )
                lease.progress(done + len(stored), total, UNIT, "preparing the images")
            put_waiting()
            for put in puts:
                put.result()
        return stored, _rejections(lease.resource, unreadable)

    # ------------------------------------------------------------ manifest

    def _manifest(self, lease: Lease, request: DatasetRequest) -> None:
        """Split the patients, look for duplicates and write the manifest."""
        banned = self._leave_out(lease)
        with self._db.transaction() as tx:
            splits = samples.splits(tx.session, lease.resource)
            if not splits:
                raise self._emptied(lease, _nothing_usable())
            table = samples.manifest(tx.session, lease.resource, splits, str(request.site))
            origins = samples.origins(tx.session, lease.resource)
        lease.stop_now()
        twins = self._twins(lease.resource)
        lease.stop_now()
        content, digest = to_parquet(table), content_digest(table)
        key = manifest_key(lease.caller.project, lease.resource, digest)
        self._store.put(key, content, "application/vnd.apache.parquet")
        with lease.finishing() as tx:
            lock_manifests(tx.session, lease.caller.project)
            if withdrawn(tx.session, lease.caller.project) != banned:
                raise Released  # somebody was withdrawn meanwhile: again, without them
            warned = warnings(
                tx.session,
                lease.resource,
                planned=lease.payload["planned"],
                kept=Counter(table["split"].to_pylist()),
            )
            lease.progress(table.num_rows, table.num_rows, UNIT, WITH_WARNINGS if warned else "")
            tx.session.get_one(Dataset, lease.resource).warnings = warned
            odd = samples.picture_notes(tx.session, lease.resource)
            samples.write_splits(tx.session, lease.resource, splits)
            _insert(tx.session, Duplicate, twins[:DUPLICATES_TOLD])
            told = [f"{note}: {images} images" for note, images in odd]
            _note(tx.session, lease.resource, [*told, *_about_origins(origins), *_about(twins)])
            if origins is not None:
                row = tx.session.get_one(Dataset, lease.resource)
                row.origins = origins.model_dump(mode="json")
            if isinstance(request, FileImport) and request.upload is not None:
                remove = self._uploads.used_up(tx.session, lease.caller.project, request.upload)
                tx.after_commit(remove)
            tx.session.add(
                Manifest(
                    id=new_id(),
                    dataset=lease.resource,
                    digest=digest,
                    parquet_sha256=sha256(content),
                    images=table.num_rows,
                    patients=len(splits),
                    key=key,
                )
            )

    def _leave_out(self, lease: Lease) -> Banned:
        """Drop the rows and images of whom the project has withdrawn. The images go first: the
        rows name them, should this be repeated.
        """
        project = lease.caller.project
        with lease.writing() as tx:
            if withdrawn(tx.session, project).patients:
                samples.note_withdrawn(tx.session, project, lease.resource)
            banned = withdrawn(tx.session, project)
            rows = samples.of(tx.session, lease.resource, banned)
        self._store.remove(row.image_key for row in rows if row.image_key is not None)
        told = [Rejected(row.line, WITHDRAWN, RejectionCode.WITHDRAWN) for row in rows]
        with lease.writing() as tx:
            samples.drop_lines(tx.session, lease.resource, [row.line for row in rows])
            _insert(tx.session, Rejection, _rejections(lease.resource, told))
        return banned

    def _twins(self, dataset: UUID) -> list[dict[str, Any]]:
        """Rows of duplicates: identical pictures first."""
        with self._db.transaction() as tx:
            rows = samples.pictures(tx.session, dataset)
        pairs = duplicates.find([row.digest for row in rows], [row.descriptor for row in rows])
        return [
            {
                "dataset": dataset,
                "number": number,
                "sample_id": rows[pair.first].sample_id,
                "other_sample_id": rows[pair.other].sample_id,
                "identical": pair.identical,
                "distance": pair.distance,
                "same_patient": rows[pair.first].patient_id == rows[pair.other].patient_id,
            }
            for number, pair in enumerate(pairs)
        ]

    # ------------------------------------------------------------ when it ends otherwise

    def _emptied(self, lease: Lease, problem: ProblemError) -> ProblemError:
        """`problem`, once no half-read sample is left; the rejections stay: they tell why."""
        with lease.writing() as tx:
            samples.forget(tx.session, lease.resource)
        return problem

    def _remove_remains(self, lease: Lease) -> None:
        """After a cancelled or failed job, what this worker put too late for others to remove."""
        with self._db.transaction() as tx:
            state = self._jobs.view(tx, lease.job).state
        if state in {JobState.CANCELLED, JobState.FAILED}:
            self._store.remove_prefix(folder(lease.caller.project, lease.resource))


def _nothing_there() -> NoUsableRow:
    return NoUsableRow("the source has no rows at all", field="path")


def _nothing_usable() -> NoUsableRow:
    return NoUsableRow("see the dataset's rejections for each row's reason", field="path")


def _rejections(dataset: UUID, part: Iterable[Entry | Rejected]) -> list[dict[str, Any]]:
    return [
        {"dataset": dataset, "line": row.line, "code": row.code, "reason": row.reason}
        for row in part
        if isinstance(row, Rejected)
    ]


def _about(twins: Sequence[dict[str, Any]]) -> list[str]:
    """What the dataset's notes say of its duplicates."""
    if not twins:
        return []
    identical = sum(twin["identical"] for twin in twins)
    strangers = sum(not twin["same_patient"] for twin in twins)
    near = len(twins) - identical
    told = f"pairs of identical images: {identical}, of nearly identical ones: {near}"
    return [f"{told}; of both, pairs of different patients: {strangers}"]


def _made(row: Sample, said: ImageOrigin | None) -> dict[str, Any]:
    """The columns of what an image says of its own making; the table's word stands where the
    image says nothing.
    """
    if said is None:
        return {"origin": row.origin, "seed": row.seed}
    seed = said.seed if row.seed is None else row.seed
    return {"origin": said.model_dump(mode="json"), "seed": seed}


def _about_origins(origins: ImageOrigins | None) -> list[str]:
    """What the dataset's notes say of images that are not of patients, by their own word."""
    if origins is None:
        return []
    told: list[str] = []
    if origins.synthetic:
        told.append(_about_synthetic(origins))
    if origins.drawn:
        told.append(
            f"drawn phantoms, by their own word: {origins.drawn} of {origins.images} images"
        )
    if max(origins.synthetic, origins.drawn) < origins.images:
        rest = origins.images - origins.synthetic - origins.drawn
        told.append(
            f"the table mixes images of several kinds: {origins.synthetic} synthetic, "
            f"{origins.drawn} drawn, {rest} that say nothing of their making and count as real"
        )
    return told


def _about_synthetic(origins: ImageOrigins) -> str:
    generators = ", ".join(map(str, origins.generators)) or "not named"
    cohorts = ", ".join(map(str, origins.cohorts)) or "not named"
    return (
        f"synthetic images, by their own word: {origins.synthetic} of {origins.images}; "
        f"generators: {generators}; cohorts: {cohorts}"
    )


def _note(session: Session, dataset: UUID, told: list[str]) -> None:
    row = session.get_one(Dataset, dataset)
    row.notes = [*row.notes, *told]


def _insert(
    session: Session, kind: type[Rejection | Duplicate], rows: Sequence[dict[str, Any]]
) -> None:
    if rows:
        session.execute(insert(kind), rows)


def _batched(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while part := list(islice(items, size)):
        yield part
