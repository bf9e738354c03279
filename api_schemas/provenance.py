"""What image files say about their own making, and what that makes of a dataset."""

from typing import Literal
from uuid import UUID

from pydantic import Field

from api_schemas.base import Digest, Seed, Wire
from api_schemas.terms import Licence

SYNTHETIC_TRAINING = "trained-on-synthetic-images"
"""Flag: a generator was trained on images that are not all of patients."""


class ImageOrigin(Wire):
    """What one image file says about its own making; a file that says nothing has no origin.

    `kind` is `synthetic` for an image that a generative model made, `phantom` for a drawn one.
    `phantom`: drawn, or made by a generator that was trained on drawn phantoms. Null and blank
    stand for what the file does not say.
    """

    kind: Literal["synthetic", "phantom"]
    phantom: bool = False
    generator: UUID | None = None
    generator_digest: Digest | None = None
    cohort: UUID | None = None
    seed: Seed | None = None
    terms: str = Field(default="", max_length=2000)
    licence: Licence = Licence()


class ImageOrigins(Wire):
    """What the image files of a dataset say about their own making, counted.

    Of `images` images `synthetic` were made by a generative model and `drawn` are drawn phantoms;
    the others say nothing and count as real. `phantom` counts the drawn ones and those of
    generators that were trained on drawn phantoms. `licence` and `terms` are those of the
    synthetic and drawn images, as their files state them.
    """

    images: int
    synthetic: int
    drawn: int
    phantom: int
    generators: list[UUID] = []
    generators_unnamed: int = Field(
        default=0, description="synthetic images whose file names no generator"
    )
    cohorts: list[UUID] = []
    licence: Licence = Licence()
    terms: list[str] = []
