"""Routes of generation: parse, call, return."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

from anyio import to_thread
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import ValidationError

from api_schemas.base import DeletionView, Page
from api_schemas.generation import GenerateRequest, GenerationView, ImageView
from api_schemas.generators import (
    GeneratorRequest,
    GeneratorView,
    ImportRequest,
    Seen,
    TrainingSetRequest,
)
from api_schemas.screening import FlaggedImage, Neighbour
from services.generation.service import Generations, Generators, Imports
from services.kit.auth import Reader, Writer
from services.kit.deletion import Deletions, DerivedQuery
from services.kit.http import (
    COUNTS_ITSELF,
    Admit,
    CursorQuery,
    Events,
    IdempotencyHeader,
    LimitQuery,
)
from services.kit.uploads import FILE, invalid, received

PARQUET = "application/vnd.apache.parquet"
PNG = "image/png"
SVG = "image/svg+xml"
ORDER_LIMIT = 8 << 20
"""Bytes of an order: 10,000 recipes."""
FlaggedQuery = Annotated[
    Literal["withhold", "include"],
    Query(description="what is done with near copies of training images"),
]


def routes(generators: Generators, generations: Generations) -> APIRouter:
    router = APIRouter(tags=["generation"])
    _generators(router, generators)
    _generator_events(router, generators)
    _generations(router, generations)
    _content(router, generations)
    _screening(router, generations)
    _generation_events(router, generations)
    return router


def deletion_routes(generators: Deletions, generations: Deletions) -> APIRouter:
    """To be included in the router of the others."""
    router = APIRouter()

    @router.get("/generators/{generator}/deletion")
    def get_generator_deletion(generator: UUID, caller: Reader) -> DeletionView:
        """What deleting it would take, or how far its deletion is."""
        return generators.look(caller, generator)

    @router.delete("/generators/{generator}", status_code=202)
    def delete_generator(
        generator: UUID, caller: Writer, response: Response, derived: DerivedQuery = False
    ) -> DeletionView:
        """Delete it with what it remembers of its training images."""
        response.headers["Location"] = f"/generators/{generator}/deletion"
        return generators.delete(caller, generator, derived=derived)

    @router.get("/generations/{generation}/deletion")
    def get_generation_deletion(generation: UUID, caller: Reader) -> DeletionView:
        """What deleting it would take, or how far its deletion is."""
        return generations.look(caller, generation)

    @router.delete("/generations/{generation}", status_code=202)
    def delete_generation(
        generation: UUID, caller: Writer, response: Response, derived: DerivedQuery = False
    ) -> DeletionView:
        """Delete it with its images: gone at once for readers, the images follow in a job."""
        response.headers["Location"] = f"/generations/{generation}/deletion"
        return generations.delete(caller, generation, derived=derived)

    return router


CHECKPOINT: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["name", "file"],
                    "properties": {
                        "name": {"type": "string", "minLength": 1, "maxLength": 120},
                        "weights": {"type": "string", "enum": ["ema", "raw"], "default": "ema"},
                        "file": {"type": "string", "format": "binary"},
                    },
                },
                "example": {"name": "the paper's", "weights": "ema", "file": "ddpm.ckpt"},
            }
        },
    }
}


def import_routes(imports: Imports, scratch: Path, limit_bytes: int) -> APIRouter:
    """To be included in the router of the others."""
    router = APIRouter()

    @router.post(
        "/generators/import", status_code=202, openapi_extra=CHECKPOINT, max_body_size=COUNTS_ITSELF
    )
    async def import_generator(
        request: Request,
        caller: Writer,
        response: Response,
        admit: Admit,
        idempotency_key: IdempotencyHeader = None,
    ) -> GeneratorView:
        """Import a checkpoint of the authors' package (Mediffusion, PyTorch Lightning).

        Its moving average is taken unless `weights` is `raw`. A worker reads the file and runs
        nothing of it; what is wrong with it fails the job. Whom it was trained on is unknown until
        its owner names the dataset.
        """
        async with received(request, scratch, limit_bytes) as form:
            try:
                asked = ImportRequest.model_validate(form.told)
            except ValidationError as error:
                raise invalid(error.errors(), form.fields) from error
            async with admit():
                view = await to_thread.run_sync(
                    imports.order, caller, asked, form.files[FILE], idempotency_key
                )
        response.headers["Location"] = f"/generators/{view.id}"
        return view

    @router.put("/generators/{generator}/training-set")
    def name_training_set(
        generator: UUID, body: TrainingSetRequest, caller: Writer
    ) -> GeneratorView:
        """Say on which dataset an imported generator was trained. Its owner can, once."""
        return imports.name_training_set(caller, generator, body)

    return router


def _generators(router: APIRouter, generators: Generators) -> None:
    @router.post("/generators", status_code=202)
    def post_generator(
        body: GeneratorRequest,
        caller: Writer,
        response: Response,
        idempotency_key: IdempotencyHeader = None,
    ) -> GeneratorView:
        """Train a conditional DDPM on split `train` of a dataset."""
        view = generators.order(caller, body, idempotency_key)
        response.headers["Location"] = f"/generators/{view.id}"
        return view

    @router.get("/generators")
    def list_generators(
        caller: Reader, cursor: CursorQuery = None, limit: LimitQuery = 100
    ) -> Page[GeneratorView]:
        """The project's generators, newest first, without their loss curves."""
        return generators.browse(caller, cursor, limit)

    @router.get("/generators/{generator}")
    def get_generator(generator: UUID, caller: Reader) -> GeneratorView:
        """A generator, what it saw, and its loss curve."""
        return generators.generator(caller, generator)

    @router.get("/generators/{generator}/seen")
    def get_seen(generator: UUID, caller: Reader) -> Seen:
        """Pseudonyms of everyone whose images it was trained on, and the images' digests."""
        return generators.generator_seen(caller, generator)

    @router.get(
        "/generators/{generator}/losses.svg",
        response_class=Response,
        responses={200: {"content": {SVG: {}}}},
    )
    def get_losses(generator: UUID, caller: Reader) -> Response:
        """The loss curve as a figure; grows while the training runs."""
        return Response(generators.losses_svg(caller, generator), media_type=SVG)

    @router.get(
        "/generators/{generator}/previews/{step}.png",
        response_class=Response,
        responses={200: {"content": {PNG: {}}}},
    )
    def get_preview(generator: UUID, step: int, caller: Reader) -> Response:
        """What the training had learnt at a step: always the same conditions and noise."""
        return Response(generators.preview(caller, generator, step), media_type=PNG)

    @router.post("/generators/{generator}/cancel")
    def cancel_generator(generator: UUID, caller: Writer) -> GeneratorView:
        """Stop the training; cancelled already is fine, finished is 409."""
        return generators.cancel(caller, generator)


