"""Near copies of training images in a cohort, on the wire."""

from typing import Literal

from pydantic import Field

from api_schemas.base import Digest, JobView, Wire

UNSCREENED = "unscreened"
"""State and flag: nobody has looked for near copies of training images."""
UNCALIBRATED = "uncalibrated"
"""State and flag: too few real images to say how like is too like."""
WITHHELD = "images-withheld"
"""Flag: near copies have been found, and withheld, since this was made of the cohort."""


class Calibration(Wire):
    """How like is too like, for one generator.

    Real images of `null_patients` patients whom the generator did not see (`held_out`), or else
    of its training patients (`training`), were each compared with all training images of other
    patients. `threshold` is what 1 % of them exceed (`false_flags`); null where there were too few
    images to say. `null_rate` is measured: every patient's images judged by a threshold from the
    others'. `found` tells which share of injected copies (`injected` training images, altered) is
    flagged and led back to its source.
    """

    threshold: float | None
    false_flags: float
    null_rate: float | None
    null_images: int
    null_patients: int
    null_from: Literal["held_out", "training"]
    found: dict[str, float]
    injected: int
    training_images: int
    training_gone: int = Field(description="trained on, and withdrawn before this was measured")
    manifest: Digest = Field(description="of the dataset whose images these were")


class Screening(Wire):
    """What is known of near copies of training images in a cohort.

    `uncalibrated`: compared, but without a threshold only copies pixel for pixel are flagged.
    Flagged images are withheld from the cohort's manifest. A screen for copies of whole images,
    not a guarantee of privacy.
    """

    state: Literal["unscreened", "uncalibrated", "screened"] = UNSCREENED
    reason: str = Field(default="", description="why there is no better answer")
    flagged: int = 0
    flagged_rate: float | None = Field(default=None, description="to be read beside `null_rate`")
    calibration: Calibration | None = None
    job: JobView | None = Field(default=None, description="the latest later screening, if any")


class Neighbour(Wire):
    """A synthetic image, and the training image that it is nearest to."""

    index: int
    sample_id: str
    likeness: float = Field(description="correlation after alignment; 1 only pixel for pixel")
    nearest: str = Field(description="`sample_id` of the training image")
    url: str


class FlaggedImage(Neighbour):
    """A synthetic image that is withheld, and the training image that it is nearest to."""
