"""Data by reference, whoever made it: what it is, its rows, its pictures."""

import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar, cast
from uuid import UUID

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from api_schemas.base import DataRef, DatasetRef, DataSplit, GenerationRef, JobView
from api_schemas.datasets import DatasetKind, DatasetView
from api_schemas.generation import GenerationView
from api_schemas.lookups import LOOKUPS, LookupRequest
from api_schemas.shifts import ComparedSet, DataWord
from api_schemas.terms import Licence
from services.evaluation.ports import Datasets, Generations
from services.evaluation.service.problems import (
    DataNotReady,
    DataUnknown,
    ImageDamaged,
    SetEmpty,
    WithoutImages,
)
from services.kit.auth import Caller
from services.kit.errors import ProblemError
from services.kit.jobs import ending
from services.kit.objects import DigestMismatch, ObjectMissing, ObjectStore

NOT_FOUND = 404
AT_ONCE = 64
READERS = 8
T = TypeVar("T")


@dataclass(frozen=True)
class Item:
    """A dataset or cohort that is there. `made` is the version of its manifest."""

    ref: DataRef
    name: str
    kind: DatasetKind
    phantom: bool
    manifest: UUID
    digest: str
    licence: Licence
    terms: str
    flags: tuple[str, ...] = ()

    @property
    def synthetic(self) -> bool:
        """Whether all of its images were made by a generative model."""
        return self.kind is DatasetKind.SYNTHETIC

    def compared(self, wanted: DataSplit, rows: pl.DataFrame) -> ComparedSet:
        """What an answer says of a set whose `rows` it is about."""
        return ComparedSet(
            set=wanted,
            name=self.name,
            kind=self.kind,
            phantom=self.phantom,
            manifest=self.digest,
            images=rows.height,
            patients=rows["patient_id"].n_unique(),
        )


@dataclass(frozen=True)
class Awaited:
    """A dataset or cohort in the making. `images` is None while nobody knows how many it will
    have at most.
    """

    job: JobView
    images: int | None


class Stock:
    """Everything that has a manifest, as the caller sees it. Problems name the request's field."""

    def __init__(self, store: ObjectStore, datasets: Datasets, generations: Generations) -> None:
        self._store = store
        self._datasets = datasets
        self._generations = generations

    def look(self, caller: Caller, ref: DataRef, field: str) -> Item:
        """Raises `DataUnknown` (404) and `DataNotReady` (409)."""
        found = self.look_ahead(caller, ref, field)
        if isinstance(found, Awaited):
            raise DataNotReady(f"Its {found.job.kind} job is {found.job.state}", field=field)
        return found

    def look_ahead(self, caller: Caller, ref: DataRef, field: str) -> Item | Awaited:
        """Data in the making comes as the job to wait for. Raises `DataUnknown` (404) and, where
        that job has come to a bad end, `DataNotReady` (409).
        """
        view = _known(field, lambda: self._view(caller, ref))
        if view.manifest is None:
            if view.job.state.terminal:
                words = ending(view.job.state, view.job.problem)
                raise DataNotReady(f"Its {view.job.kind} job {words}", field=field)
            images = view.images if isinstance(view, GenerationView) else 0
            return Awaited(view.job, images or None)
        return Item(
            ref=ref,
            name=view.name or str(view.id),
            kind=DatasetKind.SYNTHETIC if isinstance(view, GenerationView) else view.kind,
            phantom=bool(view.phantom),
            manifest=view.manifest.id,
            digest=view.manifest.digest,
            licence=view.licence,
            terms=view.terms,
            flags=tuple(view.flags or ()) if isinstance(view, GenerationView) else (),
        )

    def rows(self, caller: Caller, wanted: DataSplit, field: str) -> pl.DataFrame:
        """The manifest's rows of a split; raises `SetEmpty` (422)."""
        table = _known(field, lambda: self._table(caller, wanted.data))
        frame = cast("pl.DataFrame", pl.from_arrow(table))
        if wanted.split != "all":
            frame = frame.filter(pl.col("split") == wanted.split)
        if not frame.height:
            raise SetEmpty(f"Split '{wanted.split}' of it is empty", field=f"{field}.split")
        return frame

    def sample_ids(self, caller: Caller, dataset: UUID, paths: Sequence[str]) -> list[str | None]:
        """The samples that the caller's own files are, where the dataset knows them."""
        parts = (paths[first : first + LOOKUPS] for first in range(0, len(paths), LOOKUPS))
        asked = [LookupRequest(paths=list(part)) for part in parts]
        told = _known(
            "data", lambda: [self._datasets.look_up(caller, dataset, each) for each in asked]
        )
        return [name for part in told for name in part.samples]

    def rows_with_images(self, caller: Caller, wanted: DataSplit, field: str) -> pl.DataFrame:
        """Like `rows`; raises `WithoutImages` (422) for a table that was imported alone."""
        frame = self.rows(caller, wanted, field)
        if frame["image_key"].null_count():
            raise WithoutImages("It was imported without its images", field=f"{field}.data")
        return frame

    def images(self, rows: pl.DataFrame) -> Iterator[list[bytes]]:
        """The verified PNGs of a manifest's rows, some at once, in order.

        Raises `ImageDamaged` (409) naming the sample.
        """
        wanted = rows.select("sample_id", "image_key", "image_sha256")
        with ThreadPoolExecutor(READERS) as pool:
            for part in wanted.iter_slices(AT_ONCE):
                yield list(pool.map(self._image, part.rows()))

    def _image(self, row: tuple[str, str, str]) -> bytes:
        sample, key, digest = row
        try:
            return self._store.get(key, digest)
        except (ObjectMissing, DigestMismatch) as error:
            raise ImageDamaged(f"Sample {sample} is gone, or not what it was") from error

    def _view(self, caller: Caller, ref: DataRef) -> DatasetView | GenerationView:
        if isinstance(ref, DatasetRef):
            return self._datasets.dataset(caller, ref.dataset)
        return self._generations.generation(caller, ref.generation)

    def _table(self, caller: Caller, ref: DataRef) -> pa.Table:
        if isinstance(ref, DatasetRef):
            return self._datasets.dataset_manifest(caller, ref.dataset)
        return self._generations.cohort_manifest(caller, ref.generation)


def ref_of(word: DataWord) -> DataRef:
    """The reference that is written as one word."""
    kind, _, made = word.partition("/")
    if kind == "dataset":
        return DatasetRef(dataset=UUID(made))
    return GenerationRef(generation=UUID(made))


def ids(**named: DataRef) -> dict[UUID, str]:
    """The ids of data by the field of the request that names it, as lineage takes them."""
    return {
        ref.dataset if isinstance(ref, DatasetRef) else ref.generation: field
        for field, ref in named.items()
    }


def pixels(png: bytes) -> NDArray[np.uint8]:
    """The grey levels (H, W) of a stored image."""
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        return np.asarray(image.convert("L"))


def _known(field: str, look: Callable[[], T]) -> T:
    """What `look` finds; unknown and foreign data come out alike, naming the field."""
    try:
        return look()
    except ProblemError as error:
        if error.problem.status != NOT_FOUND:
            raise
        raise DataUnknown("It does not exist, or is not yours", field=field) from error
