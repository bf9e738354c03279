"""Generators on the wire: trained here, or brought in; and whom they have seen."""

from datetime import datetime
from typing import Literal, Self
from uuid import UUID

from pydantic import ConfigDict, Field, JsonValue, model_validator

from api_schemas.base import Damageable, Digest, JobView, Name, Seed, Wire
from api_schemas.terms import Licence

STEPS_LIMIT = 10_000_000


class TrainingSettings(Wire):
    """What a training does otherwise than its preset; null is the preset's own.

    `batch` is the number of images of a step, however many processes share them. Of a process's
    part at most `micro_batch` go through the network at once: that is for the memory, the step is
    the same. The learning rate rises over `warmup` steps and falls to 0. `ema` is the moving
    average's decay, which is smaller in the beginning. `drop` is how often a step hides the whole
    condition, for guidance. `loss`: `clean-image` weighs the error of v so that it is that of the
    clean image; `hybrid` is the published one, which also teaches the variance. `precision` is
    that of products; weights and sums are float32.
    """

    optimiser: Literal["adamw", "lion"] | None = None
    learning_rate: float | None = Field(default=None, gt=0.0, le=0.1)
    warmup: int | None = Field(default=None, ge=1, le=1_000_000)
    batch: int | None = Field(default=None, ge=1, le=4096)
    micro_batch: int | None = Field(default=None, ge=1, le=4096)
    weight_decay: float | None = Field(default=None, ge=0.0, le=10.0)
    clip: float | None = Field(default=None, gt=0.0, le=1000.0)
    ema: float | None = Field(default=None, ge=0.0, lt=1.0)
    drop: float | None = Field(default=None, ge=0.0, lt=1.0)
    loss: Literal["clean-image", "hybrid"] | None = None
    precision: Literal["float32", "bfloat16"] | None = None

    @model_validator(mode="after")
    def _part_of_a_batch(self) -> Self:
        if self.batch is not None and (self.micro_batch or 0) > self.batch:
            msg = "micro_batch: at most batch, of which it is a part"
            raise ValueError(msg)
        return self


PresetName = Literal["tiny-32", "small-64", "paper-256"]


class GeneratorRequest(Wire):
    """Train a conditional DDPM on split `train` of a dataset. `steps` null: the preset's own.

    A preset makes images of one size, which is the dataset's; `preset` null: the one of that size.
    With `preview_every`, images of the same conditions and seeds are made every so many steps.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "site A, tiny",
                    "dataset": "019a0000-0000-7000-8000-000000000001",
                    "preset": "tiny-32",
                    "steps": 2000,
                    "seed": 1,
                    "training": {"optimiser": "lion", "learning_rate": 3e-4},
                    "preview_every": 500,
                }
            ]
        }
    )

    name: Name
    dataset: UUID
    preset: PresetName | None = None
    steps: int | None = Field(default=None, ge=1, le=STEPS_LIMIT)
    seed: Seed = 0
    training: TrainingSettings = TrainingSettings()
    preview_every: int | None = Field(default=None, ge=1)


class GeneratorView(Damageable):
    """A trained (or still training) generator. `digest` is the SHA-256 of its weights.

    `settings` is what was asked for otherwise than the preset's. `training` says what it saw: the
    dataset, the manifest's version and digest, images and patients; `null` until the training has
    read them. An imported one has an `origin` instead of
    preset, steps and seed, and `training` stays null until its owner names the dataset: nobody
    knows whom it saw, and experiments treat it as possible leakage. `size_px` and `encoder` are
    null until the import has found them out. `licence` is its dataset's. `flags` may hold
    `withdrawn-patients` and `trained-on-synthetic-images`; null in lists, where nobody looks.
    """

    id: UUID
    name: str
    preset: str | None
    dataset: UUID | None
    steps: int | None
    seed: int | None
    settings: TrainingSettings | None = None
    preview_every: int | None = None
    size_px: int | None
    encoder: str | None = None
    created_at: datetime
    job: JobView
    digest: Digest | None = None
    training: "GeneratorTraining | None" = None
    origin: "GeneratorOrigin | None" = None
    licence: Licence = Licence()
    flags: list[str] | None = None


class GeneratorTraining(Wire):
    """`stated` is true where the owner says so, and no training of this suite recorded it."""

    manifest: UUID
    manifest_digest: Digest
    images: int
    patients: int
    terms: str
    phantom: bool
    losses: list[tuple[int, float]] = Field(default=[], description="(step, mean loss since last)")
    previews: list[int] = Field(default=[], description="steps of which there is a preview")
    stated: bool = False


TRAINING_SET_UNKNOWN = "training-set-unknown"

NEEDS_ALL = frozenset({"paper22"})
"""Encoders of conditions that have no word for unknown."""
"""Slug of the problem that nobody knows whom a generator saw."""

WeightsKind = Literal["ema", "raw"]


class GeneratorOrigin(Wire):
    """Where an imported generator comes from: the file's SHA-256, and what was found in it.

    `weights` are the moving average (`ema`), or `raw` ones where there was none or they were asked
    for.
    """

    format: str
    sha256: Digest
    weights: WeightsKind
    parameters: int
    architecture: dict[str, JsonValue]


class ImportRequest(Wire):
    """The text fields of the form that brings a checkpoint, and the digest of its file."""

    name: Name
    weights: WeightsKind = "ema"
    sha256: Digest


class TrainingSetRequest(Wire):
    """Whom an imported generator was trained on, as its owner knows.

    `split` is what its training read of the dataset. The authors' own script read all but the
    last ten rows: leave `all` when in doubt.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"dataset": "019a0000-0000-7000-8000-000000000001", "split": "all"}]
        }
    )

    dataset: UUID
    split: Literal["train", "all"] = "all"


class Seen(Wire):
    """Everything a generator was trained on: pseudonyms of patients, digests of pixels."""

    patients: list[str]
    images: list[Digest]
