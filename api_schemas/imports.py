"""What can be asked of `POST /datasets`: one model a format."""

from enum import StrEnum
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, model_validator

from api_schemas.base import Name, Seed, Split, Wire
from api_schemas.terms import UNSTATED, Licence

Site = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$")]
SizePx = Annotated[int, Field(ge=16, le=1024, multiple_of=8)]
Place = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
"""A file or folder below a folder that may be imported from, or in an uploaded archive."""
Resize = Literal["paper", "antialiased"]
"""`paper` takes the four pixels next to each point, as the paper's scripts do; `antialiased`
averages all that a pixel covers: less noise and no moiré, but not the paper's pixels."""


Patients = Annotated[
    Literal["named", "one_per_image"],
    Field(
        description="`one_per_image`: an image that names no patient is of a patient of its own; "
        "`named`: it is left out, and a table that names none at all is refused"
    ),
]


class PhantomSite(StrEnum):
    """Three made-up hospitals that differ in scanner and prevalence (stand-ins, not copies)."""

    A = "phantom-a"
    B = "phantom-b"
    C = "phantom-c"


def _kept_in(name: str, url: str) -> Licence:
    """An agreement that lets nobody pass the images on, and does not speak of what is made of
    them.
    """
    return Licence.model_validate({"name": name, "url": url, "may_export": False})


STANFORD = _kept_in(
    "Stanford University Dataset Research Use Agreement",
    "https://stanfordaimi.azurewebsites.net/",
)
PHYSIONET = _kept_in(
    "PhysioNet Credentialed Health Data Use Agreement 1.5.0",
    "https://physionet.org/about/licenses/physionet-credentialed-health-data-license-150/",
)
PADCHEST = _kept_in("PADCHEST Dataset Research Use Agreement", "https://bimcv.cipf.es/")
NIH = Licence.model_validate(
    {
        "name": "NIH ChestX-ray14: no restrictions on use",
        "url": "https://nihcc.app.box.com/v/ChestXray-NIHCC",
        "may_export": True,
        "may_share_derived": True,
        "notes": "Link the page, cite Wang et al., CVPR 2017, and acknowledge the NIH Clinical "
        "Center as the data provider.",
    }
)


def _no_laterals(wanted: bool) -> bool:
    if wanted:
        msg = "the dataset has frontal images only; leave it out"
        raise ValueError(msg)
    return wanted


FrontalOnly = Annotated[bool, AfterValidator(_no_laterals)]
"""Of datasets that hold no lateral image."""


def _example(**fields: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [fields]})


class FileImport(Wire):
    """What all imports from files share."""

    name: Name
    upload: UUID | None = Field(
        default=None, description="an uploaded archive; `path` is then a place inside it"
    )
    size_px: SizePx = 256
    resize: Resize = "paper"
    laterals: bool = Field(default=False, description="keep lateral views instead of frontal only")
    images: bool = Field(default=True, description="false: the table alone, without its images")
    licence: Licence = UNSTATED

    @model_validator(mode="after")
    def _what_images_are_made_of(self) -> Self:
        if self.images:
            return self
        for name, left_out in (("size_px", 256), ("resize", "paper"), ("image_root", None)):
            if getattr(self, name, left_out) != left_out:
                msg = f"{name}: only together with images"
                raise ValueError(msg)
        return self


class OnePlaceImport(FileImport):
    """An import of one table, or of one folder that holds everything."""

    path: Place = Field(description="the table, or the folder that holds everything")


class SplitTable(Wire):
    """One of several tables of a source, and the split of its rows."""

    path: Place
    split: Split | None = Field(
        default=None,
        description="of every row of the table. Left out: as its rows state; of patients without "
        "a stated split an eighth validates and the others train where another table is the test "
        "set, and else all are split by the stable hash",
    )


class TablesImport(FileImport):
    """An import of one table, or of several that make one dataset.

    Images are looked for beside each table, or below `image_root`.
    """

    path: Place | None = Field(default=None, description="the table")
    paths: list[SplitTable] | None = Field(
        default=None,
        min_length=2,
        max_length=20,
        description="instead of path: several tables of one source, such as its train and its "
        "test set. A patient belongs to one split: rows that put a patient of an earlier row into "
        "another one are left out",
    )

    @model_validator(mode="after")
    def _one_or_several(self) -> Self:
        if (self.path is None) == (self.paths is None):
            msg = "path: give either path (one table) or paths (several tables)"
            raise ValueError(msg)
        places = [each.path for each in self.tables]
        twice = next((place for place in places if places.count(place) > 1), None)
        if twice is not None:
            msg = "paths: a table is listed twice"
            raise ValueError(msg)
        return self

    @property
    def tables(self) -> list[SplitTable]:
        return [SplitTable(path=self.path)] if self.path is not None else self.paths or []


class CsvImport(TablesImport):
    """A CheXpert-style CSV; `Path` is relative to the CSV or to `image_root`.

    The columns are found in any case, with blanks or underscores, and by their usual synonyms.
    """

    model_config = _example(
        format="chexpert_csv",
        name="CheXpert frontal",
        path="chexpert/train.csv",
        site="chexpert",
        size_px=256,
        terms="Stanford University Dataset Research Use Agreement",
    )

    format: Literal["chexpert_csv"]
    image_root: Place | None = None
    patients: Patients = "named"
    site: Site
    terms: str = Field(default="", max_length=2000)


