"""What a worker does to make a cohort: plan conditions and seeds, render slices, publish."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo
from sqlalchemy import func, insert, select, update

from api_schemas.generation import (
    GENERATION_LIMIT,
    BatchShape,
    Condition,
    ConditionRequest,
    Environment,
    GenerateRequest,
    NearestMatch,
    Provenance,
)
from api_schemas.manifest import from_parquet
from services.generation.models import Generation, Generator, Image
from services.generation.ports.engine import Engine, RenderTask
from services.generation.ports.providers import Datasets
from services.generation.service.behind import Behind
from services.generation.service.keys import image_key
from services.generation.service.population import (
    POPULATION,
    Drawn,
    Population,
    check_complete,
    check_known,
    fixed,
    image_seed,
    row_condition,
)
from services.generation.service.problems import (
    ConditionIncomplete,
    NothingToMirror,
    TooManyImages,
    TrainingSetUnknown,
)
from services.generation.service.publishing import Publish
from services.generation.service.quota import check_quota
from services.generation.service.screening import CALIBRATE, PUBLISH, Screen, reason_against
from services.generation.views import licence_of, nearest_match, recipe_of, request_of
from services.kit.db import Database, Tx
from services.kit.jobs import Lease, step_of
from services.kit.objects import ObjectStore, sha256

RENDER = "generate"
SLICE_IMAGES = 256
"""Images of a slice: at its end the device waits for the last ones to be stored. Twice as many
gained nothing that could be measured, and lose more when a worker dies."""
SHAPES: tuple[BatchShape, ...] = (1, 8, 64)


def batch_shape(images: int | None) -> BatchShape:
    """The smallest shape that holds all images, the largest when there are more or nobody knows."""
    for shape in SHAPES:
        if images is not None and images <= shape:
            return shape
    return SHAPES[-1]


def encoder_of(generator: Generator) -> str:
    """Of a generator that is ready."""
    assert generator.encoder is not None  # noqa: S101 - known from the request or the file
    return generator.encoder


def check_order(request: GenerateRequest, generator: Generator) -> None:
    """Raise what is wrong with an order, mirrors apart, as far as the generator is known.

    `TrainingSetUnknown` (409) where open attributes would be drawn from an unknown population.
    """
    encoder = generator.encoder
    for n, recipe in enumerate(request.recipes or []):
        check_complete(recipe.condition, encoder, f"recipes.{n}.condition")
    if generator.population_key is not None or not generator.imported:
        return
    for n, entry in enumerate(request.conditions or []):
        try:
            check_complete(entry, encoder, f"conditions.{n}")
        except ConditionIncomplete as error:
            raise TrainingSetUnknown(
                "What an entry leaves open is drawn from the training population: name the "
                f"generator's dataset, or fix everything. {error.problem.detail}",
                field=error.problem.field,
            ) from error


def mirrored_rows(manifest: pa.Table, encoder: str | None, replicas: int) -> pa.Table:
    """The rows of a dataset that a mirror copies, as far as its generator's encoder is concerned.

    Raises `NothingToMirror`, `ConditionIncomplete` and `TooManyImages`, all 422.
    """
    rows = manifest.filter(pc.field("split") == "train")
    if not rows.num_rows:
        raise NothingToMirror("Split 'train' of the dataset is empty", field="mirror")
    check_known(rows, encoder, "mirror")
    if rows.num_rows * replicas > GENERATION_LIMIT:
        raise TooManyImages(
            f"{rows.num_rows} rows, {replicas} times, are more than {GENERATION_LIMIT}",
            field="replicas",
            accepted=GENERATION_LIMIT // rows.num_rows,
        )
    return rows


def mirrors_another(request: GenerateRequest, generator: Generator) -> bool:
    """Whether an order mirrors another dataset than the generator's own, which it has seen."""
    return request.mirror is not None and request.mirror.dataset != generator.dataset


def mirrored_conditions(
    rows: pa.Table, encoder: str, population: Population | None, *, nearest: bool
) -> list[Drawn]:
    """The conditions of mirrored rows, checked against the generator's training set where it is
    known. Raises `NobodyMatches` (422).
    """
    conditions = [row_condition(row, encoder) for row in rows.to_pylist()]
    if population is None:
        return [Drawn(each) for each in conditions]
    return population.mirror(conditions, nearest=nearest)


@dataclass(frozen=True)
class _Patient:
    """A synthetic patient before there is an image."""

    condition: Condition
    seed: int
    replica: int = 0
    parent: str | None = None
    nearest: NearestMatch | None = None


@dataclass(frozen=True)
class _Stored:
    """A rendered image that lies in the store."""

    index: int
    key: str
    image_sha256: str
    pixel_sha256: str


