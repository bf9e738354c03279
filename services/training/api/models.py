"""Routes of what of a classifier leaves the suite."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Response

from api_schemas.base import JobView
from services.kit.auth import Reader, Writer
from services.training.service.handing_out import HandingOut

BYTES, MARKDOWN = "application/octet-stream", "text/markdown"


def model_routes(handing_out: HandingOut) -> APIRouter:
    router = APIRouter(tags=["training"])

    @router.get(
        "/classifiers/{classifier}/model.safetensors",
        response_class=Response,
        responses=_of(BYTES),
    )
    def get_classifier_weights(classifier: UUID, caller: Reader) -> Response:
        """The weights; 403 where the terms of its data forbid that."""
        return _file(handing_out.weights(caller, classifier), f"{classifier}.safetensors")

    @router.post("/classifiers/{classifier}/model.onnx", status_code=202)
    def post_classifier_onnx(classifier: UUID, caller: Writer, response: Response) -> JobView:
        """Have the ONNX model made by a worker; asked again, the answer is the same job."""
        response.headers["Location"] = f"/classifiers/{classifier}/model.onnx"
        return handing_out.order_onnx(caller, classifier)

    @router.get(
        "/classifiers/{classifier}/model.onnx", response_class=Response, responses=_of(BYTES)
    )
    def get_classifier_onnx(classifier: UUID, caller: Reader) -> Response:
        """The ONNX model; 409 before it is made, 403 where the terms of its data forbid that."""
        return _file(handing_out.onnx(caller, classifier), f"{classifier}.onnx")

    @router.get(
        "/classifiers/{classifier}/card.md", response_class=Response, responses=_of(MARKDOWN)
    )
    def get_classifier_card(classifier: UUID, caller: Reader) -> Response:
        """What it is, what it was trained on, how good it is, and what it is not for."""
        return Response(handing_out.card(caller, classifier), media_type=MARKDOWN)

    return router


def _file(content: bytes, name: str) -> Response:
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "Cache-Control": "private, no-store",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(content, media_type=BYTES, headers=headers)


def _of(media_type: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {media_type: {"schema": {"type": "string"}}}}}
