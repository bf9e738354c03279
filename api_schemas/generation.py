"""Orders of synthetic images on the wire, and what came of them."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from api_schemas.base import Damageable, DatasetRef, Digest, JobView, Name, Seed, Wire
from api_schemas.findings import AGE_LIMIT, Finding, Race, Sex, contradictions
from api_schemas.screening import Screening
from api_schemas.terms import Licence

Age = Annotated[int, Field(ge=0, le=AGE_LIMIT)]
COUNT_LIMIT = 10_000
GENERATION_LIMIT = 1_000_000
BatchShape = Literal[1, 8, 64]


def _check_findings(findings: dict[Finding, int]) -> dict[Finding, int]:
    against = contradictions({f for f, value in findings.items() if value == 1})
    if against:
        names = ", ".join(sorted(against))
        msg = f"'No Finding' excludes {names}; only 'Support Devices' may stand beside it"
        raise ValueError(msg)
    return findings


class Condition(Wire):
    """What is known about one synthetic patient; an absent attribute is unknown."""

    age: Age | None = None
    sex: Sex | None = None
    race: Race | None = None
    findings: dict[Finding, Literal[0, 1]] = {}

    _findings = field_validator("findings")(_check_findings)


class ConditionRequest(Wire):
    """Fixes some attributes and leaves the others open, for `count` synthetic patients.

    `age` is one age or an inclusive range. Open attributes are drawn from the generator's
    training population given the fixed ones.
    """

    age: Age | tuple[Age, Age] | None = None
    sex: Sex | None = None
    race: Race | None = None
    findings: dict[Finding, Literal[0, 1]] = {}
    count: int = Field(ge=1, le=COUNT_LIMIT)

    _findings = field_validator("findings")(_check_findings)

    @model_validator(mode="after")
    def _range_in_order(self) -> "ConditionRequest":
        if isinstance(self.age, tuple) and self.age[0] > self.age[1]:
            msg = "age: the lower end of the range must not exceed the upper end"
            raise ValueError(msg)
        return self


class Recipe(Wire):
    """One image exactly: its full condition and its own seed."""

    condition: Condition
    seed: Seed


PUBLISHED_SAMPLER = {"name": "ddim", "steps": 200, "guidance": 0.0, "rescale": 0.7}


class Sampler(Wire):
    """How noise becomes an image.

    `guidance` 1 is plain conditional sampling; w > 1 extrapolates from the unconditional
    prediction (`uncond + w (cond - uncond)`) at times t/T inside `interval` (a fraction of the
    schedule, 0 = clean, 1 = noise), then rescales each image by `rescale` (phi). `precision` is
    the network's; the sampler itself always computes in float32. `spacing` says at which
    timesteps: `dpmsolver++` takes equal strides of the logarithm of the signal-to-noise ratio
    (`log-snr`) or of time (`trailing`), `ddim` those of the paper (`leading`).

    `compatibility: mediffusion` samples as the paper's package does, with what the paper used
    where nothing else is given (DDIM, 200 steps, guidance 0, rescale 0.7): guidance 0 is plain
    conditional sampling, the rescale takes one standard deviation over the whole batch (so that
    with guidance an image depends on its neighbours), grey levels are cut off, not rounded.
    """

    name: Literal["dpmsolver++", "ddim"] = "dpmsolver++"
    spacing: Literal["log-snr", "trailing", "leading"] = "log-snr"
    steps: int = Field(default=20, ge=2, le=1000)
    guidance: float = Field(default=1.0, ge=0.0, le=20.0)
    interval: tuple[float, float] = (0.0, 1.0)
    rescale: float = Field(default=0.0, ge=0.0, le=1.0)
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    compatibility: Literal["mediffusion"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _as_published(cls, given: object) -> object:
        if not isinstance(given, dict):
            return given
        if given.get("compatibility"):
            given = PUBLISHED_SAMPLER | given
        return {"spacing": "leading"} | given if given.get("name") == "ddim" else given

    @field_validator("interval")
    @classmethod
    def _interval_in_order(cls, interval: tuple[float, float]) -> tuple[float, float]:
        low, high = interval
        if not 0.0 <= low < high <= 1.0:
            msg = "interval: two fractions with 0 <= low < high <= 1"
            raise ValueError(msg)
        return interval

    @model_validator(mode="after")
    def _one_meaning(self) -> "Sampler":
        if self.compatibility is None and self.guidance < 1.0:
            msg = (
                "guidance: from 1 (plain conditional sampling) to 20; the published scale, where 0 "
                "is plain, needs compatibility: mediffusion"
            )
            raise ValueError(msg)
        if self.compatibility is not None and self.name != "ddim":
            msg = "name: the published sampler is ddim"
            raise ValueError(msg)
        if (self.name == "ddim") != (self.spacing == "leading"):
            msg = "spacing: leading for ddim, log-snr or trailing for dpmsolver++"
            raise ValueError(msg)
        self._check_guided()
        return self

    def _check_guided(self) -> None:
        """Plain conditional sampling has nothing to rescale, nowhere."""
        published = self.compatibility is not None
        if self.guidance != 1.0 and not (published and self.guidance == 0.0):
            return
        unused = {0.0, PUBLISHED_SAMPLER["rescale"]} if published else {0.0}
        if self.rescale not in unused:
            msg = "rescale: only together with guidance above 1"
            raise ValueError(msg)
        if self.interval != (0.0, 1.0):
            msg = "interval: only together with guidance above 1"
            raise ValueError(msg)


class GenerateRequest(Wire):
    """Synthetic patients to order: exactly one of `conditions`, `mirror`, `recipes`.

    `mirror` copies the condition of every training row of a dataset `replicas` times (the
    paper's supplementation cohort). `recipes` regenerates images from their records; give the
    recorded `batch` too for identical pixels.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "generator": "019a0000-0000-7000-8000-000000000002",
                    "conditions": [
                        {
                            "sex": "Female",
                            "age": [60, 69],
                            "findings": {"Pleural Effusion": 1},
                            "count": 4,
                        }
                    ],
                    "seed": 7,
                }
            ]
        }
    )

    name: Name | None = None
    generator: UUID
    conditions: list[ConditionRequest] | None = Field(default=None, min_length=1, max_length=1000)
    mirror: DatasetRef | None = None
    replicas: int = Field(default=1, ge=1, le=100)
    recipes: list[Recipe] | None = Field(default=None, min_length=1, max_length=COUNT_LIMIT)
    seed: Seed = 0
    sampler: Sampler = Sampler()
    batch: BatchShape | None = None
    nearest: bool = Field(
        default=False,
        description="where no training image of the generator has all that is ordered, take the "
        "nearest ones; of a mirror, keep rows with values that the generator never saw. Each such "
        "image says so in its record",
    )
    screen: bool = Field(
        default=True,
        description="before it is finished, look for near copies of training images and withhold "
        "them",
    )

    @model_validator(mode="after")
    def _one_kind(self) -> "GenerateRequest":
        given = [n for n in ("conditions", "mirror", "recipes") if getattr(self, n) is not None]
        if len(given) != 1:
            msg = f"give exactly one of conditions, mirror and recipes (given: {given or 'none'})"
            raise ValueError(msg)
        if self.replicas != 1 and self.mirror is None:
            msg = "replicas: only together with mirror"
            raise ValueError(msg)
        if self.seed and self.recipes is not None:
            msg = "seed: not together with recipes, of which each has its own"
            raise ValueError(msg)
        if self.nearest and self.recipes is not None:
            msg = "nearest: not together with recipes, which leave nothing open"
            raise ValueError(msg)
        if sum(c.count for c in self.conditions or []) > GENERATION_LIMIT:
            msg = f"conditions: at most {GENERATION_LIMIT} images in one generation"
            raise ValueError(msg)
        return self


