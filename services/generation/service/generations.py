"""What people and other services do with generations (cohorts)."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import pyarrow as pa
from sqlalchemy import select
from sqlalchemy.orm import Session

from api_schemas.base import JobState, Page
from api_schemas.generation import GenerateRequest, GenerationView, ImageView
from api_schemas.manifest import MANIFEST, from_parquet, to_parquet
from api_schemas.screening import FlaggedImage, Neighbour
from services.generation.models import Generation, Generator, Image
from services.generation.ports.providers import Datasets
from services.generation.service.generators import (
    Generators,
    find_generator,
    usable_dataset,
    waits_for,
)
from services.generation.service.keeping import GENERATION
from services.generation.service.origins import Origins
from services.generation.service.problems import (
    GenerationUnknown,
    ImageUnknown,
    NotReady,
    SourceFailed,
    TrainingSetUnknown,
)
from services.generation.service.quota import check_quota
from services.generation.service.rendering import (
    RENDER,
    SHAPES,
    batch_shape,
    check_order,
    encoder_of,
    mirrored_conditions,
    mirrored_rows,
    mirrors_another,
)
from services.generation.service.screening import CALIBRATE, SCREEN
from services.generation.views import (
    cohort_table,
    flagged_view,
    generation_view,
    generator_view,
    image_view,
    neighbour,
    screening_of,
)
from services.kit.auth import Caller
from services.kit.db import Database, Tx, new_id
from services.kit.http import earlier, once, page
from services.kit.jobs import Jobs, NewJob, ending, lineage
from services.kit.jobs.lineage import Made
from services.kit.objects import ObjectStore


@dataclass(frozen=True)
class _Checked:
    """The jobs that an order waits for, and its images: 0 while a mirror's dataset is not ready."""

    waits: list[UUID]
    images: int


