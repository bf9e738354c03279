"""Datasets and cohorts on their way out, on the wire."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import ConfigDict, Field

from api_schemas.base import DataSplit, Digest, JobView, Wire
from api_schemas.terms import Licence

ExportFormat = Literal["png_csv", "seeded_csv", "webdataset", "croissant"]


class ExportRequest(Wire):
    """Take a dataset or cohort out of the suite.

    `png_csv`: one zip of PNG images, a CheXpert-style CSV and a Croissant description.
    `seeded_csv`: the paper's CSV. `webdataset`: tar shards of `shard` images each.
    `croissant`: the description alone.
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
    shard: int = Field(default=5000, ge=1, le=100_000)


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
