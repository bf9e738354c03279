"""What people and other services do with generators."""

from collections.abc import Sequence
from functools import lru_cache
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from api_schemas.base import JobState, Page
from api_schemas.datasets import DatasetView
from api_schemas.generators import STEPS_LIMIT, GeneratorRequest, GeneratorView, Seen
from api_schemas.manifest import from_parquet
from services.generation.models import Generator, Loss, Preview
from services.generation.ports.engine import PRESET_FACTS
from services.generation.ports.providers import Datasets
from services.generation.reports import loss_curve
from services.generation.service.keeping import GENERATOR
from services.generation.service.origins import Origins
from services.generation.service.population import POPULATION, Population
from services.generation.service.problems import (
    NOT_FOUND,
    DatasetUnknown,
    GeneratorUnknown,
    NoPreview,
    NothingToTrainOn,
    NotReady,
    NoVariance,
    PreviewUnknown,
    SizeDiffers,
    SourceFailed,
    TooManyPreviews,
    TrainingSetUnknown,
)
from services.generation.service.rendering import encoder_of
from services.generation.service.training import TRAIN, training_rows
from services.generation.views import generator_view
from services.kit.auth import Caller
from services.kit.db import Database, Tx, new_id
from services.kit.errors import ProblemError
from services.kit.http import earlier, once, page
from services.kit.jobs import Jobs, NewJob, ending, lineage
from services.kit.jobs.lineage import Made
from services.kit.objects import ObjectStore

POPULATIONS_KEPT = 8
PREVIEWS_LIMIT = 1000


class Generators:
    """The generators of a caller's project; those of others do not exist."""

    def __init__(self, db: Database, jobs: Jobs, store: ObjectStore, datasets: Datasets) -> None:
        self._db = db
        self._jobs = jobs
        self._store = store
        self._datasets = datasets
        self._origins = Origins(datasets)
        self._read = lru_cache(POPULATIONS_KEPT)(self._read_population)

    def order(self, caller: Caller, request: GeneratorRequest, key: str | None) -> GeneratorView:
        """Queue a training; it waits for a dataset that is still being imported."""
        with self._db.transaction() as tx:
            made = earlier(tx, caller, key, request)
        return self.generator(caller, made or self._order(caller, request, key))

    def generator(self, caller: Caller, generator: UUID) -> GeneratorView:
        with self._db.transaction() as tx:
            view = self._view(tx, find_generator(tx.session, caller, generator))
        return self._origins.of_generator(caller, view)

    def browse(self, caller: Caller, cursor: str | None, limit: int) -> Page[GeneratorView]:
        """The project's generators, newest first, without their loss curves."""
        with self._db.transaction() as tx:
            mine = select(Generator).where(
                Generator.project == caller.project, lineage.visible(Generator.id)
            )
            return page(
                tx.session,
                mine,
                Generator.id,
                cursor,
                limit,
                lambda rows: self._listed(tx, rows),
                newest_first=True,
            )

    def generator_seen(self, caller: Caller, generator: UUID) -> Seen:
        """Whom and which images it was trained on; 409 while nobody knows."""
        return self.population(caller, generator).seen

    def population(self, caller: Caller, generator: UUID) -> Population:
        with self._db.transaction() as tx:
            row = find_generator(tx.session, caller, generator)
        if row.population_key is None or row.population_sha256 is None:
            if row.imported:
                raise TrainingSetUnknown("Its owner has yet to name the dataset", field="generator")
            raise NotReady("The generator has not read its training set yet", field="generator")
        return self._read(row.population_key, row.population_sha256, encoder_of(row))

    def expected_population(self, caller: Caller, row: Generator) -> Population | None:
        """The population that conditions will be drawn from, as far as it is known by now.

        A generator that waits for its training has the training rows of its dataset. None: the
        dataset is not ready either, or the generator was imported and nobody has named one.
        """
        if row.population_key is not None:
            return self.population(caller, row.id)
        if row.imported or row.dataset is None:
            return None
        data = usable_dataset(self._datasets, caller, row.dataset, "generator")
        if data.job.state is not JobState.SUCCEEDED:
            return None
        manifest = self._datasets.dataset_manifest(caller, row.dataset)
        return Population.of(training_rows(manifest, row.encoder), encoder_of(row))

    def losses_svg(self, caller: Caller, generator: UUID) -> str:
        """The loss over the steps done so far, as a figure."""
        view = self.generator(caller, generator)
        return loss_curve(view.name, view.training.losses if view.training else [])

    def preview(self, caller: Caller, generator: UUID, step: int) -> bytes:
        """A contact sheet, verified. Raises `PreviewUnknown` for a step without one."""
        with self._db.transaction() as tx:
            row = find_generator(tx.session, caller, generator)
            shown = tx.session.get(Preview, (row.id, step)) if step <= STEPS_LIMIT else None
        if shown is None:
            raise PreviewUnknown("There is no preview of this step (yet)")
        return self._store.get(shown.image_key, shown.image_sha256)

    def cancel(self, caller: Caller, generator: UUID) -> GeneratorView:
        with self._db.transaction() as tx:
            row = find_generator(tx.session, caller, generator)
            self._jobs.cancel(tx, row.job)
        return self.generator(caller, generator)

    def job(self, caller: Caller, generator: UUID) -> UUID:
        with self._db.transaction() as tx:
            return find_generator(tx.session, caller, generator).job

    # ------------------------------------------------------------ inside

    def _order(self, caller: Caller, request: GeneratorRequest, key: str | None) -> UUID:
        data = usable_dataset(self._datasets, caller, request.dataset, "dataset")
        if not data.has_images:
            raise NothingToTrainOn("It was imported without its images", field="dataset")
        preset = _preset(request, data)
        _check_settings(request, preset)
        if data.job.state is JobState.SUCCEEDED:
            manifest = self._datasets.dataset_manifest(caller, request.dataset)
            training_rows(manifest, PRESET_FACTS[preset].encoder)
        with self._db.transaction() as tx:
            return once(
                tx, caller, key, request, lambda: self._submit(tx, caller, request, preset, data)
            )

    def _submit(
        self, tx: Tx, caller: Caller, request: GeneratorRequest, preset: str, data: DatasetView
    ) -> UUID:
        facts = PRESET_FACTS[preset]
        steps = request.steps or facts.steps
        row = Generator(
            id=new_id(),
            project=caller.project,
            owner=caller.person,
            job=new_id(),
            name=request.name,
            dataset=request.dataset,
            preset=preset,
            steps=steps,
            seed=request.seed,
            settings=request.training.model_dump(mode="json", exclude_none=True) or None,
            preview_every=request.preview_every,
            size_px=facts.size_px,
            encoder=facts.encoder,
            imported=False,
        )
        tx.session.add(row)
        made = Made("generation", "generation", GENERATOR, row.id, request.name)
        lineage.note(tx, caller, made, {request.dataset: "dataset"})
        self._jobs.submit(
            tx,
            NewJob(
                id=row.job,
                service="generation",
                kind=TRAIN,
                queue="generation",
                caller=caller,
                resource=row.id,
                inputs=request.model_dump(mode="json") | {"preset": preset},
                slices=[{"step": "plan"}],
                waits_for=waits_for(data),
                total=steps,
                unit="steps",
            ),
        )
        return row.id

    def _view(self, tx: Tx, row: Generator) -> GeneratorView:
        losses = tx.session.scalars(
            select(Loss).where(Loss.generator == row.id).order_by(Loss.step)
        ).all()
        previews = tx.session.scalars(
            select(Preview.step).where(Preview.generator == row.id).order_by(Preview.step)
        ).all()
        return generator_view(row, self._jobs.view(tx, row.job), losses, previews)

    def _listed(self, tx: Tx, rows: Sequence[Generator]) -> list[GeneratorView]:
        jobs = self._jobs.views(tx, [row.job for row in rows])
        return [generator_view(row, jobs[row.job]) for row in rows]

    def _read_population(self, key: str, digest: str, encoder: str) -> Population:
        return Population.of(from_parquet(self._store.get(key, digest), POPULATION), encoder)


