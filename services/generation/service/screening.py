"""Looking for near copies of training images in a cohort: calibrate, compare.

Steps of the job that renders a cohort, before its manifest is written, and of a later job of their
own. Knows pictures and rows; `services.copies` knows how like two pictures are.
"""

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Generator as Yields
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert

from api_schemas.content_order import lot
from api_schemas.manifest import content_digest, from_parquet
from api_schemas.screening import Calibration
from services.copies.calibration import ALTERATIONS, FALSE_FLAGS, LEAST, above, altered, null
from services.copies.pictures import FINE, Pictures, picture
from services.copies.search import Nearest, Queries, search
from services.generation.models import Calibrated, Generation, Generator, Image
from services.generation.ports.providers import Datasets
from services.generation.service.population import POPULATION
from services.kit.db import Database
from services.kit.jobs import Lease
from services.kit.objects import ObjectStore
from services.kit.scratch import temporary_folder

SCREEN = "screen-generation"
CALIBRATE, COMPARE, PUBLISH = {"step": "calibrate"}, "compare", {"step": "publish"}
SLICE_IMAGES = 10_000
"""Images of a cohort that are compared at once; a few hundred megabytes."""
NULL_IMAGES, INJECTED = 1000, 100
AT_ONCE = 64
READERS = 8

UNKNOWN_SET = "Nobody has named the dataset that its generator was trained on"
NOT_ASKED = "It was ordered with screen: false"
IMAGES_GONE = "None of its generator's training images is here any more"
TOO_FEW = f"Fewer than {LEAST} real images to calibrate on: only copies pixel for pixel are flagged"

Row = dict[str, Any]
COLUMNS = ["sample_id", "patient_id", "pixel_sha256", "image_key", "image_sha256"]


@dataclass(frozen=True)
class Real:
    """The real images of a generator's dataset that are here: those it saw, and those of patients
    whom it did not see. `gone` were withdrawn since.
    """

    training: list[Row]
    held_out: list[Row]
    gone: int
    manifest: str


@dataclass(frozen=True)
class Asked:
    """Real images that are taken for what they are not: of whom, and from which side."""

    rows: list[Row]
    of: Literal["held_out", "training"]


def reason_against(row: Generation, generator: Generator) -> str | None:
    """Why a cohort is published without screening, if it is."""
    if not row.request.get("screen", True):
        return NOT_ASKED
    return UNKNOWN_SET if generator.population_key is None else None


