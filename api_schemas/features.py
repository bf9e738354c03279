"""Features of images by a lab's own extractor, on the wire."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import StringConstraints

from api_schemas.base import Digest, Wire
from api_schemas.shifts import DataWord

SpaceName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,59}$")]


class FeaturesPost(Wire):
    """The text fields of the form that brings features of images of a dataset or cohort. `name`
    and `version` fix what the extractor gives of an image, its preprocessing included.
    """

    name: SpaceName
    version: SpaceName
    data: DataWord


class FeaturesRequest(FeaturesPost):
    """The form with the digest of its file."""

    sha256: Digest


class FeaturesView(Wire):
    """`manifest` is the version of the data that the samples are of."""

    id: UUID
    request: FeaturesRequest
    manifest: Digest
    images: int
    dimension: int
    created_at: datetime