class Generations:
    """The generations of a caller's project; those of others do not exist."""

    def __init__(
        self,
        db: Database,
        jobs: Jobs,
        store: ObjectStore,
        datasets: Datasets,
        generators: Generators,
        image_quota: int,
    ) -> None:
        self._db = db
        self._jobs = jobs
        self._store = store
        self._datasets = datasets
        self._generators = generators
        self._image_quota = image_quota
        self._origins = Origins(datasets)

    def order(self, caller: Caller, request: GenerateRequest, key: str | None) -> GenerationView:
        """Queue synthetic patients; what is still in the making is waited for.

        What can be known now is refused now; the rest when the work begins.
        """
        with self._db.transaction() as tx:
            made = earlier(tx, caller, key, request)
        return self.generation(caller, made or self._order(caller, request, key))

    def generation(self, caller: Caller, generation: UUID) -> GenerationView:
        with self._db.transaction() as tx:
            row = _find(tx.session, caller, generation)
            view = self._view(tx, row)
            generator = tx.session.get_one(Generator, row.generator)
            origin = generator_view(generator, self._jobs.view(tx, generator.job))
        return self._origins.of_generation(caller, view, origin)

    def browse(self, caller: Caller, cursor: str | None, limit: int) -> Page[GenerationView]:
        """The project's generations, newest first."""
        with self._db.transaction() as tx:
            mine = select(Generation).where(
                Generation.project == caller.project, lineage.visible(Generation.id)
            )
            return page(
                tx.session,
                mine,
                Generation.id,
                cursor,
                limit,
                lambda rows: self._views(tx, rows),
                newest_first=True,
            )

    def images(
        self, caller: Caller, generation: UUID, cursor: str | None, limit: int
    ) -> Page[ImageView]:
        """The images that are there, by index; grows while the generation runs."""
        with self._db.transaction() as tx:
            row = _find(tx.session, caller, generation)
            generator = tx.session.get_one(Generator, row.generator)
            there = select(Image).where(Image.generation == row.id, Image.image_key.is_not(None))
            return page(
                tx.session,
                there,
                Image.index,
                cursor,
                limit,
                lambda rows: [image_view(r, row, generator) for r in rows],
            )

    def png(self, caller: Caller, generation: UUID, index: int) -> bytes:
        """One image, verified. Raises `ImageUnknown` while it is not there."""
        with self._db.transaction() as tx:
            row = _find(tx.session, caller, generation)
            image = tx.session.get(Image, (row.id, index))
        if image is None or image.image_key is None:
            raise ImageUnknown("This generation has no such image (yet)")
        return self._store.get(image.image_key, image.image_sha256)

    def manifest_bytes(self, caller: Caller, generation: UUID, *, flagged: bool = False) -> bytes:
        """Without the images that are withheld, or with them where `flagged` asks for them."""
        with self._db.transaction() as tx:
            row = _find(tx.session, caller, generation)
            if row.manifest_key is None:
                raise NotReady("The cohort is not finished", field="generation")
            if flagged and screening_of(row).flagged:
                generator = tx.session.get_one(Generator, row.generator)
                all_of_them = select(Image).where(Image.generation == row.id)
                images = tx.session.scalars(all_of_them.order_by(Image.index)).all()
                return to_parquet(cohort_table(images, generator))
        return self._store.get(row.manifest_key, row.manifest_sha256)

    def cohort_manifest(self, caller: Caller, generation: UUID) -> pa.Table:
        """The cohort as a manifest; raises `NotReady` (409) before it is finished."""
        return from_parquet(self.manifest_bytes(caller, generation), MANIFEST)

    def flagged(
        self, caller: Caller, generation: UUID, cursor: str | None, limit: int
    ) -> Page[FlaggedImage]:
        """The images that are withheld, by index."""
        with self._db.transaction() as tx:
            row = _find(tx.session, caller, generation)
            withheld = select(Image).where(Image.generation == row.id, Image.flagged)
            return page(
                tx.session,
                withheld,
                Image.index,
                cursor,
                limit,
                lambda rows: [flagged_view(each) for each in rows],
            )

    def likest(self, caller: Caller, generation: UUID, count: int) -> list[Neighbour]:
        """The images that are likest to a training image and not withheld, the likest first;
        none where nobody has looked.
        """
        with self._db.transaction() as tx:
            row = _find(tx.session, caller, generation)
            released = select(Image).where(
                Image.generation == row.id, ~Image.flagged, Image.likeness.is_not(None)
            )
            likest = released.order_by(Image.likeness.desc(), Image.index).limit(count)
            return [neighbour(each) for each in tx.session.scalars(likest)]

    def screen(self, caller: Caller, generation: UUID) -> GenerationView:
        """Queue a screening of a finished cohort; one that is under way already will do."""
        with self._db.transaction() as tx:
            lineage.share(tx.session, caller.project)
            row = _find(tx.session, caller, generation, lock=True)
            self._check_screening(tx, row)
            if row.screening_job is None or self._jobs.terminal(tx, row.screening_job):
                row.screening_job = self._submit_screening(tx, caller, row)
        return self.generation(caller, generation)

    def cancel(self, caller: Caller, generation: UUID) -> GenerationView:
        with self._db.transaction() as tx:
            row = _find(tx.session, caller, generation)
            self._jobs.cancel(tx, row.job)
        return self.generation(caller, generation)

    def job(self, caller: Caller, generation: UUID) -> UUID:
        with self._db.transaction() as tx:
            return _find(tx.session, caller, generation).job

    # ------------------------------------------------------------ inside

    def _order(self, caller: Caller, request: GenerateRequest, key: str | None) -> UUID:
        order = self._check(caller, request)
        with self._db.transaction() as tx:
            return once(tx, caller, key, request, lambda: self._submit(tx, caller, request, order))

    def _check(self, caller: Caller, request: GenerateRequest) -> _Checked:
        """Raises what can be known to be wrong by now."""
        with self._db.transaction() as tx:
            generator = find_generator(tx.session, caller, request.generator)
            job = self._jobs.view(tx, generator.job)
        waits: list[UUID] = []
        if job.state is not JobState.SUCCEEDED:
            if job.state.terminal:
                raise SourceFailed(
                    f"Its {job.kind} job {ending(job.state, job.problem)}", field="generator"
                )
            waits.append(job.id)
        check_order(request, generator)
        population = None
        if request.conditions or mirrors_another(request, generator):
            population = self._generators.expected_population(caller, generator)
        if request.conditions and population is not None:
            population.check(request.conditions, nearest=request.nearest)
        images = len(request.recipes or []) + sum(c.count for c in request.conditions or [])
        if request.mirror is not None:
            dataset = request.mirror.dataset
            data = usable_dataset(self._datasets, caller, dataset, "mirror")
            waits += waits_for(data)
            if data.job.state is JobState.SUCCEEDED:
                manifest = self._datasets.dataset_manifest(caller, dataset)
                rows = mirrored_rows(manifest, generator.encoder, request.replicas)
                if population is not None:
                    encoder = encoder_of(generator)
                    mirrored_conditions(rows, encoder, population, nearest=request.nearest)
                images = rows.num_rows * request.replicas
        return _Checked(waits, images)

    def _submit(self, tx: Tx, caller: Caller, request: GenerateRequest, order: _Checked) -> UUID:
        fields = ("recipes", "conditions", "mirror")
        field = next(name for name in fields if getattr(request, name) is not None)
        check_quota(tx, caller.person, order.images, self._image_quota, field)
        batch = request.batch or batch_shape(None if request.mirror else order.images)
        inputs = request.model_dump(mode="json")
        row = Generation(
            id=new_id(),
            project=caller.project,
            owner=caller.person,
            job=new_id(),
            name=request.name or "",
            generator=request.generator,
            request=inputs,
            batch=batch,
            images=order.images,
        )
        tx.session.add(row)
        made = Made("generation", "generation", GENERATION, row.id, row.name)
        uses = {request.generator: "generator"}
        if request.mirror is not None:
            uses[request.mirror.dataset] = "mirror"
        lineage.note(tx, caller, made, uses)
        self._jobs.submit(
            tx,
            NewJob(
                id=row.job,
                service="generation",
                kind=RENDER,
                short=0 < order.images <= SHAPES[-1],
                queue="generation",
                caller=caller,
                resource=row.id,
                inputs=inputs,
                slices=[{"step": "plan"}],
                waits_for=order.waits,
                total=order.images,
                unit="images",
            ),
        )
        return row.id

    def _check_screening(self, tx: Tx, row: Generation) -> None:
        generator = tx.session.get_one(Generator, row.generator)
        if generator.population_key is None:
            raise TrainingSetUnknown(
                "Nobody has named the dataset that its images would be compared with",
                field="generation",
                accepted=f"first PUT /generators/{generator.id}/training-set, by its owner",
            )
        if row.manifest is None:
            raise NotReady("The cohort is not finished", field="generation")

    def _submit_screening(self, tx: Tx, caller: Caller, row: Generation) -> UUID:
        return self._jobs.submit(
            tx,
            NewJob(
                service="generation",
                kind=SCREEN,
                queue="generation",
                caller=caller,
                resource=row.id,
                inputs={"generation": str(row.id)},
                slices=[CALIBRATE],
                total=row.images,
                unit="images",
            ),
        )

    def _view(self, tx: Tx, row: Generation) -> GenerationView:
        return self._views(tx, [row])[0]

    def _views(self, tx: Tx, rows: Sequence[Generation]) -> list[GenerationView]:
        later = [row.screening_job for row in rows if row.screening_job is not None]
        jobs = self._jobs.views(tx, [*(row.job for row in rows), *later])
        ids = {row.generator for row in rows}
        generators = tx.session.scalars(select(Generator).where(Generator.id.in_(ids))).all()
        by_id = {g.id: g for g in generators}
        return [
            generation_view(
                row,
                by_id[row.generator],
                jobs[row.job],
                None if row.screening_job is None else jobs[row.screening_job],
            )
            for row in rows
        ]


def _find(session: Session, caller: Caller, generation: UUID, *, lock: bool = False) -> Generation:
    mine = select(Generation).filter_by(id=generation, project=caller.project)
    if lock:
        mine = mine.with_for_update()
    row = session.scalars(mine.where(lineage.visible(Generation.id))).one_or_none()
    if row is None:
        raise GenerationUnknown("You have no such generation", field="generation")
    return row
