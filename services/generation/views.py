"""Rows of generation as wire types."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from api_schemas.base import JobView
from api_schemas.findings import FINDINGS
from api_schemas.generation import (
    CohortManifest,
    Condition,
    Environment,
    GenerateRequest,
    GenerationView,
    ImageView,
    NearestMatch,
    Recipe,
)
from api_schemas.generators import (
    GeneratorOrigin,
    GeneratorTraining,
    GeneratorView,
    TrainingSettings,
)
from api_schemas.manifest import MANIFEST
from api_schemas.screening import FlaggedImage, Neighbour, Screening
from api_schemas.terms import Licence, strictest
from services.generation.models import Generation, Generator, Image, Loss

UNKNOWN_SITE = "unknown"
"""Of images of an imported generator whose training set nobody has named."""


def generator_view(
    row: Generator, job: JobView, losses: Sequence[Loss] = (), previews: Sequence[int] = ()
) -> GeneratorView:
    """`losses` and `previews` (their steps) may be left out where many generators are listed."""
    return GeneratorView(
        id=row.id,
        name=row.name,
        preset=row.preset,
        dataset=row.dataset,
        steps=row.steps,
        seed=row.seed,
        settings=None if row.settings is None else TrainingSettings.model_validate(row.settings),
        preview_every=row.preview_every,
        size_px=row.size_px,
        encoder=row.encoder,
        created_at=row.created_at,
        job=job,
        digest=row.weights_sha256,
        training=_training(row, losses, previews),
        origin=None if row.origin is None else GeneratorOrigin.model_validate(row.origin),
        licence=_licence(row.licence),
    )


def licence_of(row: Generation, generator: Generator) -> Licence:
    """Of the generator's dataset and of the one that was mirrored, as they were."""
    own = _licence(generator.licence)
    return own if row.mirror_licence is None else strictest([own, _licence(row.mirror_licence)])


def _licence(stored: dict[str, Any] | None) -> Licence:
    return Licence() if stored is None else Licence.model_validate(stored)


def _training(
    row: Generator, losses: Sequence[Loss], previews: Sequence[int]
) -> GeneratorTraining | None:
    if row.manifest is None or row.manifest_digest is None:
        return None
    return GeneratorTraining(
        manifest=row.manifest,
        manifest_digest=row.manifest_digest,
        images=row.images or 0,
        patients=row.patients or 0,
        terms=row.terms or "",
        phantom=bool(row.phantom),
        losses=[(point.step, point.loss) for point in losses],
        previews=list(previews),
        stated=row.imported,
    )


def request_of(row: Generation) -> GenerateRequest:
    return GenerateRequest.model_validate(row.request)


def generation_view(
    row: Generation, generator: Generator, job: JobView, screening_job: JobView | None = None
) -> GenerationView:
    request = request_of(row)
    screening = screening_of(row).model_copy(update={"job": screening_job})
    manifest = None
    if row.manifest and row.manifest_digest and row.manifest_key:
        manifest = CohortManifest(
            id=row.manifest,
            digest=row.manifest_digest,
            images=row.images - screening.flagged,
            key=row.manifest_key,
        )
    return GenerationView(
        id=row.id,
        name=row.name,
        generator=row.generator,
        created_at=row.created_at,
        images=row.images,
        seed=request.seed,
        sampler=request.sampler,
        batch=row.batch,  # pyright: ignore[reportArgumentType] - one of the shapes
        conditions=request.conditions,
        mirror=request.mirror,
        mirror_manifest=row.mirror_manifest,
        replicas=request.replicas,
        nearest=request.nearest,
        nearest_images=row.nearest_images,
        screening=screening,
        phantom=generator.phantom,
        terms=generator.terms or "",
        licence=licence_of(row, generator),
        environment=_environment(row),
        manifest=manifest,
        job=job,
    )


def _environment(row: Generation | Image) -> Environment | None:
    return None if row.environment is None else Environment.model_validate(row.environment)


def screening_of(row: Generation) -> Screening:
    return Screening() if row.screening is None else Screening.model_validate(row.screening)


def flagged_view(row: Image) -> FlaggedImage:
    """Of an image that is flagged."""
    return FlaggedImage(**dict(neighbour(row)))


def neighbour(row: Image) -> Neighbour:
    """Of an image that was compared."""
    return Neighbour(
        index=row.index,
        sample_id=sample_id(row),
        likeness=row.likeness or 0.0,
        nearest=row.nearest or "",
        url=image_url(row),
    )


def image_url(row: Image) -> str:
    return f"/generations/{row.generation}/images/{row.index}.png"


def recipe_of(row: Image) -> Recipe:
    return Recipe(condition=Condition.model_validate(row.condition), seed=row.seed)


def nearest_match(row: Image) -> NearestMatch | None:
    return None if row.nearest_match is None else NearestMatch.model_validate(row.nearest_match)


def sample_id(row: Image) -> str:
    return f"{row.generation}-{row.index:06d}"


def image_view(row: Image, generation: Generation, generator: Generator) -> ImageView:
    """The record of a rendered image."""
    return ImageView.model_validate(
        {
            "index": row.index,
            "sample_id": sample_id(row),
            "recipe": recipe_of(row),
            "nearest": nearest_match(row),
            "generator": generator.id,
            "generator_digest": generator.weights_sha256,
            "sampler": request_of(generation).sampler,
            "batch": generation.batch,
            "environment": row.environment,
            "replica": row.replica,
            "parent_sample_id": row.parent_sample_id,
            "image_sha256": row.image_sha256,
            "pixel_sha256": row.pixel_sha256,
            "url": image_url(row),
        }
    )


def cohort_table(rows: Sequence[Image], generator: Generator) -> pa.Table:
    """The manifest of a cohort of `rows`. Its patients are synthetic, named after their image."""
    records = [_manifest_row(row, generator) for row in rows]
    return pa.Table.from_pylist(records, schema=MANIFEST)


def _manifest_row(row: Image, generator: Generator) -> dict[str, object]:
    condition = Condition.model_validate(row.condition)
    labels = {str(f): condition.findings.get(f) for f in FINDINGS}
    return {
        "sample_id": sample_id(row),
        "image_key": row.image_key,
        "image_sha256": row.image_sha256,
        "pixel_sha256": row.pixel_sha256,
        "patient_id": f"synthetic/{row.generation}/{row.index}",
        "site": generator.site or UNKNOWN_SITE,
        "split": "train",
        "age": condition.age,
        "sex": condition.sex,
        "race": condition.race,
        **labels,
        "seed": row.seed,
        "replica": row.replica,
        "parent_sample_id": row.parent_sample_id,
        "generator_id": str(generator.id),
    }
