"""Datasets on the wire: what is imported, and what is known about it afterwards."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import ConfigDict, Field, StringConstraints

from api_schemas.base import Digest, JobView, Name, Seed, Split, Wire
from api_schemas.findings import Race, Sex, View
from api_schemas.selection import DerivedView, Filter
from api_schemas.terms import Licence

Site = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$")]
SizePx = Annotated[int, Field(ge=16, le=1024, multiple_of=8)]


class DatasetKind(StrEnum):
    REAL = "real"
    PHANTOM = "phantom"
    SYNTHETIC = "synthetic"


class PhantomSite(StrEnum):
    """Three made-up hospitals that differ in scanner and prevalence (stand-ins, not copies)."""

    A = "phantom-a"
    B = "phantom-b"
    C = "phantom-c"


class CsvImport(Wire):
    """A CheXpert-style CSV on the server; `Path` is relative to the CSV or to `image_root`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "format": "chexpert_csv",
                    "name": "CheXpert frontal",
                    "path": "chexpert/train.csv",
                    "site": "chexpert",
                    "size_px": 256,
                    "terms": "Stanford University Dataset Research Use Agreement",
                }
            ]
        }
    )

    format: Literal["chexpert_csv"]
    name: Name
    path: str = Field(min_length=1, max_length=1000)
    image_root: str | None = Field(default=None, max_length=1000)
    site: Site
    size_px: SizePx = 256
    terms: str = Field(default="", max_length=2000)
    licence: Licence = Licence()


class PhantomImport(Wire):
    """Drawn phantoms: no patient, no X-ray; for trying and testing the suite."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "format": "phantom",
                    "name": "Phantoms, site A",
                    "site": "phantom-a",
                    "patients": 600,
                    "size_px": 32,
                    "seed": 1,
                }
            ]
        }
    )

    format: Literal["phantom"]
    name: Name
    site: PhantomSite
    patients: int = Field(ge=10, le=100_000)
    size_px: SizePx = 32
    seed: Seed = 0


DatasetRequest = Annotated[CsvImport | PhantomImport, Field(discriminator="format")]


class ManifestView(Wire):
    """One immutable version of a dataset. `digest` is over content, not over Parquet bytes."""

    id: UUID
    digest: Digest
    images: int
    patients: int
    key: str


class DatasetView(Wire):
    id: UUID
    name: str
    kind: DatasetKind
    format: str
    site: str
    size_px: int
    terms: str
    licence: Licence = Licence()
    created_at: datetime
    job: JobView
    manifest: ManifestView | None = None
    view: DerivedView | None = Field(default=None, description="of which dataset, if it is a view")
    rejected: int = Field(default=0, description="rows of the source that could not be used")
    notes: list[str] = Field(default=[], description="how the rows were read, where it matters")


class Rejection(Wire):
    """A row of the source that could not be used. `line` counts from 1, the header included."""

    line: int
    reason: str


class LabelCounts(Wire):
    present: int
    absent: int
    uncertain: int
    blank: int


class Missingness(Wire):
    """Of one attribute: in how many images it is not stated, and the share that is of all."""

    images: int
    share: float


class Summary(Wire):
    """Counts over a manifest; an attribute nobody stated is counted under `unknown`.

    `pairs[a][b]` counts the images in which both findings are present (`pairs[a][a]`: in which
    a is). `missing` covers age, sex, race, view, fold and every finding (blank labels).
    """

    images: int
    patients: int
    images_a_patient: float
    labels: dict[str, LabelCounts]
    pairs: dict[str, dict[str, int]]
    missing: dict[str, Missingness]
    splits: dict[str, int]
    sex: dict[str, int]
    race: dict[str, int]
    view: dict[str, int]
    site: dict[str, int]
    age_decades: dict[str, int]


class Sample(Wire):
    sample_id: str
    patient_id: str
    site: str
    split: Split
    fold: int | None
    age: int | None
    sex: Sex | None
    race: Race | None
    view: View | None
    labels: dict[str, int | None]
    image_sha256: Digest
    pixel_sha256: Digest


class SampleQuery(Filter):
    """A filter, and where in the list to go on."""

    cursor: str | None = Field(
        default=None, max_length=200, description="`next` of the page before"
    )
    limit: int = Field(default=100, ge=1, le=1000)


class SheetQuery(Filter):
    """A filter, and how many of the samples that meet it are drawn, by which seed."""

    images: int = Field(default=24, ge=1, le=144)
    seed: Seed = 0
