"""Datasets on the wire: what is known about them once they are imported (`imports`)."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from pydantic import Field

from api_schemas.base import Damageable, Digest, JobView, Seed, Split, Wire
from api_schemas.findings import Ethnicity, Race, Sex, View
from api_schemas.provenance import ImageOrigins
from api_schemas.selection import DerivedView, Filter
from api_schemas.terms import Licence


class DatasetKind(StrEnum):
    """What its images show: patients, drawn phantoms, what a generative model made; or several of
    these (`mixed`).
    """

    REAL = "real"
    PHANTOM = "phantom"
    SYNTHETIC = "synthetic"
    MIXED = "mixed"


class ManifestView(Wire):
    """One immutable version of a dataset. `digest` is over content, not over Parquet bytes."""

    id: UUID
    digest: Digest
    images: int
    patients: int
    key: str


class DatasetView(Damageable):
    id: UUID
    name: str
    kind: DatasetKind
    origins: ImageOrigins | None = Field(
        default=None,
        description="what the image files say of their own making; null where none says anything",
    )
    format: str
    site: str
    size_px: int
    has_images: bool = Field(default=True, description="false: a table without its images")
    terms: str
    licence: Licence = Licence()
    created_at: datetime
    job: JobView
    manifest: ManifestView | None = None
    view: DerivedView | None = Field(default=None, description="of which dataset, if it is a view")
    rejected: int = Field(default=0, description="rows of the source that could not be used")
    warnings: list[str] = Field(
        default=[],
        description="why a dataset whose job has succeeded may not be what was wanted: more than "
        "half of the rows, or a whole split, were left out",
    )
    notes: list[str] = Field(
        default=[],
        description="what a person should know before using the dataset, counted: how its tables "
        "and columns were read, values that were left blank (by column, with a few examples), odd "
        "pictures (by what was odd), patients who may not be told apart rightly, images that are "
        "synthetic by their own word, and duplicates",
    )

    @property
    def phantom(self) -> bool:
        """Whether any of its images is a drawn phantom, or of a generator trained on them."""
        drawn = self.origins is not None and self.origins.phantom > 0
        return drawn or self.kind is DatasetKind.PHANTOM

    @property
    def holds_synthetic(self) -> bool:
        """Whether any of its images was made by a generative model."""
        made = self.origins is not None and self.origins.synthetic > 0
        return made or self.kind is DatasetKind.SYNTHETIC


class RejectionCode(StrEnum):
    """Why something of the source was left out; `burned-in` is for a person to look at."""

    ROW = "row"
    VIEW = "view"
    UNLISTED = "unlisted"
    IMAGE = "image"
    COLOUR = "colour"
    MODALITY = "modality"
    BURNED_IN = "burned-in"
    WITHDRAWN = "withdrawn"


class Rejection(Wire):
    """What of the source could not be used.

    `line` is the line of the table, the header included; in a folder of files without a table
    the number of the file, in the order of `find . -type f | LC_ALL=C sort`.
    """

    line: int
    code: RejectionCode
    reason: str


class Duplicate(Wire):
    """Two samples with the same picture, or with pictures hardly to be told apart.

    `distance` counts the differing bits of two 256-bit descriptors; 0 bits and `identical`
    means the same pixels.
    """

    sample_id: str
    other_sample_id: str
    identical: bool
    distance: int
    same_patient: bool


class UploadView(Wire):
    """An archive (zip or tar) that was sent; an import that succeeds uses it up."""

    id: UUID
    bytes: int
    sha256: Digest


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
    a is). `missing` covers age, sex, race, ethnicity, view, fold and every finding (blank
    labels).
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
    ethnicity: dict[str, int]
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
    ethnicity: Ethnicity | None
    view: View | None
    labels: dict[str, int | None]
    image_sha256: Digest | None
    pixel_sha256: Digest | None


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