class Rendering:
    """Handles slices of kinds `generate` and `screen-generation`, which ends as the other does.

    Does not know diffusion; the engine does.
    """

    def __init__(
        self,
        db: Database,
        store: ObjectStore,
        datasets: Datasets,
        engine: Engine,
        scratch: Path,
        image_quota: int = GENERATION_LIMIT,
    ) -> None:
        self._db = db
        self._store = store
        self._datasets = datasets
        self._engine = engine
        self._scratch = scratch
        self._screen = Screen(db, store, datasets, scratch)
        self._publish = Publish(db, store)
        self._image_quota = image_quota

    def __call__(self, lease: Lease) -> None:
        drawing = ("plan", "render") if lease.kind == RENDER else ()
        match step_of(lease, *drawing, "calibrate", "compare", "publish"):
            case "plan":
                self._plan(lease)
            case "render":
                self._render(lease)
            case "calibrate":
                self._screen.calibrate(lease, *self._rows(lease))
            case "compare":
                self._screen.compare(lease, *self._rows(lease))
            case _:  # publish
                self._publish(lease, *self._rows(lease))

    # ------------------------------------------------------------ plan

    def _plan(self, lease: Lease) -> None:
        """Decide who will be drawn: one row an image, with its whole condition and its seed."""
        row, generator = self._rows(lease)
        request = request_of(row)
        # looked at before its manifest is read: a withdrawal between the two shows as one
        mirrored = request.mirror and self._datasets.dataset(lease.caller, request.mirror.dataset)
        patients = list(self._patients(lease, request, generator))
        more = [
            {"step": "render", "first": first, "last": min(first + SLICE_IMAGES, len(patients))}
            for first in range(0, len(patients), SLICE_IMAGES)
        ]
        lease.progress(0, len(patients), "images")
        with lease.finishing(more) as tx:
            tx.session.execute(
                insert(Image),
                [
                    {
                        "generation": row.id,
                        "index": index,
                        "condition": patient.condition.model_dump(mode="json"),
                        "seed": patient.seed,
                        "replica": patient.replica,
                        "parent_sample_id": patient.parent,
                        "nearest_match": patient.nearest
                        and patient.nearest.model_dump(mode="json"),
                    }
                    for index, patient in enumerate(patients)
                ],
            )
            row = tx.session.get_one(Generation, row.id)
            unforeseen = len(patients) - row.images
            if (
                unforeseen > 0
            ):  # the mirrored dataset was not ready, or smaller, when it was ordered
                # Last: it keeps other orders of the owner waiting, and the rows take minutes.
                check_quota(tx, row.owner, unforeseen, self._image_quota, "mirror")
            row.images = len(patients)
            row.nearest_images = sum(patient.nearest is not None for patient in patients)
            if mirrored:
                row.mirror_manifest = mirrored.manifest.id if mirrored.manifest else None
                row.mirror_licence = mirrored.licence.model_dump(mode="json")

    def _patients(
        self, lease: Lease, request: GenerateRequest, generator: Generator
    ) -> Iterator[_Patient]:
        check_order(request, generator)
        if request.recipes is not None:
            for recipe in request.recipes:
                yield _Patient(recipe.condition, recipe.seed)
        elif request.conditions is not None:
            drawn = self._drawn(request.conditions, request, generator)
            for index, each in enumerate(drawn):
                seed = image_seed(request.seed, index)
                yield _Patient(each.condition, seed, nearest=each.nearest)
        else:
            yield from self._mirrored(lease, request, generator)

    def _drawn(
        self, entries: Sequence[ConditionRequest], request: GenerateRequest, generator: Generator
    ) -> Iterator[Drawn]:
        if generator.population_key is None:
            return fixed(entries, request.seed)
        population = self._population(generator)
        return population.draw(entries, request.seed, nearest=request.nearest)

    def _mirrored(
        self, lease: Lease, request: GenerateRequest, generator: Generator
    ) -> Iterator[_Patient]:
        """Every training row's condition, replica after replica (the paper's supplementation)."""
        assert request.mirror is not None  # noqa: S101 - the wire type takes one of three
        encoder = encoder_of(generator)
        manifest = self._datasets.dataset_manifest(lease.caller, request.mirror.dataset)
        rows = mirrored_rows(manifest, encoder, request.replicas)
        known = generator.population_key is not None and mirrors_another(request, generator)
        population = self._population(generator) if known else None
        drawn = mirrored_conditions(rows, encoder, population, nearest=request.nearest)
        parents = rows["sample_id"].to_pylist()
        for replica in range(request.replicas):
            for n, each in enumerate(drawn):
                seed = image_seed(request.seed, replica * len(drawn) + n)
                yield _Patient(each.condition, seed, replica, parents[n], each.nearest)

    def _population(self, generator: Generator) -> Population:
        key, digest = generator.population_key, generator.population_sha256
        assert key is not None  # noqa: S101 - the job waited for the generator
        table = from_parquet(self._store.get(key, digest), POPULATION)
        return Population.of(table, encoder_of(generator))

    # ------------------------------------------------------------ render

    def _render(self, lease: Lease) -> None:
        """Render and store the images of a slice, or so many that others need not wait longer:
        the rest is then another slice.
        """
        row, generator = self._rows(lease)
        missing, before = self._missing(lease, row)
        task = _Task(row, generator, request_of(row), self._weights(generator))
        environment = self._engine.environment
        stored: list[_Stored] = []
        with Behind[_Stored](row.batch) as behind:
            for first in range(0, len(missing), row.batch):
                if first and lease.should_pause():
                    break  # what is rendered is kept
                lease.stop_now()
                part = missing[first : first + row.batch]
                pixels = self._engine.render(task.part(part))
                for image, px in zip(part, pixels, strict=True):
                    behind.do(self._store_image, task, environment, image, px)
                stored += behind.done()
                lease.progress(before + len(stored), row.images, "images")
            stored += behind.rest()
        more: list[dict[str, Any]] = []
        if len(stored) < len(missing):
            more.append(lease.payload | {"first": missing[len(stored)].index})
        with lease.finishing(more) as tx:
            self._record(tx, row, stored)
            if not _unrendered(tx, row):
                unscreened = reason_against(row, task.generator) is not None
                more.append(PUBLISH if unscreened else CALIBRATE)

    def _missing(self, lease: Lease, row: Generation) -> tuple[list[Image], int]:
        """The images of this slice that are not there yet, and how many of all are."""
        first, last = lease.payload["first"], lease.payload["last"]
        with self._db.transaction() as tx:
            missing = tx.session.scalars(
                select(Image)
                .where(
                    Image.generation == row.id,
                    Image.index >= first,
                    Image.index < last,
                    Image.image_key.is_(None),
                )
                .order_by(Image.index)
            ).all()
            return list(missing), row.images - _unrendered(tx, row)

    def _weights(self, generator: Generator) -> Path:
        """The weights' file in scratch, fetched and verified once."""
        key, digest = generator.weights_key, generator.weights_sha256
        assert key is not None  # noqa: S101 - the job waited for the generator
        assert digest is not None  # noqa: S101 - likewise
        path = self._scratch / "weights" / f"{digest}.safetensors"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")
            try:
                self._store.get_file(key, partial, digest)
                partial.rename(path)
            finally:
                partial.unlink(missing_ok=True)
        return path

    def _store_image(
        self, task: "_Task", environment: Environment, image: Image, pixels: NDArray[np.uint8]
    ) -> _Stored:
        pixel_digest = sha256(pixels.tobytes())
        content = png(pixels, task.provenance(image, environment, pixel_digest))
        digest = sha256(content)
        key = image_key(task.row, image.index, digest)
        self._store.put(key, content, "image/png")
        return _Stored(image.index, key, digest, pixel_digest)

    def _record(self, tx: Tx, row: Generation, stored: Sequence[_Stored]) -> None:
        environment = self._engine.environment.model_dump(mode="json")
        if stored:
            tx.session.execute(
                update(Image),
                [
                    {
                        "generation": row.id,
                        "index": s.index,
                        "environment": environment,
                        "image_key": s.key,
                        "image_sha256": s.image_sha256,
                        "pixel_sha256": s.pixel_sha256,
                    }
                    for s in stored
                ],
            )
        tx.session.get_one(Generation, row.id).environment = environment

    def _rows(self, lease: Lease) -> tuple[Generation, Generator]:
        with self._db.transaction() as tx:
            row = tx.session.get_one(Generation, lease.resource)
            return row, tx.session.get_one(Generator, row.generator)