def _preset(request: GeneratorRequest, data: DatasetView) -> str:
    """The preset that is asked for, or the one of the dataset's size. Raises `SizeDiffers`: no
    image is resized again, so that real and synthetic images are made alike.
    """
    fitting = [name for name, facts in PRESET_FACTS.items() if facts.size_px == data.size_px]
    preset = request.preset or (fitting[0] if fitting else None)
    if preset is not None and preset in fitting:
        return preset
    sizes = ", ".join(str(facts.size_px) for facts in PRESET_FACTS.values())
    asked = "No preset makes images of its size"
    if preset is not None:
        asked = f"Preset {preset} makes {PRESET_FACTS[preset].size_px} px images"
    cure = "" if fitting else f"; import it again with a size_px that a preset has ({sizes})"
    raise SizeDiffers(
        f"{asked}, the dataset has {data.size_px} px{cure}", field="preset", accepted=fitting
    )


def _check_settings(request: GeneratorRequest, preset: str) -> None:
    """What a preset cannot do, and more previews than anybody would look at."""
    facts = PRESET_FACTS[preset]
    if request.training.loss == "hybrid" and not facts.learns_variance:
        raise NoVariance(
            f"Preset {preset} has no channel for it",
            field="training.loss",
            accepted=["clean-image"],
        )
    steps = request.steps or facts.steps
    if request.preview_every is not None and request.preview_every > steps:
        raise NoPreview(
            f"The training has {steps} steps", field="preview_every", accepted=f"at most {steps}"
        )
    least = -(-steps // PREVIEWS_LIMIT)
    if request.preview_every is not None and request.preview_every < least:
        raise TooManyPreviews(
            f"At most {PREVIEWS_LIMIT} in one training",
            field="preview_every",
            accepted=f"{least} or more",
        )


def find_generator(session: Session, caller: Caller, generator: UUID) -> Generator:
    """The caller's generator; raises `GeneratorUnknown` for any other id."""
    mine = select(Generator).filter_by(id=generator, project=caller.project)
    row = session.scalars(mine.where(lineage.visible(Generator.id))).one_or_none()
    if row is None:
        raise GeneratorUnknown("You have no such generator", field="generator")
    return row


def usable_dataset(datasets: Datasets, caller: Caller, dataset: UUID, field: str) -> DatasetView:
    """A dataset that is ready or in the making; problems name the request's `field`."""
    try:
        view = datasets.dataset(caller, dataset)
    except ProblemError as error:
        if error.problem.status != NOT_FOUND:
            raise
        raise DatasetUnknown("You have no such dataset", field=field) from error
    if view.job.state.terminal and view.job.state is not JobState.SUCCEEDED:
        raise SourceFailed(
            f"The dataset's import {ending(view.job.state, view.job.problem)}", field=field
        )
    return view


def waits_for(data: DatasetView) -> list[UUID]:
    return [] if data.job.state is JobState.SUCCEEDED else [data.job.id]