Kernel = Literal["channels_last", "compiled", "graphs"]


class Environment(Wire):
    """Where pixels are bound to: the same seed gives the same image only in the same one."""

    device: str
    torch: str
    diffusers: str
    numpy: str = Field(description="draws the starting noise")
    threads: int
    kernels: list[Kernel] = Field(
        default=[], description="how the network was run, where not plainly"
    )


class GenerationView(Damageable):
    """A cohort in the making or made.

    `conditions`, `mirror`, `replicas` and `nearest` are as ordered; `nearest_images` counts the
    images that the generator's training set does not match, null before the cohort is planned.
    `licence` is the strictest of the data it comes from. `flags` may hold `withdrawn-patients`,
    `trained-on-synthetic-images`, `unscreened` and `uncalibrated`; null in lists, where nobody
    looks.
    """

    id: UUID
    name: str
    generator: UUID
    created_at: datetime
    images: int
    seed: int
    sampler: Sampler
    batch: BatchShape
    conditions: list[ConditionRequest] | None = None
    mirror: DatasetRef | None
    mirror_manifest: UUID | None = None
    replicas: int
    nearest: bool = False
    nearest_images: int | None = None
    screening: Screening = Screening()
    phantom: bool | None = None
    terms: str = ""
    licence: Licence = Licence()
    flags: list[str] | None = None
    environment: Environment | None = None
    manifest: "CohortManifest | None" = None
    job: JobView


class CohortManifest(Wire):
    """`images` are those that are not withheld."""

    id: UUID
    digest: Digest
    images: int
    key: str


class NearestMatch(Wire):
    """What the generator's training set does not match of what was ordered for one image.

    No training image has all of `attributes` as ordered. `training_image` has what the nearest one
    has instead; it lent the image whatever the order left open. Null for a mirrored row, of which
    `attributes` are the values that the generator never saw.
    """

    entry: int | None = Field(default=None, description="position in the order's conditions")
    attributes: list[str]
    training_image: Condition | None = None
    note: str = Field(description="the same in words")


class ImageView(Wire):
    """One finished image; `recipe` sent back in `recipes` with the same batch regenerates it.

    `nearest` is null where the generator's training set matches all that was ordered.
    """

    index: int
    sample_id: str
    recipe: Recipe
    nearest: NearestMatch | None = None
    generator: UUID
    generator_digest: Digest
    sampler: Sampler
    batch: BatchShape
    environment: Environment
    replica: int
    parent_sample_id: str | None
    image_sha256: Digest
    pixel_sha256: Digest
    url: str


class Provenance(BaseModel):
    """What every synthetic PNG says of itself (an iTXt chunk named `synthorax`).

    It is written before the cohort is screened, and never again: whether the image was released or
    is withheld as a near copy is told by `manifest`, which lists the released ones.
    """

    model_config = ConfigDict(frozen=True)

    synthetic: Literal[True] = True
    phantom: bool
    generation: UUID
    index: int
    generator: UUID
    generator_digest: Digest
    recipe: Recipe
    nearest: NearestMatch | None = None
    sampler: Sampler
    batch: BatchShape
    environment: Environment
    pixel_sha256: Digest = Field(description="of the grey levels, row by row")
    terms: str
    licence: Licence
    manifest: str