@dataclass(frozen=True)
class _Task:
    """What all images of a slice have in common."""

    row: Generation
    generator: Generator
    request: GenerateRequest
    weights: Path

    def part(self, images: Sequence[Image]) -> RenderTask:
        recipes = [recipe_of(image) for image in images]
        return RenderTask(
            weights=self.weights,
            digest=self.generator.weights_sha256 or "",
            conditions=[r.condition for r in recipes],
            seeds=[r.seed for r in recipes],
            sampler=self.request.sampler,
            batch=self.row.batch,
        )

    def provenance(self, image: Image, environment: Environment, pixel_sha256: str) -> Provenance:
        return Provenance(
            phantom=bool(self.generator.phantom),
            generation=self.row.id,
            index=image.index,
            generator=self.generator.id,
            generator_digest=self.generator.weights_sha256 or "",
            recipe=recipe_of(image),
            nearest=nearest_match(image),
            sampler=self.request.sampler,
            batch=self.row.batch,  # pyright: ignore[reportArgumentType] - one of the shapes
            environment=environment,
            pixel_sha256=pixel_sha256,
            terms=self.generator.terms or "",
            licence=licence_of(self.row, self.generator),
            manifest=f"/generations/{self.row.id}/manifest",
        )


def _unrendered(tx: Tx, row: Generation) -> int:
    count = select(func.count()).where(Image.generation == row.id, Image.image_key.is_(None))
    return tx.session.scalar(count) or 0


def png(pixels: NDArray[np.uint8], provenance: Provenance) -> bytes:
    """An 8-bit grayscale PNG that says where it comes from (iTXt chunk `synthorax`)."""
    about = PngInfo()
    about.add_itxt("synthorax", provenance.model_dump_json())
    sink = BytesIO()
    Pillow.fromarray(pixels).save(
        sink, format="PNG", pnginfo=about, compress_level=1, compress_type=3
    )
    return sink.getvalue()
