"""What a worker does to train a generator: plan, then stretch after stretch of steps."""

import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image as Pillow
from sqlalchemy import delete, func, select

from api_schemas.datasets import DatasetView
from api_schemas.manifest import MANIFEST, content_digest, from_parquet, to_parquet
from services.generation.models import Checkpoint, Generator, Loss, Preview
from services.generation.ports.engine import (
    PRESET_FACTS,
    Engine,
    Look,
    LossNotFinite,
    Previews,
    Stretch,
    TrainTask,
)
from services.generation.ports.providers import Datasets
from services.generation.reports import contact_sheet
from services.generation.service.keys import checkpoint_key, generator_key, preview_key
from services.generation.service.population import POPULATION, check_known, row_condition
from services.generation.service.problems import NanLoss, NothingToTrainOn
from services.kit.db import Database, Tx
from services.kit.jobs import Lease, step_of
from services.kit.logging import get_logger
from services.kit.objects import DigestMismatch, ObjectMissing, ObjectStore, sha256

TRAIN = "train-generator"
WEIGHTS = "weights.safetensors"
CHECKPOINTS_KEPT = 2
PREVIEW_IMAGES = 16
READERS = 8
SHOW_S = 5.0
"""How long points of the loss curve may wait before they are written down."""

log = get_logger(__name__)


def training_rows(manifest: pa.Table, encoder: str | None) -> pa.Table:
    """The rows of a dataset that a generator is trained on.

    Raises `NothingToTrainOn` and `ConditionIncomplete`, both 422.
    """
    rows = manifest.filter(pc.field("split") == "train")
    if not rows.num_rows:
        raise NothingToTrainOn("Split 'train' of the dataset is empty", field="dataset")
    check_known(rows, encoder, "dataset")
    return rows


def keep_population(
    store: ObjectStore, row: Generator, view: DatasetView, rows: pa.Table
) -> Callable[[Generator], None]:
    """Store whom a generator saw: `rows` of a dataset; answers what to note on its row then."""
    assert view.manifest is not None  # noqa: S101 - the dataset is there
    manifest = view.manifest
    population = to_parquet(rows.select(POPULATION.names).cast(POPULATION))
    digest = sha256(population)
    key = generator_key(row, "population.parquet", digest)
    store.put(key, population)

    def note(row: Generator) -> None:
        row.dataset = view.id
        row.manifest = manifest.id
        row.manifest_digest = manifest.digest
        row.images = rows.num_rows
        row.patients = len(rows["patient_id"].unique())
        row.site = view.site
        row.terms = view.terms or view.licence.name
        row.licence = view.licence.model_dump(mode="json")
        row.phantom = view.phantom
        row.population_key = key
        row.population_sha256 = digest

    return note


class Shown:
    """Writes down what a training shows of itself, as long as the lease is ours.

    Points of a stretch that is lost are made again, and then replaced.
    """

    def __init__(self, store: ObjectStore, lease: Lease, row: Generator) -> None:
        self._store = store
        self._lease = lease
        self._row = row
        self._waiting: list[tuple[int, float]] = []
        self._written = time.monotonic()

    def __call__(self, look: Look) -> None:
        self._waiting += look.losses
        if look.images is None and time.monotonic() - self._written < SHOW_S:
            return
        preview = None if look.images is None else self._sheet(look.step, look.images)
        with self._lease.writing() as tx:
            for step, loss in self._waiting:
                tx.session.merge(Loss(generator=self._row.id, step=step, loss=loss))
            if preview is not None:
                tx.session.merge(preview)
        self._waiting.clear()
        self._written = time.monotonic()

    def _sheet(self, step: int, images: NDArray[np.uint8]) -> Preview:
        about = {"generator": str(self._row.id), "step": step, "phantom": bool(self._row.phantom)}
        content = contact_sheet(images, about | {"terms": self._row.terms or ""})
        digest = sha256(content)
        key = preview_key(self._row, step, digest)
        self._store.put(key, content, "image/png")
        return Preview(generator=self._row.id, step=step, image_key=key, image_sha256=digest)


