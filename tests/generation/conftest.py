"""A stub engine and an in-process datasets provider for tests of the generation service."""

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from api_schemas.base import JobState, JobView
from api_schemas.datasets import DatasetKind, DatasetView, ManifestView
from api_schemas.findings import FINDINGS
from api_schemas.generation import Environment
from api_schemas.manifest import MANIFEST, content_digest
from services.generation.main import compose
from services.generation.ports.engine import (
    CheckpointUnreadable,
    CheckpointUnsafe,
    Imported,
    KeysDiffer,
    Look,
    LossNotFinite,
    NetworkUnsupported,
    RenderTask,
    Stretch,
    TrainTask,
    Weights,
    WeightsNotFinite,
)
from services.generation.service import (
    IMPORT,
    RENDER,
    SCREEN,
    TRAIN,
    Importing,
    Rendering,
    Training,
)
from services.generation.settings import GenerationSettings
from services.kit.errors import NotFound
from services.kit.jobs import Lease, NewJob
from services.kit.objects import sha256


def grey_png(pixels: np.ndarray) -> bytes:
    sink = BytesIO()
    Image.fromarray(pixels).save(sink, format="PNG")
    return sink.getvalue()


REFUSALS = {
    refusal.__name__.encode(): refusal
    for refusal in (
        CheckpointUnreadable,
        CheckpointUnsafe,
        NetworkUnsupported,
        KeysDiffer,
        WeightsNotFinite,
    )
}


class StubEngine:
    """Quick and deterministic, where diffusion does not matter."""

    environment = Environment(device="stub", torch="0", diffusers="0", numpy="0", threads=1)

    def __init__(self, steps_a_stretch: int = 10) -> None:
        self.steps_a_stretch = steps_a_stretch
        self.resumed_at: list[int] = []
        self.trained_on: list[np.ndarray] = []
        self.rendered: list[int] = []
        self.tasks: list[TrainTask] = []
        self.good_steps: int | None = None

    def train(self, task: TrainTask, *, seconds, should_stop, progress, show) -> Stretch:
        self.tasks.append(task)
        self.trained_on.append(np.load(task.images))
        assert len(self.trained_on[-1]) == len(task.conditions)
        state = task.folder / "state.json"
        first = int(state.read_text()) if state.exists() else 0
        self.resumed_at.append(first)
        step = min(first + self.steps_a_stretch, task.steps)
        progress(step, 0.5)
        if self.good_steps is not None and step > self.good_steps:
            raise LossNotFinite(self.good_steps)
        if task.previews is not None and step % task.previews.every == 0:
            greys = [np.full((32, 32), seed, np.uint8) for seed in task.previews.seeds]
            show(Look(step, [(step, 0.5)], np.stack(greys)))
        state.write_text(str(step))
        if step == task.steps:
            (task.folder / "weights.safetensors").write_bytes(b"weights of the stub")
        return Stretch(step, step == task.steps, [(step, 0.5)])

    def import_checkpoint(self, source: Path, destination: Path, wanted: Weights) -> Imported:
        """The content of the file says what becomes of it."""
        content = source.read_bytes()
        if content in REFUSALS:
            raise REFUSALS[content]("because the stub was told so")
        destination.write_bytes(b"weights of the stub")
        return Imported(
            format="stub",
            sha256=sha256(content),
            weights=wanted,
            size_px=32,
            encoder="paper22",
            parameters=7,
            architecture={"channels": (1, 2)},
        )

    def render(self, task: RenderTask) -> np.ndarray:
        assert task.weights.read_bytes() == b"weights of the stub"
        self.rendered.append(len(task.seeds))
        return np.stack(
            [np.random.default_rng(s).integers(0, 256, (32, 32), np.uint8) for s in task.seeds]
        )


