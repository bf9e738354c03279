"""Datasets and cohorts on their way out, on the wire."""

from datetime import datetime
from typing import Literal, Self
from uuid import UUID

from pydantic import ConfigDict, Field, model_validator

from api_schemas.base import DataSplit, Digest, JobView, Wire
from api_schemas.paper import BlankLabels
from api_schemas.terms import Licence

ExportFormat = Literal["png_csv", "seeded_csv", "webdataset", "croissant"]


class ExportRequest(Wire):
    """Take a dataset or cohort out of the suite.

    `png_csv`: one zip of PNG images, a CheXpert-style CSV and a Croissant description.
    `seeded_csv`: the paper's CSV, for its training script: without rows of split `test`, labels
    that nobody mentioned written as `blank` says (`0` where it is null). `webdataset`: tar shards
    of `shard` images each (5,000 where it is null). `croissant`: the description alone.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "set": {"data": {"generation": "019a0000-0000-7000-8000-000000000003"}},
                    "format": "png_csv",
                }
            ]
        }
    )

    set: DataSplit
    format: ExportFormat
    shard: int | None = Field(default=None, ge=1, le=100_000)
    blank: BlankLabels | None = None

    @model_validator(mode="after")
    def _options_of_the_format(self) -> Self:
        for name, of in (("shard", "webdataset"), ("blank", "seeded_csv")):
            if getattr(self, name) is not None and self.format != of:
                msg = f"{name}: only together with format {of}"
                raise ValueError(msg)
        if self.format == "seeded_csv" and self.set.split == "test":
            msg = "set.split: the paper's CSV holds what trains and validates; not test"
            raise ValueError(msg)
        return self


class ExportFile(Wire):
    name: str
    media_type: str
    images: int
    url: str


class ExportView(Wire):
    """An export. Its files can be downloaded once the job has read and verified every image."""

    id: UUID
    request: ExportRequest
    name: str
    manifest: Digest
    images: int
    licence: Licence
    created_at: datetime
    job: JobView
    files: list[ExportFile] = []