def _generator_events(router: APIRouter, generators: Generators) -> None:
    def job(generator: UUID, caller: Reader) -> UUID:
        return generators.job(caller, generator)

    @router.get("/generators/{generator}/events", response_class=EventSourceResponse)
    async def generator_events(
        job: Annotated[UUID, Depends(job)], events: Events
    ) -> AsyncIterator[ServerSentEvent]:
        """Progress of the training as Server-Sent Events, until it ends."""
        async for event in events.of(job):
            yield event


def _generations(router: APIRouter, generations: Generations) -> None:
    @router.post("/generate", status_code=202, max_body_size=ORDER_LIMIT)
    def post_generate(
        body: GenerateRequest,
        caller: Writer,
        response: Response,
        idempotency_key: IdempotencyHeader = None,
    ) -> GenerationView:
        """Order synthetic patients. Answers at once; the images follow."""
        view = generations.order(caller, body, idempotency_key)
        response.headers["Location"] = f"/generations/{view.id}"
        return view

    @router.get("/generations")
    def list_generations(
        caller: Reader, cursor: CursorQuery = None, limit: LimitQuery = 100
    ) -> Page[GenerationView]:
        """The project's generations, newest first."""
        return generations.browse(caller, cursor, limit)

    @router.get("/generations/{generation}")
    def get_generation(generation: UUID, caller: Reader) -> GenerationView:
        """A generation, its job and, once that is done, its manifest."""
        return generations.generation(caller, generation)

    @router.post("/generations/{generation}/cancel")
    def cancel_generation(generation: UUID, caller: Writer) -> GenerationView:
        """Stop it; cancelled already is fine, finished is 409. Images made so far stay."""
        return generations.cancel(caller, generation)


def _content(router: APIRouter, generations: Generations) -> None:
    @router.get("/generations/{generation}/images")
    def list_images(
        generation: UUID, caller: Reader, cursor: CursorQuery = None, limit: LimitQuery = 100
    ) -> Page[ImageView]:
        """The images that are there: condition, seed, everything needed to make them again."""
        return generations.images(caller, generation, cursor, limit)

    @router.get(
        "/generations/{generation}/images/{index}.png",
        response_class=Response,
        responses={200: {"content": {PNG: {}}}},
    )
    def get_image(generation: UUID, index: int, caller: Reader) -> Response:
        """One synthetic image, with its provenance inside."""
        return Response(generations.png(caller, generation, index), media_type=PNG)

    @router.get(
        "/generations/{generation}/manifest",
        response_class=Response,
        responses={200: {"content": {PARQUET: {}}}},
    )
    def get_manifest(
        generation: UUID, caller: Reader, flagged: FlaggedQuery = "withhold"
    ) -> Response:
        """The cohort as a Parquet manifest; 409 before it is finished."""
        content = generations.manifest_bytes(caller, generation, flagged=flagged == "include")
        return Response(content, media_type=PARQUET)


def _screening(router: APIRouter, generations: Generations) -> None:
    @router.post("/generations/{generation}/screening", status_code=202)
    def post_screening(generation: UUID, caller: Writer, response: Response) -> GenerationView:
        """Look for near copies of training images in a finished cohort, and withhold them.

        A cohort is screened before it is finished; this is for one that was not, or again.
        """
        response.headers["Location"] = f"/generations/{generation}"
        return generations.screen(caller, generation)

    @router.get("/generations/{generation}/flagged")
    def list_flagged(
        generation: UUID, caller: Reader, cursor: CursorQuery = None, limit: LimitQuery = 100
    ) -> Page[FlaggedImage]:
        """The images that are withheld, with the training images they are nearest to."""
        return generations.flagged(caller, generation, cursor, limit)

    @router.get("/generations/{generation}/likest")
    def list_likest(
        generation: UUID,
        caller: Reader,
        count: Annotated[int, Query(ge=1, le=100)] = 12,
    ) -> list[Neighbour]:
        """Of the images that are not withheld those that are likest to a training image, the
        likest first. Empty where nobody has looked for near copies.
        """
        return generations.likest(caller, generation, count)


def _generation_events(router: APIRouter, generations: Generations) -> None:
    def job(generation: UUID, caller: Reader) -> UUID:
        return generations.job(caller, generation)

    @router.get("/generations/{generation}/events", response_class=EventSourceResponse)
    async def generation_events(
        job: Annotated[UUID, Depends(job)], events: Events
    ) -> AsyncIterator[ServerSentEvent]:
        """Progress as Server-Sent Events, until the generation ends."""
        async for event in events.of(job):
            yield event