class Screen:
    """The steps `calibrate` and `compare`. What follows from them is the matter of `publishing`."""

    def __init__(self, db: Database, store: ObjectStore, datasets: Datasets, scratch: Path) -> None:
        self._db = db
        self._store = store
        self._datasets = datasets
        self._scratch = scratch

    # ------------------------------------------------------------ calibrate

    def calibrate(self, lease: Lease, row: Generation, generator: Generator) -> None:
        """Once for a generator. Then the cohort is compared, some thousand images a slice."""
        real = self._real(lease, generator)
        if not real.training:
            with lease.finishing([PUBLISH]):
                return
        with self._db.transaction() as tx:
            known = tx.session.get(Calibrated, generator.id)
        found = None if known else self._calibration(lease, row, real)
        more = [
            {"step": COMPARE, "first": first, "last": min(first + SLICE_IMAGES, row.images)}
            for first in range(0, row.images, SLICE_IMAGES)
        ]
        lease.progress(row.images, row.images, "images")
        with lease.finishing(more or [PUBLISH]) as tx:
            if found is not None:
                values = {"generator": generator.id, "calibration": found.model_dump(mode="json")}
                tx.session.execute(insert(Calibrated).values(values).on_conflict_do_nothing())

    def _calibration(self, lease: Lease, row: Generation, real: Real) -> Calibration:
        asked = _asked(real)
        if len(asked.rows) < LEAST:
            return _uncalibrated(asked, real)
        copied = _some(real.training, INJECTED)
        queries = Queries.of([*self._pictures(lease, asked.rows), *self._injected(lease, copied)])
        kinds = ("patient_id", "pixel_sha256")

        def apart(first: int, last: int) -> NDArray[np.bool_]:
            part = real.training[first:last]
            same = np.logical_or.reduce([_equal(asked.rows, part, kind) for kind in kinds])
            return np.pad(same, ((0, len(queries) - len(asked.rows)), (0, 0)))

        nearest = self._search(lease, row, queries, real.training, apart, "calibrating")
        n = len(asked.rows)
        judged = np.flatnonzero(nearest.place[:n] >= 0)  # somebody else's image was there
        patients = [asked.rows[i]["patient_id"] for i in judged]
        limit = null(nearest.likeness[judged], patients)
        told = _uncalibrated(asked, real)
        if limit is None:
            return told
        measured = {
            "threshold": limit.threshold,
            "null_rate": limit.rate,
            "null_images": len(judged),
            "null_patients": len(set(patients)),
            "found": _found(nearest, n, copied, real, limit.threshold),
            "injected": len(copied),
        }
        return told.model_copy(update=measured)

    def _injected(self, lease: Lease, rows: Sequence[Row]) -> Iterator[Pictures]:
        """Altered copies of training images, one alteration after the other."""
        if not rows:
            return
        originals = [pixels for part in self._pixels(lease, rows) for pixels in part]
        for alteration in ALTERATIONS:
            yield np.stack([picture(altered(px, alteration, n)) for n, px in enumerate(originals)])

    # ------------------------------------------------------------ compare

    def compare(self, lease: Lease, row: Generation, generator: Generator) -> None:
        """Find the nearest training image of every image of this slice."""
        real = self._real(lease, generator)
        with self._db.transaction() as tx:
            images = tx.session.scalars(
                select(Image)
                .where(Image.generation == row.id)
                .where(Image.index >= lease.payload["first"], Image.index < lease.payload["last"])
                .order_by(Image.index)
            ).all()
        records = [
            {"image_key": each.image_key, "image_sha256": each.image_sha256} for each in images
        ]
        queries = Queries.of(self._pictures(lease, records))
        nearest = self._search(lease, row, queries, real.training, lambda *_: None, "screening")
        twins = {each["pixel_sha256"]: each["sample_id"] for each in real.training}
        told = [
            _told(each, like, real.training[place], twins)
            for each, like, place in zip(images, nearest.likeness, nearest.place, strict=True)
        ]
        lease.progress(row.images, row.images, "images")
        with lease.finishing(last=[PUBLISH]) as tx:
            if told:
                tx.session.execute(update(Image), told)

    def _search(
        self,
        lease: Lease,
        row: Generation,
        queries: Queries,
        training: Sequence[Row],
        apart: Callable[[int, int], NDArray[np.bool_] | None],
        what: str,
    ) -> Nearest:
        def between(done: int) -> None:
            lease.stop_now()
            words = f"{what}: compared with {done} of {len(training)} training images"
            lease.progress(row.images, row.images, "images", words)

        with self._on_disk(lease, training) as pictures:
            return search(queries, pictures, apart, between)

    # ------------------------------------------------------------ real images

    def _real(self, lease: Lease, generator: Generator) -> Real:
        dataset, key = generator.dataset, generator.population_key
        assert dataset is not None  # noqa: S101 - a generator without one is not screened
        assert key is not None  # noqa: S101 - likewise
        manifest = self._datasets.dataset_manifest(lease.caller, dataset)
        population = from_parquet(self._store.get(key, generator.population_sha256), POPULATION)
        seen = set(population["sample_id"].to_pylist())
        people = set(population["patient_id"].to_pylist())
        rows = manifest.select(COLUMNS).to_pylist()
        here = [each for each in rows if each["image_key"] is not None]
        training = [each for each in here if each["sample_id"] in seen]
        return Real(
            training=training,
            held_out=[each for each in here if each["patient_id"] not in people],
            gone=len(seen) - len(training),
            manifest=content_digest(manifest),
        )

    def _pixels(self, lease: Lease, rows: Sequence[Row]) -> Iterator[list[NDArray[np.uint8]]]:
        """The grey levels of images, verified, some at once."""

        def read(each: Row) -> NDArray[np.uint8]:
            content = self._store.get(each["image_key"], each["image_sha256"])
            return np.asarray(Pillow.open(BytesIO(content), formats=["PNG"]).convert("L"))

        with ThreadPoolExecutor(READERS) as pool:
            for first in range(0, len(rows), AT_ONCE):
                lease.stop_now()
                yield list(pool.map(read, rows[first : first + AT_ONCE]))

    def _pictures(self, lease: Lease, rows: Sequence[Row]) -> Iterator[Pictures]:
        for part in self._pixels(lease, rows):
            yield np.stack([picture(pixels) for pixels in part])

    @contextmanager
    def _on_disk(self, lease: Lease, rows: Sequence[Row]) -> Yields[Pictures]:
        """The pictures of many images in a file of this worker, gone when no longer needed."""
        shape = (len(rows), FINE, FINE)
        with temporary_folder(self._scratch, "screening-") as folder:
            path = folder / "pictures.npy"
            packed = np.lib.format.open_memmap(path, "w+", np.float16, shape)
            done = 0
            for part in self._pictures(lease, rows):
                packed[done : done + len(part)] = part
                done += len(part)
                lease.should_stop()  # a sign of life
            yield packed