class Training:
    """Handles slices of kind `train-generator`. Does not know diffusion; the engine does."""

    def __init__(
        self,
        db: Database,
        store: ObjectStore,
        datasets: Datasets,
        engine: Engine,
        scratch: Path,
        *,
        stretch_s: float = 300.0,
    ) -> None:
        self._db = db
        self._store = store
        self._datasets = datasets
        self._engine = engine
        self._scratch = scratch
        self._stretch_s = stretch_s

    def __call__(self, lease: Lease) -> None:
        if step_of(lease, "plan", "train") == "plan":
            self._plan(lease)
        else:
            self._train(lease)

    # ------------------------------------------------------------ plan

    def _plan(self, lease: Lease) -> None:
        """Fix what will be trained on, and remember whom the generator will have seen."""
        row = self._row(lease)
        dataset = UUID(lease.inputs["dataset"])
        view = self._datasets.dataset(lease.caller, dataset)
        manifest = self._datasets.dataset_manifest(lease.caller, dataset)
        if view.manifest is None or content_digest(manifest) != view.manifest.digest:
            raise DigestMismatch("manifest")
        rows = training_rows(manifest, row.encoder)
        saw = keep_population(self._store, row, view, rows)
        images = to_parquet(rows)
        images_sha = sha256(images)
        images_key = generator_key(row, "training-rows.parquet", images_sha)
        self._store.put(images_key, images)
        more = [{"step": "train", "rows": images_key, "rows_sha256": images_sha}]
        with lease.finishing(more) as tx:
            saw(tx.session.get_one(Generator, row.id))

    # ------------------------------------------------------------ train

    def _train(self, lease: Lease) -> None:
        row = self._row(lease)
        folder = self._scratch / "generators" / str(row.id)
        try:
            self._stretch(lease, row, folder)
        except OSError:  # a full disk, most likely: leave nothing of ours on it
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _stretch(self, lease: Lease, row: Generator, folder: Path) -> None:
        task = self._task(lease, row, folder)

        def progress(step: int, loss: float) -> None:
            lease.progress(step, task.steps, "steps", f"loss {loss:.4f}")

        try:
            stretch = self._engine.train(
                task,
                seconds=self._stretch_s,
                should_stop=lease.should_pause,
                progress=progress,
                show=Shown(self._store, lease, row),
            )
        except LossNotFinite as error:
            raise self._diverged(row, error.step) from error
        if lease.lost.is_set():
            lease.stop_now()
        if stretch.finished:
            self._publish(lease, row, task.folder / WEIGHTS, stretch)
            shutil.rmtree(folder, ignore_errors=True)
            return
        files = self._upload(row, task.folder, stretch.step)
        if lease.should_stop():
            with lease.writing() as tx:
                self._record(tx, row, stretch, files)
            lease.stop_now()
        with lease.finishing([lease.payload]) as tx:
            self._record(tx, row, stretch, files)

    def _diverged(self, row: Generator, good: int) -> NanLoss:
        """In words: which step, what is left of the training, and what to try."""
        with self._db.transaction() as tx:
            kept = tx.session.scalar(
                select(func.max(Checkpoint.step)).where(Checkpoint.generator == row.id)
            )
        left = "nothing was kept yet" if kept is None else f"the state of step {kept} is kept"
        return NanLoss(
            f"The loss became infinite or not a number after {good} good steps; {left}. "
            "Try a smaller learning rate, a longer warm-up, or precision float32",
            field="training.learning_rate",
        )

    def _task(self, lease: Lease, row: Generator, folder: Path) -> TrainTask:
        rows = from_parquet(
            self._store.get(lease.payload["rows"], lease.payload["rows_sha256"]), MANIFEST
        )
        preset, steps, seed = row.preset, row.steps, row.seed
        assert preset is not None  # noqa: S101 - this one is trained, not imported
        assert steps is not None  # noqa: S101 - likewise
        assert seed is not None  # noqa: S101 - likewise
        facts = PRESET_FACTS[preset]
        images = folder / "images.npy"
        if not images.exists():
            folder.mkdir(parents=True, exist_ok=True)
            self._pack(lease, rows, facts.size_px, images)
        state = folder / "state"
        self._restore(lease, row, state)
        conditions = [row_condition(each, facts.encoder) for each in rows.to_pylist()]
        previews = None
        if row.preview_every is not None:
            shown = conditions[:: -(-len(conditions) // PREVIEW_IMAGES)]
            previews = Previews(row.preview_every, shown, range(len(shown)))
        changes = row.settings or {}
        return TrainTask(preset, steps, seed, images, conditions, state, changes, previews)

    def _pack(self, lease: Lease, rows: pa.Table, size_px: int, path: Path) -> None:
        """All training images in one verified uint8 array (N, size, size), written once."""
        keys = rows["image_key"].to_pylist()
        digests = rows["image_sha256"].to_pylist()
        packed = np.empty((len(keys), size_px, size_px), dtype=np.uint8)

        def read(index: int) -> None:
            content = self._store.get(keys[index], digests[index])
            packed[index] = np.asarray(Pillow.open(BytesIO(content)).convert("L"))

        with ThreadPoolExecutor(READERS) as pool:
            for done, _ in enumerate(pool.map(read, range(len(keys)))):
                if done % 100 == 0:
                    lease.stop_now()
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.save(file, packed)
        partial.rename(path)

    def _restore(self, lease: Lease, row: Generator, state: Path) -> None:
        """Put the newest sound checkpoint into `state`; a damaged one is passed over."""
        with self._db.transaction() as tx:
            checkpoints = tx.session.scalars(
                select(Checkpoint)
                .where(Checkpoint.generator == row.id)
                .order_by(Checkpoint.step.desc())
            ).all()
        shutil.rmtree(state, ignore_errors=True)
        state.mkdir(parents=True)
        for checkpoint in checkpoints:
            try:
                contents = {n: self._store.get(*f) for n, f in checkpoint.files.items()}
            except (DigestMismatch, ObjectMissing):
                log.warning("checkpoint damaged, using the one before", step=checkpoint.step)
                lease.note(
                    f"the checkpoint of step {checkpoint.step} was damaged; going on from the "
                    "one before"
                )
                continue
            for name, content in contents.items():
                (state / name).write_bytes(content)
            return

    def _upload(self, row: Generator, folder: Path, step: int) -> dict[str, list[str]]:
        files: dict[str, list[str]] = {}
        for path in sorted(folder.iterdir()):
            content = path.read_bytes()
            digest = sha256(content)
            key = checkpoint_key(row, step, path.name, digest)
            self._store.put(key, content)
            files[path.name] = [key, digest]
        return files

    def _record(
        self, tx: Tx, row: Generator, stretch: Stretch, files: dict[str, list[str]]
    ) -> None:
        """Checkpoint and losses; of older checkpoints only the newest is kept."""
        self._record_losses(tx, row, stretch)
        tx.session.merge(Checkpoint(generator=row.id, step=stretch.step, files=files))
        tx.session.flush()
        old = tx.session.scalars(
            select(Checkpoint)
            .where(Checkpoint.generator == row.id)
            .order_by(Checkpoint.step.desc())
            .offset(CHECKPOINTS_KEPT)
        ).all()
        self._forget(tx, old)

    def _forget(self, tx: Tx, checkpoints: Sequence[Checkpoint]) -> None:
        keys = [key for c in checkpoints for key, _ in c.files.values()]
        for checkpoint in checkpoints:
            tx.session.delete(checkpoint)
        if keys:
            tx.after_commit(lambda: self._store.remove(keys))

    def _record_losses(self, tx: Tx, row: Generator, stretch: Stretch) -> None:
        first = min((step for step, _ in stretch.losses), default=stretch.step)
        tx.session.execute(delete(Loss).where(Loss.generator == row.id, Loss.step >= first))
        tx.session.add_all(Loss(generator=row.id, step=s, loss=v) for s, v in stretch.losses)

    def _publish(self, lease: Lease, row: Generator, weights: Path, stretch: Stretch) -> None:
        content = weights.read_bytes()
        digest = sha256(content)
        key = generator_key(row, WEIGHTS, digest)
        self._store.put(key, content)
        lease.progress(stretch.step, stretch.step, "steps")
        with lease.finishing() as tx:
            self._record_losses(tx, row, stretch)
            old = tx.session.scalars(select(Checkpoint).where(Checkpoint.generator == row.id)).all()
            self._forget(tx, old)
            row = tx.session.get_one(Generator, row.id)
            row.weights_key = key
            row.weights_sha256 = digest

    def _row(self, lease: Lease) -> Generator:
        with self._db.transaction() as tx:
            return tx.session.get_one(Generator, lease.resource)
