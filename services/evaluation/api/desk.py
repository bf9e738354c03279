"""Routes of what looks at sets of images, or takes one out."""

from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response
from fastapi.responses import HTMLResponse, StreamingResponse

from api_schemas.base import Page
from api_schemas.exports import ExportRequest, ExportView
from api_schemas.overlaps import OverlapRequest, OverlapView
from api_schemas.qualities import QualityRequest, QualityView
from api_schemas.shifts import Shift, ShiftQuery
from services.evaluation.api.media import HTML, REPORT_HEADERS, SVG, shown_as
from services.evaluation.reports.shift import figure
from services.evaluation.service import (
    Exports,
    Overlaps,
    Qualities,
    Shifts,
)
from services.kit.auth import Reader, Writer
from services.kit.http import CursorQuery, IdempotencyHeader, LimitQuery


@dataclass(frozen=True)
class DataDesk:
    """What looks at sets of images, or takes one out."""

    shifts: Shifts
    overlaps: Overlaps
    qualities: Qualities
    exports: Exports


def data_routes(data: DataDesk) -> APIRouter:
    router = APIRouter(tags=["evaluation"])
    _shifts(router, data.shifts)
    _overlaps(router, data.overlaps)
    _qualities(router, data.qualities)
    _exports(router, data.exports)
    return router


def _shifts(router: APIRouter, shifts: Shifts) -> None:
    @router.get("/shifts", response_model=Shift, responses=shown_as(SVG))
    def get_shift(caller: Reader, query: Annotated[ShiftQuery, Query()]) -> Any:
        """How two datasets or cohorts differ in labels, demographics and what is not stated, with
        intervals; as JSON, or as a figure (`format=svg`).
        """
        shift = shifts.compare(caller, query)
        if query.format == "svg":
            return Response(figure(shift), media_type=SVG)
        return shift


def _overlaps(router: APIRouter, overlaps: Overlaps) -> None:
    @router.post("/overlaps", status_code=202)
    def post_overlap(
        body: OverlapRequest,
        caller: Writer,
        response: Response,
        idempotency_key: IdempotencyHeader = None,
    ) -> OverlapView:
        """Find the patients and pictures that two datasets or cohorts share."""
        view = overlaps.order(caller, body, idempotency_key)
        response.headers["Location"] = f"/overlaps/{view.id}"
        return view

    @router.get("/overlaps")
    def list_overlaps(
        caller: Reader, cursor: CursorQuery = None, limit: LimitQuery = 100
    ) -> Page[OverlapView]:
        """The project's overlaps, newest first."""
        return overlaps.browse(caller, cursor, limit)

    @router.get("/overlaps/{overlap}")
    def get_overlap(overlap: UUID, caller: Reader) -> OverlapView:
        """An overlap, its job and, once that is done, what is shared."""
        return overlaps.overlap(caller, overlap)


def _qualities(router: APIRouter, qualities: Qualities) -> None:
    @router.post("/qualities", status_code=202)
    def post_quality(
        body: QualityRequest,
        caller: Writer,
        response: Response,
        idempotency_key: IdempotencyHeader = None,
    ) -> QualityView:
        """Measure how far a cohort lies from real images, and how diverse it is beside them."""
        view = qualities.order(caller, body, idempotency_key)
        response.headers["Location"] = f"/qualities/{view.id}"
        return view

    @router.get("/qualities")
    def list_qualities(
        caller: Reader, cursor: CursorQuery = None, limit: LimitQuery = 100
    ) -> Page[QualityView]:
        """The project's measured cohorts, newest first."""
        return qualities.browse(caller, cursor, limit)

    @router.get("/qualities/{quality}")
    def get_quality(quality: UUID, caller: Reader) -> QualityView:
        """What was asked, its job and, once that is done, what was measured."""
        return qualities.quality(caller, quality)

    @router.get("/qualities/{quality}/page", response_class=HTMLResponse, responses=shown_as(HTML))
    def get_quality_page(quality: UUID, caller: Reader) -> Response:
        """The same as one HTML page that stands alone, with the cohort's images that are likest
        to training images. These are looked up now: what has been deleted or withdrawn is not
        shown.
        """
        return HTMLResponse(qualities.page(caller, quality), headers=REPORT_HEADERS)


def _exports(router: APIRouter, exports: Exports) -> None:
    @router.post("/exports", status_code=202)
    def post_export(
        body: ExportRequest,
        caller: Writer,
        response: Response,
        idempotency_key: IdempotencyHeader = None,
    ) -> ExportView:
        """Take a dataset or cohort out of the suite; 403 where its terms forbid it."""
        view = exports.order(caller, body, idempotency_key)
        response.headers["Location"] = f"/exports/{view.id}"
        return view

    @router.get("/exports")
    def list_exports(
        caller: Reader, cursor: CursorQuery = None, limit: LimitQuery = 100
    ) -> Page[ExportView]:
        """The project's exports, newest first."""
        return exports.browse(caller, cursor, limit)

    @router.get("/exports/{export}")
    def get_export(export: UUID, caller: Reader) -> ExportView:
        """An export, its job and, once every image has been verified, its files."""
        return exports.export(caller, export)

    @router.get(
        "/exports/{export}/files/{name}",
        response_class=StreamingResponse,
        responses=shown_as("application/octet-stream"),
    )
    def get_export_file(export: UUID, name: str, caller: Reader) -> Response:
        """One file of an export, streamed."""
        file = exports.file(caller, export, name)
        headers = {
            "Content-Disposition": f'attachment; filename="{file.name}"',
            "Cache-Control": "private, no-store",
            "X-Content-Type-Options": "nosniff",
        }
        return StreamingResponse(file.content, media_type=file.media_type, headers=headers)