def _asked(real: Real) -> Asked:
    """Patients whom the generator did not see; where these are too few, its training patients,
    each of whom is compared with the others'.
    """
    if len(real.held_out) >= LEAST:
        return Asked(_some(real.held_out, NULL_IMAGES), "held_out")
    return Asked(_some(real.training, NULL_IMAGES), "training")


def _uncalibrated(asked: Asked, real: Real) -> Calibration:
    return Calibration(
        threshold=None,
        false_flags=FALSE_FLAGS,
        null_rate=None,
        null_images=len(asked.rows),
        null_patients=len({row["patient_id"] for row in asked.rows}),
        null_from=asked.of,
        found={},
        injected=0,
        training_images=len(real.training),
        training_gone=real.gone,
        manifest=real.manifest,
    )


def _some(rows: Sequence[Row], most: int) -> list[Row]:
    """A fair sample, the same in every installation: by a hash of the pixels."""
    return sorted(rows, key=lambda row: lot("screening", row["pixel_sha256"]))[:most]


def _equal(rows: Sequence[Row], others: Sequence[Row], column: str) -> NDArray[np.bool_]:
    mine, theirs = (np.array([row[column] for row in each]) for each in (rows, others))
    return mine[:, None] == theirs[None, :]


def _found(
    nearest: Nearest, first: int, copied: Sequence[Row], real: Real, limit: float
) -> dict[str, float]:
    """The share of injected copies that is flagged and led back to the image it was made of."""
    shares: dict[str, float] = {}
    for alteration in ALTERATIONS:
        part = slice(first, first + len(copied))
        source = [real.training[place]["sample_id"] for place in nearest.place[part]]
        right = np.array(
            [name == row["sample_id"] for name, row in zip(source, copied, strict=True)]
        )
        shares[alteration] = float((above(nearest.likeness[part], limit) & right).mean())
        first += len(copied)
    return shares


def _told(image: Image, like: np.float32, nearest: Row, twins: dict[str, str]) -> Row:
    """A row's update; a picture that is a training image pixel for pixel has likeness 1."""
    twin = twins.get(image.pixel_sha256 or "")
    return {
        "generation": image.generation,
        "index": image.index,
        "likeness": min(round(float(like), 6), 0.999999) if twin is None else 1.0,
        "nearest": nearest["sample_id"] if twin is None else twin,
    }
