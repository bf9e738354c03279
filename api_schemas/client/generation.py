"""Generators and cohorts."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pyarrow as pa

from api_schemas.base import DeletionView, JobEvent
from api_schemas.client.connection import UPLOAD_TIMEOUT, Connection
from api_schemas.generation import GenerateRequest, GenerationView, ImageView
from api_schemas.generators import (
    GeneratorRequest,
    GeneratorView,
    Seen,
    TrainingSetRequest,
    WeightsKind,
)
from api_schemas.manifest import MANIFEST, from_parquet
from api_schemas.screening import FlaggedImage, Neighbour


class Generation(Connection):
    """Generators and cohorts."""

    def post_generator(
        self, request: GeneratorRequest, *, idempotency_key: str | None = None
    ) -> GeneratorView:
        return self._post(GeneratorView, "/generators", request, idempotency_key)

    def import_generator(
        self,
        name: str,
        file: Path,
        *,
        weights: WeightsKind = "ema",
        idempotency_key: str | None = None,
    ) -> GeneratorView:
        """Send a checkpoint of the authors' package."""
        with file.open("rb") as content:
            answer = self._ask(
                "POST",
                "/generators/import",
                data={"name": name, "weights": weights},
                files={"file": (file.name, content)},
                headers={} if idempotency_key is None else {"Idempotency-Key": idempotency_key},
                timeout=UPLOAD_TIMEOUT,
            )
        return GeneratorView.model_validate_json(answer.content)

    def name_training_set(self, generator: UUID, request: TrainingSetRequest) -> GeneratorView:
        """Say whom an imported generator was trained on."""
        return self._put(GeneratorView, f"/generators/{generator}/training-set", request)

    def list_generators(self) -> Iterator[GeneratorView]:
        return self._all(GeneratorView, "/generators")

    def get_generator(self, generator: UUID) -> GeneratorView:
        return self._get(GeneratorView, f"/generators/{generator}")

    def generator_losses_svg(self, generator: UUID) -> str:
        """The loss curve as a figure."""
        return self._ask("GET", f"/generators/{generator}/losses.svg").text

    def generator_preview(self, generator: UUID, step: int) -> bytes:
        """A contact sheet (PNG) of what the training had learnt at a step."""
        return self._ask("GET", f"/generators/{generator}/previews/{step}.png").content

    def generator_seen(self, generator: UUID) -> Seen:
        """The patients and images that the generator was trained on."""
        return self._get(Seen, f"/generators/{generator}/seen")

    def cancel_generator(self, generator: UUID) -> GeneratorView:
        return self._post(GeneratorView, f"/generators/{generator}/cancel")

    def generator_deletion(self, generator: UUID) -> DeletionView:
        return self._get(DeletionView, f"/generators/{generator}/deletion")

    def delete_generator(self, generator: UUID, *, derived: bool = False) -> DeletionView:
        return self._delete(f"/generators/{generator}", derived=derived)

    def generator_events(self, generator: UUID) -> Iterator[JobEvent]:
        return self._events(f"/generators/{generator}/events")

    def post_generate(
        self, request: GenerateRequest, *, idempotency_key: str | None = None
    ) -> GenerationView:
        return self._post(GenerationView, "/generate", request, idempotency_key)

    def list_generations(self) -> Iterator[GenerationView]:
        return self._all(GenerationView, "/generations")

    def get_generation(self, generation: UUID) -> GenerationView:
        return self._get(GenerationView, f"/generations/{generation}")

    def generation_images(self, generation: UUID) -> Iterator[ImageView]:
        return self._all(ImageView, f"/generations/{generation}/images")

    def generation_image_png(self, generation: UUID, index: int) -> bytes:
        return self._ask("GET", f"/generations/{generation}/images/{index}.png").content

    def cohort_manifest(self, generation: UUID, *, flagged: bool = False) -> pa.Table:
        """The cohort's manifest table (`api_schemas.manifest.MANIFEST`).

        `flagged`: with the images that are withheld as near copies of training images.
        """
        path = f"/generations/{generation}/manifest" + ("?flagged=include" if flagged else "")
        return from_parquet(self._ask("GET", path).content, MANIFEST)

    def screen_generation(self, generation: UUID) -> GenerationView:
        """Look for near copies of training images in a finished cohort."""
        return self._post(GenerationView, f"/generations/{generation}/screening")

    def flagged_images(self, generation: UUID) -> Iterator[FlaggedImage]:
        """The images that are withheld, with the training images they are nearest to."""
        return self._all(FlaggedImage, f"/generations/{generation}/flagged")

    def likest_images(self, generation: UUID, count: int = 12) -> list[Neighbour]:
        """The released images that are likest to a training image, the likest first."""
        return self._get(list[Neighbour], f"/generations/{generation}/likest", count=count)

    def cancel_generation(self, generation: UUID) -> GenerationView:
        return self._post(GenerationView, f"/generations/{generation}/cancel")

    def generation_deletion(self, generation: UUID) -> DeletionView:
        return self._get(DeletionView, f"/generations/{generation}/deletion")

    def delete_generation(self, generation: UUID, *, derived: bool = False) -> DeletionView:
        return self._delete(f"/generations/{generation}", derived=derived)

    def generation_events(self, generation: UUID) -> Iterator[JobEvent]:
        return self._events(f"/generations/{generation}/events")
