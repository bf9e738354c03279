"""What an experiment's references mean: the data, asked of the services that made it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

import pyarrow as pa

from api_schemas.arms import Arm
from api_schemas.base import DataRef, DatasetRef, GenerationRef, JobState, JobView
from api_schemas.datasets import DatasetKind, DatasetView
from api_schemas.generation import GenerationView
from api_schemas.generators import TRAINING_SET_UNKNOWN, Seen
from api_schemas.provenance import ImageOrigins
from api_schemas.terms import Licence
from api_schemas.training import ExperimentRequest
from services.kit.auth import Caller
from services.kit.errors import Conflict, NotFound, ProblemError, Unprocessable
from services.kit.jobs import ending
from services.training.ports.providers import Datasets, Generations
from services.training.service.expected import mirroring
from services.training.service.presets import preset_field
from services.training.service.samples import Samples, read_samples

T = TypeVar("T")
NOT_FOUND = 404
UNKNOWN = f"urn:synthorax:problem:{TRAINING_SET_UNKNOWN}"


class DataUnknown(NotFound):
    slug = "data-unknown"
    title = "There is no such dataset or generation"


class DataFailed(Conflict):
    slug = "data-failed"
    title = "The data was never made"


class DataWithoutImages(Unprocessable):
    slug = "data-without-images"
    title = "The data is a table without images"


@dataclass(frozen=True)
class Listed:
    """A dataset or cohort as it stands. `digest` is its manifest's, once there is one.

    `size_px` is None for images of a generator that is still being imported. `withheld` counts
    images of a cohort that its manifest leaves out, as copies of training images. `kind` is what
    the images show; `origins` what those of a dataset say of their own making.
    """

    ref: DataRef
    field: str
    job: JobView
    size_px: int | None
    digest: str | None
    licence: Licence
    generator: UUID | None = None
    flags: tuple[str, ...] = ()
    withheld: int = 0
    cohort: GenerationView | None = None
    kind: DatasetKind = DatasetKind.SYNTHETIC
    origins: ImageOrigins | None = None

    @property
    def ready(self) -> bool:
        return self.job.state is JobState.SUCCEEDED and self.digest is not None


def references(request: ExperimentRequest, arms: Sequence[Arm]) -> Iterator[tuple[str, DataRef]]:
    """Every reference to data with the field it stands in; the same data may come twice."""
    for number, preset in enumerate(request.preset or []):
        field = preset_field(request.preset or [], number)
        yield f"{field}.real", preset.real
        yield f"{field}.synthetic", preset.synthetic
    if request.preset is None:
        for i, arm in enumerate(arms):
            for j, stage in enumerate(arm.stages):
                for k, source in enumerate(stage.sources):
                    yield f"arms.{i}.stages.{j}.sources.{k}.data", source.data
    yield "validation.data", request.validation.data
    for i, test in enumerate(request.tests):
        yield f"tests.{i}.data", test.data


def ref_key(ref: DataRef) -> str:
    """The reference as one word."""
    if isinstance(ref, DatasetRef):
        return f"dataset/{ref.dataset}"
    return f"generation/{ref.generation}"


def ref_of(key: str) -> DataRef:
    """The reference that `ref_key` made this word of."""
    kind, _, made = key.partition("/")
    if kind == "generation":
        return GenerationRef(generation=UUID(made))
    return DatasetRef(dataset=UUID(made))


class Catalogue:
    """Data by reference, whoever made it."""

    def __init__(self, datasets: Datasets, generations: Generations) -> None:
        self._datasets = datasets
        self._generations = generations

    def list_all(
        self, caller: Caller, request: ExperimentRequest, arms: Sequence[Arm]
    ) -> dict[DataRef, Listed]:
        """All data of an experiment. Raises `DataUnknown` and `DataFailed` naming the field."""
        found: dict[DataRef, Listed] = {}
        for field, ref in references(request, arms):
            if ref not in found:
                found[ref] = self.look(caller, ref, field)
        return found

    def look(self, caller: Caller, ref: DataRef, field: str) -> Listed:
        if isinstance(ref, GenerationRef):
            listed = _known(field, lambda: self._cohort(caller, ref, field))
        else:
            listed = _known(field, lambda: self._dataset(caller, ref, field))
        if listed.job.state.terminal and not listed.ready:
            raise DataFailed(
                f"Its {listed.job.kind} job {ending(listed.job.state, listed.job.problem)}",
                field=field,
            )
        return listed

    def manifest(self, caller: Caller, ref: DataRef) -> pa.Table:
        if isinstance(ref, GenerationRef):
            return self._generations.cohort_manifest(caller, ref.generation)
        return self._datasets.dataset_manifest(caller, ref.dataset)

    def expected(self, caller: Caller, cohort: GenerationView) -> Samples | None:
        """What a cohort in the making will hold. None where its order does not say so: it mirrors
        nothing, or a dataset that is not ready or has changed since.
        """
        if cohort.mirror is None:
            return None
        generator = self._generations.generator(caller, cohort.generator)
        if generator.dataset is None:
            return None
        mirrored = self._dataset_if_there(caller, cohort.mirror.dataset)
        trained_on = self._dataset_if_there(caller, generator.dataset)
        if mirrored is None or mirrored.manifest is None or trained_on is None:
            return None
        if cohort.mirror_manifest not in {None, mirrored.manifest.id}:
            return None
        return mirroring(
            read_samples(self._datasets.dataset_manifest(caller, cohort.mirror.dataset)),
            cohort.id,
            cohort.replicas,
            site=trained_on.site,
            encoder=generator.encoder,
        )

    def expected_seen(self, caller: Caller, generators: Iterable[UUID]) -> dict[UUID, Seen | None]:
        """Like `seen`, by generator. One that has yet to read its training set will have seen the
        training split of its dataset; one of which even that is unknown by now is left out.
        """
        found: dict[UUID, Seen | None] = {}
        for each in sorted(generators):
            view = self._generations.generator(caller, each)
            if view.training is not None or view.job.state is JobState.SUCCEEDED:
                found[each] = self.seen(caller, each)
            elif view.dataset is not None:
                dataset = self._dataset_if_there(caller, view.dataset)
                if dataset is not None and dataset.manifest is not None:
                    found[each] = _training_split(
                        self._datasets.dataset_manifest(caller, view.dataset)
                    )
        return found

    def seen(self, caller: Caller, generator: UUID) -> Seen | None:
        """None where nobody knows: it was imported, and nobody has named its training set."""
        try:
            return self._generations.generator_seen(caller, generator)
        except ProblemError as error:
            if error.problem.type != UNKNOWN:
                raise
            return None

    def generators(self, caller: Caller, data: Iterable[Listed]) -> set[UUID]:
        """The generators behind data: those of cohorts, and those that the images of a dataset name
        and the project has.
        """
        known: set[UUID] = set()
        named: set[UUID] = set()
        for each in data:
            known |= set() if each.generator is None else {each.generator}
            named |= set() if each.origins is None else set(each.origins.generators)
        return known | {each for each in sorted(named - known) if self._knows(caller, each)}

    def _knows(self, caller: Caller, generator: UUID) -> bool:
        try:
            self._generations.generator(caller, generator)
        except ProblemError as error:
            if error.problem.status != NOT_FOUND:
                raise
            return False
        return True

    def _dataset_if_there(self, caller: Caller, dataset: UUID) -> DatasetView | None:
        try:
            return self._datasets.dataset(caller, dataset)
        except ProblemError as error:
            if error.problem.status != NOT_FOUND:
                raise
            return None

    def _dataset(self, caller: Caller, ref: DatasetRef, field: str) -> Listed:
        view = self._datasets.dataset(caller, ref.dataset)
        if not view.has_images:
            raise DataWithoutImages("It was imported without its images", field=field)
        digest = view.manifest.digest if view.manifest else None
        return Listed(
            ref,
            field,
            view.job,
            view.size_px,
            digest,
            view.licence,
            kind=view.kind,
            origins=view.origins,
        )

    def _cohort(self, caller: Caller, ref: GenerationRef, field: str) -> Listed:
        view = self._generations.generation(caller, ref.generation)
        generator = self._generations.generator(caller, view.generator)
        digest = view.manifest.digest if view.manifest else None
        return Listed(
            ref,
            field,
            view.job,
            generator.size_px,
            digest,
            view.licence,
            view.generator,
            tuple(view.flags or ()),
            view.screening.flagged,
            view,
        )


def _training_split(manifest: pa.Table) -> Seen:
    samples = read_samples(manifest)
    rows = samples.split("train")
    return Seen(
        patients=sorted(set(samples.patients[rows].tolist())),
        images=sorted(set(samples.pixels[rows].tolist())),
    )


def _known(field: str, look: Callable[[], T]) -> T:
    """What `look` finds; unknown and foreign data come out alike, naming the field."""
    try:
        return look()
    except ProblemError as error:
        if error.problem.status != NOT_FOUND:
            raise
        raise DataUnknown("It does not exist, or is not yours", field=field) from error