class Shelf:
    """Datasets in memory behind the port."""

    def __init__(self) -> None:
        self.views: dict[UUID, DatasetView] = {}
        self.tables: dict[UUID, pa.Table] = {}

    def dataset(self, caller, dataset: UUID) -> DatasetView:
        if dataset not in self.views:
            raise NotFound("You have no such dataset")
        return self.views[dataset]

    def dataset_manifest(self, caller, dataset: UUID) -> pa.Table:
        return self.tables[dataset]


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def put_dataset(adapters, ada, shelf) -> Callable[..., UUID]:
    """Put a dataset of noise on the shelf: rows of manifest fields, in any job state."""

    def put(rows: Sequence[dict], state: JobState = JobState.SUCCEEDED, size_px: int = 32) -> UUID:
        dataset = uuid4()
        records = []
        for n, row in enumerate(rows):
            pixels = np.random.default_rng(n).integers(0, 256, (size_px,) * 2, np.uint8)
            content = grey_png(pixels)
            key = f"projects/{ada.caller.project}/datasets/{dataset}/images/{n}.png"
            adapters.store.put(key, content)
            blank = dict.fromkeys((str(f) for f in FINDINGS), None)
            records.append(
                {
                    "sample_id": f"s{n}",
                    "image_key": key,
                    "image_sha256": sha256(content),
                    "pixel_sha256": sha256(pixels.tobytes()),
                    "patient_id": f"p{n}",
                    "site": "here",
                    "split": "train",
                    **blank,
                    **row,
                }
            )
        table = pa.Table.from_pylist(records, schema=MANIFEST)
        with adapters.db.transaction() as tx:
            job = adapters.jobs.submit(
                tx, NewJob("datasets", "import", "elsewhere", ada.caller, dataset, {}, [{}])
            )
            view = adapters.jobs.view(tx, job)
        shelf.tables[dataset] = table
        shelf.views[dataset] = DatasetView(
            id=dataset,
            name="noise",
            kind=DatasetKind.PHANTOM,
            format="phantom",
            site="here",
            size_px=size_px,
            terms="for tests only",
            created_at=view.created_at,
            job=JobView.model_validate(view.model_dump() | {"state": state}),
            manifest=ManifestView(
                id=uuid4(),
                digest=content_digest(table),
                images=len(rows),
                patients=len(rows),
                key="k",
            ),
        )
        return dataset

    return put


@pytest.fixture
def arrive(shelf, work) -> Callable[..., None]:
    """End the imports of datasets that were put on the shelf in another state."""

    def end(*datasets: UUID) -> None:
        work("datasets", "elsewhere", {"import": _finish})
        for dataset in datasets:
            view = shelf.views[dataset]
            job = view.job.model_copy(update={"state": JobState.SUCCEEDED})
            shelf.views[dataset] = view.model_copy(update={"job": job})

    return end


def _finish(lease: Lease) -> None:
    with lease.finishing():
        pass


@pytest.fixture
def engine() -> StubEngine:
    return StubEngine()


@pytest.fixture
def own() -> GenerationSettings:
    """Generation's own settings; a test module may have others."""
    return GenerationSettings()


@pytest.fixture
def http(adapters, browse, ada, shelf, own):
    return browse(compose(adapters, datasets=shelf, own=own).router, member=ada)


@pytest.fixture
def strangers_http(adapters, browse, stranger, shelf):
    return browse(compose(adapters, datasets=shelf).router, member=stranger)


@pytest.fixture
def run(adapters, work, shelf, engine, own, tmp_path: Path) -> Callable[..., int]:
    """Run what generation's worker would run."""

    def go(most: int = 1000) -> int:
        parts = (adapters.db, adapters.store, shelf, engine, tmp_path)
        handlers = {
            TRAIN: Training(*parts, stretch_s=1),
            RENDER: Rendering(*parts, own.image_quota),
            SCREEN: Rendering(*parts, own.image_quota),
            IMPORT: Importing(adapters.db, adapters.store, engine, tmp_path),
        }
        return work("generation", "generation", handlers, most)

    return go
