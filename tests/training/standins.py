"""Stand-ins at training's ports: providers that hold what a test puts in, and a stub engine."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np
import pyarrow as pa
from PIL import Image

from api_schemas.base import DatasetRef, GenerationRef, JobState, JobView
from api_schemas.datasets import DatasetKind, DatasetView, ManifestView
from api_schemas.evaluation import (
    AbsencePost,
    AbsenceView,
    ParticularsPost,
    ParticularsView,
    PlanPost,
    PlanView,
    PredictionsPost,
    PredictionsView,
    ResultRow,
)
from api_schemas.evaluations import EvaluationView
from api_schemas.generation import CohortManifest, GenerationView, Sampler
from api_schemas.generators import TRAINING_SET_UNKNOWN, GeneratorView, Seen
from api_schemas.manifest import content_digest
from api_schemas.provenance import ImageOrigins
from api_schemas.screening import Screening
from services.kit.adapters import Adapters
from services.kit.auth import Caller
from services.kit.errors import Conflict, NotFound, Unavailable
from services.kit.objects import sha256
from services.training.ports.engine import CurvePoint, NotFiniteError, Outcome, RunSpec

SCREENED = Screening(state="screened")
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def store_images(adapters: Adapters, images: np.ndarray, prefix: str) -> tuple[list, list]:
    """Keys and digests of images (N, H, W), put into the object store as PNG."""
    keys, digests = [], []
    for index, pixels in enumerate(images):
        sink = io.BytesIO()
        Image.fromarray(pixels).save(sink, "PNG")
        content = sink.getvalue()
        keys.append(f"projects/test/{prefix}/{index:06d}.png")
        digests.append(sha256(content))
        adapters.store.put(keys[-1], content, "image/png")
    return keys, digests


def job_view(state: JobState = JobState.SUCCEEDED) -> JobView:
    return JobView(id=uuid4(), kind="import", state=state, created_at=NOW)


@dataclass
class Shelf:
    """The datasets and generation services as training sees them."""

    adapters: Adapters
    project: UUID
    views: dict[UUID, Callable[[], DatasetView | GenerationView]] = field(default_factory=dict)
    tables: dict[UUID, pa.Table] = field(default_factory=dict)
    generators: dict[UUID, tuple[GeneratorView, Sequence[str] | None]] = field(default_factory=dict)
    reads: int = 0

    def add_dataset(
        self,
        table: pa.Table,
        *,
        size_px: int = 32,
        job: UUID | JobView | None = None,
        has_images: bool = True,
        kind: DatasetKind = DatasetKind.PHANTOM,
        origins: ImageOrigins | None = None,
    ) -> DatasetRef:
        """Ready at once, or when the job `job` is."""
        made = uuid4()
        manifest = ManifestView(
            id=uuid4(), digest=content_digest(table), images=len(table), patients=1, key=""
        )

        def view() -> DatasetView:
            standing = self._job(job)
            ready = standing.state is JobState.SUCCEEDED
            return DatasetView(
                id=made,
                name="data",
                kind=kind,
                origins=origins,
                format="phantom",
                site="phantom-a",
                size_px=size_px,
                has_images=has_images,
                terms="",
                created_at=NOW,
                job=standing,
                manifest=manifest if ready else None,
            )

        self.views[made], self.tables[made] = view, table
        return DatasetRef(dataset=made)

    def add_cohort(
        self,
        table: pa.Table,
        *,
        saw: Sequence[str] | None = (),
        size_px: int = 32,
        job: UUID | JobView | None = None,
        screening: Screening = SCREENED,
        trained_on: DatasetRef | None = None,
        training: JobView | None = None,
        mirror: DatasetRef | None = None,
        replicas: int = 1,
    ) -> GenerationRef:
        """`saw` None: nobody knows whom its generator saw. `training` is the job of a generator
        that is not trained yet.
        """
        made, generator = uuid4(), uuid4()
        dataset = uuid4() if trained_on is None else trained_on.dataset
        self.generators[generator] = (
            _generator(generator, size_px, dataset, training or job_view()),
            saw,
        )
        manifest = CohortManifest(
            id=uuid4(), digest=content_digest(table), images=len(table), key=""
        )

        def view() -> GenerationView:
            standing = self._job(job)
            ready = standing.state is JobState.SUCCEEDED
            return GenerationView(
                id=made,
                name="cohort",
                generator=generator,
                created_at=NOW,
                images=len(table) + screening.flagged,
                screening=screening,
                flags=[] if screening.state == "screened" else [screening.state],
                seed=1,
                sampler=Sampler(),
                batch=8,
                mirror=mirror,
                replicas=replicas,
                job=standing,
                manifest=manifest if ready else None,
            )

        self.views[made], self.tables[made] = view, table
        return GenerationRef(generation=made)

    def _job(self, job: UUID | JobView | None) -> JobView:
        if isinstance(job, UUID):
            with self.adapters.db.transaction() as tx:
                return self.adapters.jobs.view(tx, job)
        return job or job_view()

    def _look(self, caller: Caller, each: UUID) -> DatasetView | GenerationView:
        if caller.project != self.project or each not in self.views:
            raise NotFound("nothing")
        return self.views[each]()

    # what the ports ask for

    def dataset(self, caller: Caller, dataset: UUID) -> DatasetView:
        return self._look(caller, dataset)

    def dataset_manifest(self, caller: Caller, dataset: UUID) -> pa.Table:
        self._look(caller, dataset)
        self.reads += 1
        return self.tables[dataset]

    def generation(self, caller: Caller, generation: UUID) -> GenerationView:
        return self._look(caller, generation)

    def cohort_manifest(self, caller: Caller, generation: UUID) -> pa.Table:
        self._look(caller, generation)
        self.reads += 1
        return self.tables[generation]

    def generator(self, caller: Caller, generator: UUID) -> GeneratorView:
        assert caller.project == self.project
        if generator not in self.generators:
            raise NotFound("nothing")
        return self.generators[generator][0]

    def generator_seen(self, caller: Caller, generator: UUID) -> Seen:
        assert caller.project == self.project
        view, patients = self.generators[generator]
        if view.job.state is not JobState.SUCCEEDED:
            raise NotTrained("It has not read its training set yet")
        if patients is None:
            raise TrainingSetUnknown("Its owner has yet to name the dataset")
        return Seen(patients=list(patients), images=[])


class TrainingSetUnknown(Conflict):
    slug = TRAINING_SET_UNKNOWN


class NotTrained(Conflict):
    slug = "not-ready"


def _generator(generator: UUID, size_px: int, dataset: UUID, job: JobView) -> GeneratorView:
    return GeneratorView(
        id=generator,
        name="generator",
        preset="tiny-32",
        dataset=dataset,
        steps=1,
        seed=1,
        size_px=size_px,
        encoder="masked/1",
        created_at=NOW,
        job=job,
    )


@dataclass
class Verdicts:
    """The evaluation service as training sees it; away for the next `outages` pushes."""

    plans: list[PlanPost] = field(default_factory=list)
    received: dict[tuple[str, int, str], list[bytes]] = field(default_factory=dict)
    outages: int = 0
    lines: list[ResultRow] = field(default_factory=list)
    evaluations: dict[UUID, EvaluationView] = field(default_factory=dict)
    forgone: list[AbsencePost] = field(default_factory=list)
    detailed: list[ParticularsPost] = field(default_factory=list)

    def results(self, _caller: Caller, _experiment: UUID, arm: str) -> list[ResultRow]:
        return [line for line in self.lines if line.arm == arm]

    def evaluation(self, _caller: Caller, evaluation: UUID) -> EvaluationView:
        if evaluation not in self.evaluations:
            raise NotFound("deleted")
        return self.evaluations[evaluation]

    def forgo(self, _caller: Caller, plan: UUID, what: AbsencePost) -> AbsenceView:
        assert plan == self.plans[-1].experiment
        self.forgone.append(what)
        return AbsenceView(**what.model_dump(), plan=plan, created_at=NOW)

    def detail(self, _caller: Caller, plan: UUID, what: ParticularsPost) -> ParticularsView:
        assert plan == self.plans[-1].experiment
        self.detailed.append(what)
        return ParticularsView(**what.model_dump(), plan=plan, created_at=NOW)

    def register(self, _caller: Caller, plan: PlanPost) -> PlanView:
        self.plans.append(plan)
        return PlanView(
            **plan.model_dump(),
            id=plan.experiment,
            digest="0" * 64,
            created_at=NOW,
            received=0,
            expected=0,
        )

    def accept(self, _caller: Caller, what: PredictionsPost, content: bytes) -> PredictionsView:
        if self.outages:
            self.outages -= 1
            raise Unavailable("away")
        assert what.plan == self.plans[-1].experiment
        self.received.setdefault((what.arm, what.seed, what.test), []).append(content)
        return PredictionsView(
            **what.model_dump(), id=uuid4(), digest="0" * 64, images=1, patients=1, created_at=NOW
        )


@dataclass
class StubEngine:
    """Trains nothing: counts steps, remembers what it was asked, scores by brightness."""

    specs: list[RunSpec] = field(default_factory=list)
    resumed: list[int] = field(default_factory=list)
    breaks: bool = False
    breaks_on: Callable[[RunSpec], bool] = lambda _: False
    between_steps: Callable[[], None] = lambda: None

    def train(self, spec, folder: Path, *, resume, pause, progress) -> Outcome:
        self.specs.append(spec)
        step = 0 if resume is None else int((resume / "step.json").read_text())
        self.resumed.append(step)
        if self.breaks or self.breaks_on(spec):
            raise NotFiniteError("the loss is nan at step 0")
        while step < spec.steps:
            step += 1
            self.between_steps()
            progress(step)
            if step < spec.steps and pause():
                checkpoint = folder / "checkpoint"
                checkpoint.mkdir()
                (checkpoint / "step.json").write_text(str(step))
                return Outcome(step, None, None, (), checkpoint=checkpoint)
        stored = folder / "classifier"
        stored.mkdir()
        (stored / "tensors.safetensors").write_bytes(f"{spec.seed} {step}".encode())
        (stored / "record.json").write_text("{}")
        curve = (CurvePoint(step, 0.5, 0.75),)
        return Outcome(step, step, 0.75, curve, classifier=stored)

    def score(self, classifier: Path, images, rows):
        assert (classifier / "tensors.safetensors").exists()
        brightness = images[rows].mean(axis=(1, 2)) / 255
        return np.repeat(brightness[:, None], len(self.specs[-1].labels), axis=1)
