"""What people do with checkpoints made elsewhere: send them, and say whom they were trained on."""

from pathlib import Path
from uuid import UUID

import pyarrow.compute as pc

from api_schemas.base import JobState
from api_schemas.generators import GeneratorView, ImportRequest, TrainingSetRequest
from services.generation.models import Generator
from services.generation.ports.providers import Datasets
from services.generation.service.generators import Generators, find_generator, usable_dataset
from services.generation.service.importing import IMPORT
from services.generation.service.keeping import GENERATOR
from services.generation.service.keys import generator_folder
from services.generation.service.problems import (
    NothingToTrainOn,
    NotReady,
    OwnersOnly,
    SizeDiffers,
    TrainingSetKnown,
)
from services.generation.service.training import keep_population
from services.kit.auth import Caller
from services.kit.db import Database, Tx, new_id
from services.kit.errors import ProblemError
from services.kit.http import earlier, once
from services.kit.jobs import Jobs, NewJob, lineage
from services.kit.jobs.lineage import Made
from services.kit.objects import ObjectStore


class Imports:
    """Generators that were trained elsewhere. Looks at no file: a worker does."""

    def __init__(
        self,
        db: Database,
        jobs: Jobs,
        store: ObjectStore,
        datasets: Datasets,
        generators: Generators,
    ) -> None:
        self._db = db
        self._jobs = jobs
        self._store = store
        self._datasets = datasets
        self._generators = generators

    def order(
        self, caller: Caller, request: ImportRequest, file: Path, key: str | None
    ) -> GeneratorView:
        """Put the file away and queue its import."""
        with self._db.transaction() as tx:
            made = earlier(tx, caller, key, request)
        return self._generators.generator(caller, made or self._order(caller, request, file, key))

    def name_training_set(
        self, caller: Caller, generator: UUID, request: TrainingSetRequest
    ) -> GeneratorView:
        """From here on the generator knows whom it saw: as its owner says, and for good."""
        row = self._nameable(caller, generator)
        if row.dataset is None:
            self._name(caller, row, request)
        elif row.dataset != request.dataset:
            raise TrainingSetKnown("Import the file again to say otherwise", field="dataset")
        return self._generators.generator(caller, generator)

    # ------------------------------------------------------------ inside

    def _order(self, caller: Caller, request: ImportRequest, file: Path, key: str | None) -> UUID:
        generator = new_id()
        upload = f"{generator_folder(caller.project, generator)}upload-{request.sha256[:16]}.ckpt"
        self._store.put_file(upload, file)
        try:
            with self._db.transaction() as tx:
                made = once(
                    tx,
                    caller,
                    key,
                    request,
                    lambda: self._submit(tx, caller, request, generator, upload),
                )
        except ProblemError:
            self._store.remove([upload])
            raise
        if made != generator:  # somebody sent the same with the same key at the same time
            self._store.remove([upload])
        return made

    def _submit(
        self, tx: Tx, caller: Caller, request: ImportRequest, generator: UUID, upload: str
    ) -> UUID:
        row = Generator(
            id=generator,
            project=caller.project,
            owner=caller.person,
            job=new_id(),
            name=request.name,
            imported=True,
        )
        tx.session.add(row)
        lineage.note(
            tx, caller, Made("generation", "generation", GENERATOR, generator, request.name)
        )
        self._jobs.submit(
            tx,
            NewJob(
                id=row.job,
                service="generation",
                kind=IMPORT,
                short=True,
                queue="generation",
                caller=caller,
                resource=generator,
                inputs=request.model_dump(mode="json"),
                slices=[{"upload": upload}],
                total=1,
                unit="files",
            ),
        )
        return generator

    def _nameable(self, caller: Caller, generator: UUID) -> Generator:
        with self._db.transaction() as tx:
            row = find_generator(tx.session, caller, generator)
            job = self._jobs.view(tx, row.job)
        if not row.imported:
            raise TrainingSetKnown("Its training recorded whom it saw", field="generator")
        if row.owner != caller.person:
            raise OwnersOnly("Ask whoever imported it", field="generator")
        if job.state is not JobState.SUCCEEDED:
            raise NotReady(f"Its import is {job.state}", field="generator")
        return row

    def _name(self, caller: Caller, row: Generator, request: TrainingSetRequest) -> None:
        view = usable_dataset(self._datasets, caller, request.dataset, "dataset")
        if view.job.state is not JobState.SUCCEEDED:
            raise NotReady("The dataset is still being imported", field="dataset")
        if view.size_px != row.size_px:
            raise SizeDiffers(
                f"The generator makes {row.size_px} px images, the dataset has {view.size_px}",
                field="dataset",
                accepted=row.size_px,
            )
        rows = self._datasets.dataset_manifest(caller, request.dataset)
        if request.split == "train":
            rows = rows.filter(pc.field("split") == "train")
        if not rows.num_rows:
            raise NothingToTrainOn("This part of the dataset is empty", field="split")
        saw = keep_population(self._store, row, view, rows)
        with self._db.transaction() as tx:
            lineage.note_uses(tx, caller, row.id, {request.dataset: "dataset"})
            locked = tx.session.get_one(Generator, row.id, with_for_update=True)
            if locked.dataset is not None:
                raise TrainingSetKnown("Somebody has just named one", field="dataset")
            saw(locked)