class ChexpertImport(OnePlaceImport):
    """CheXpert v1.0 or v1.0-small as it is unpacked: `path` is the folder of train.csv."""

    model_config = _example(
        format="chexpert",
        name="CheXpert",
        path="CheXpert-v1.0-small",
        demographics="CheXpert-v1.0-small/CHEXPERT DEMO.xlsx",
    )

    format: Literal["chexpert"]
    demographics: Place | None = Field(
        default=None,
        description="the table CHEXPERT DEMO (xlsx or CSV): race and ethnicity by patient",
    )
    train_list: Place | None = Field(
        default=None, description="the paper's cxp_tr.csv.gz: which images train and validate"
    )
    test_list: Place | None = Field(default=None, description="the paper's cxp_ts.csv.gz")
    licence: Licence = STANFORD
    site: Site = "chexpert"
    terms: str = Field(
        default="Stanford University Dataset Research Use Agreement", max_length=2000
    )


class MimicImport(OnePlaceImport):
    """MIMIC-CXR-JPG, or MIMIC-CXR in DICOM with the tables of MIMIC-CXR-JPG beside it.

    `path` is the folder of the tables and of `files/`.
    """

    model_config = _example(
        format="mimic_cxr_jpg",
        name="MIMIC-CXR",
        path="mimic-cxr-jpg",
        patients="mimiciv/hosp/patients.csv.gz",
        admissions="mimiciv/hosp/admissions.csv.gz",
    )

    format: Literal["mimic_cxr_jpg", "mimic_cxr"]
    labeller: Literal["chexpert", "negbio"] = "chexpert"
    patients: Place | None = Field(default=None, description="MIMIC-IV's table: sex and age")
    admissions: Place | None = Field(
        default=None, description="MIMIC-IV's table: race and ethnicity"
    )
    test_list: Place | None = Field(
        default=None, description="the paper's mimic_ts.csv.gz: its images test, others do not"
    )
    licence: Licence = PHYSIONET
    site: Site = "mimic-cxr"
    terms: str = Field(
        default="PhysioNet Credentialed Health Data Use Agreement 1.5.0", max_length=2000
    )


class NihImport(OnePlaceImport):
    """NIH ChestX-ray14: `path` is the folder of Data_Entry_2017_v2020.csv and the images."""

    model_config = _example(format="nih", name="NIH ChestX-ray14", path="nih")

    format: Literal["nih"]
    laterals: FrontalOnly = False
    licence: Licence = NIH
    site: Site = "nih"
    terms: str = Field(
        default="NIH ChestX-ray14: no restrictions on use. Link "
        "https://nihcc.app.box.com/v/ChestXray-NIHCC, cite Wang et al., CVPR 2017, and "
        "acknowledge the NIH Clinical Center as the data provider.",
        max_length=2000,
    )


class VindrImport(OnePlaceImport):
    """VinDr-CXR as PhysioNet ships it: `path` is the folder of annotations/, train/ and test/."""

    model_config = _example(format="vindr", name="VinDr-CXR", path="vindr-cxr/1.0.0")

    format: Literal["vindr"]
    laterals: FrontalOnly = False
    licence: Licence = PHYSIONET
    site: Site = "vindr"
    terms: str = Field(
        default="PhysioNet Credentialed Health Data Use Agreement 1.5.0", max_length=2000
    )


class PadchestImport(OnePlaceImport):
    """PadChest: `path` is the table; its images lie beside it or below `image_root`."""

    model_config = _example(
        format="padchest",
        name="PadChest",
        path="padchest/PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv",
    )

    format: Literal["padchest"]
    image_root: Place | None = None
    licence: Licence = PADCHEST
    site: Site = "padchest"
    terms: str = Field(default="PADCHEST Dataset Research Use Agreement", max_length=2000)


class MappedImport(TablesImport):
    """Any hospital's CSV: `mapping` is a YAML file, or the name of one that is shipped."""

    model_config = _example(
        format="mapped_csv",
        name="Emory",
        path="emory/test.csv",
        mapping="emory",
        site="emory",
    )

    format: Literal["mapped_csv"]
    mapping: Place
    image_root: Place | None = None
    patients: Patients = "named"
    site: Site
    terms: str = Field(default="", max_length=2000)


class SeededImport(OnePlaceImport):
    """The paper's synthetic images: rows like its sample_seeded_data.csv.

    With the `site` of the real data, every image knows the sample that it copies.
    """

    model_config = _example(
        format="paper_seeded",
        name="The paper's cohort",
        path="paper/sample_seeded_data.csv",
        image_root="paper/images",
        site="chexpert",
    )

    format: Literal["paper_seeded"]
    image_root: Place | None = None
    site: Site
    terms: str = Field(default="", max_length=2000)


class DicomImport(OnePlaceImport):
    """A folder of DICOM files without a table: view, sex, age and patient from their headers."""

    model_config = _example(format="dicom", name="A month of films", path="pacs/2024-05", site="us")

    format: Literal["dicom"]
    site: Site
    terms: str = Field(default="", max_length=2000)


class PhantomImport(Wire):
    """Drawn phantoms: no patient, no X-ray; for trying and testing the suite."""

    model_config = _example(
        format="phantom",
        name="Phantoms, site A",
        site="phantom-a",
        patients=600,
        size_px=32,
        seed=1,
    )

    format: Literal["phantom"]
    name: Name
    site: PhantomSite
    patients: int = Field(ge=10, le=100_000)
    size_px: SizePx = 32
    seed: Seed = 0


FilesRequest = (
    CsvImport
    | ChexpertImport
    | MimicImport
    | NihImport
    | VindrImport
    | PadchestImport
    | MappedImport
    | SeededImport
    | DicomImport
)
DatasetRequest = Annotated[FilesRequest | PhantomImport, Field(discriminator="format")]
