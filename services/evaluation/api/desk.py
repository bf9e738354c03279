"""Routes of studies, and of what looks at sets of images."""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse, StreamingResponse

from api_schemas.base import Page
from api_schemas.evaluation import (
    AbsencePost,
    AbsenceView,
    Answer,
    Comparison,
    Metric,
    MetricRow,
    ParticularsPost,
    ParticularsView,
    PlanPost,
    PlanView,
    PredictionsPost,
    PredictionsView,
    ResultRow,
)
from api_schemas.exports import ExportRequest, ExportView
from api_schemas.overlaps import OverlapRequest, OverlapView
from api_schemas.qualities import QualityRequest, QualityView
from api_schemas.shifts import Shift, ShiftQuery
from services.evaluation.reports.policy import CONTENT_SECURITY_POLICY
from services.evaluation.reports.shift import figure
from services.evaluation.reports.tables import table_csv, table_tex
from services.evaluation.service import (
    Absences,
    Answers,
    Details,
    Exports,
    Intake,
    Overlaps,
    Qualities,
    Shifts,
)
from services.evaluation.service.answers import Wanted
from services.evaluation.service.problems import PredictionsTooLarge
from services.kit.auth import Reader, Writer
from services.kit.http import COUNTS_ITSELF, CursorQuery, IdempotencyHeader, LimitQuery

PARQUET = "application/vnd.apache.parquet"
CSV = "text/csv"
HTML = "text/html"
SVG = "image/svg+xml"
TEX = "application/x-tex"
BODY_LIMIT = 256 * 2**20

REPORT_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-cache",
}
FILE_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "private, no-cache"}


async def _bounded(request: Request) -> bytes:
    """The body, counted while it streams in; raises `PredictionsTooLarge` (413)."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > BODY_LIMIT:
            raise PredictionsTooLarge(f"At most {BODY_LIMIT // 2**20} MiB", field="body")
    return bytes(content)


@dataclass(frozen=True)
class DataDesk:
    """What looks at sets of images, or takes one out."""

    shifts: Shifts
    overlaps: Overlaps
    qualities: Qualities
    exports: Exports


def routes(
    intake: Intake, absences: Absences, details: Details, answers: Answers, data: DataDesk
) -> APIRouter:
    router = APIRouter(tags=["evaluation"])
    _incoming(router, intake, absences)
    _details(router, details)
    _outgoing(router, answers)
    _shifts(router, data.shifts)
    _overlaps(router, data.overlaps)
    _qualities(router, data.qualities)
    _exports(router, data.exports)
    return router


def _incoming(router: APIRouter, intake: Intake, absences: Absences) -> None:
    @router.post("/plans", status_code=201)
    def post_plan(body: PlanPost, caller: Writer, response: Response) -> PlanView:
        """Register the analysis of an experiment. The same plan again answers the first one."""
        view = intake.register(caller, body)
        response.headers["Location"] = f"/plans/{view.id}"
        return view

    @router.get("/plans/{plan}")
    def get_plan(plan: UUID, caller: Reader) -> PlanView:
        """A plan, how many prediction sets it has received, and its evaluation's job."""
        return intake.plan(caller, plan)

    @router.post("/plans/{plan}/absences", status_code=201)
    def post_absence(plan: UUID, body: AbsencePost, caller: Writer) -> AbsenceView:
        """Say that the predictions of an arm and seed will never come: its run failed for good.
        What else has come, or the last of it, is then evaluated without.
        """
        return absences.forgo(caller, plan, body)

    @router.post(
        "/predictions",
        status_code=201,
        openapi_extra=_PREDICTIONS_BODY,
        responses=_413,
        max_body_size=COUNTS_ITSELF,
    )
    def post_predictions(
        what: Annotated[PredictionsPost, Query()],
        content: Annotated[bytes, Depends(_bounded)],
        caller: Writer,
    ) -> PredictionsView:
        """Send the predictions of one arm and seed on one test set. The last set that the plan
        expects starts the evaluation.
        """
        return intake.accept(caller, what, content)


def _details(router: APIRouter, details: Details) -> None:
    @router.post("/plans/{plan}/particulars", status_code=201)
    def post_particulars(plan: UUID, body: ParticularsPost, caller: Writer) -> ParticularsView:
        """Say what became known of a plan's experiment once its data was there. Once, before its
        first predictions.
        """
        return details.add(caller, plan, body)


def _outgoing(router: APIRouter, answers: Answers) -> None:
    @router.get("/results", response_model=Page[ResultRow], responses=_of(CSV))
    def list_results(
        wanted: Annotated[Wanted, Depends(_wanted)],
        caller: Reader,
        cursor: CursorQuery = None,
        limit: LimitQuery = 100,
        form: Annotated[Literal["json", "csv"] | None, Query(alias="format")] = None,
        accept: Annotated[str, Header(include_in_schema=False)] = "",
    ) -> Any:
        """Every test set, arm and label: AUROC, intervals, differences to the reference.

        Over all images; of one group with its name as `group`, of every group with `group=any`.
        CSV (`format=csv`, or `Accept: text/csv`) holds all lines at once and the same numbers.
        """
        if _as_csv(form, accept):
            return PlainTextResponse(answers.results_csv(caller, wanted), media_type=CSV)
        return answers.results(caller, wanted, cursor, limit)

    @router.get("/metrics", response_model=Page[MetricRow], responses=_of(CSV))
    def list_metrics(
        wanted: Annotated[Wanted, Depends(_wanted_metrics)],
        caller: Reader,
        cursor: CursorQuery = None,
        limit: LimitQuery = 100,
        form: Annotated[Literal["json", "csv"] | None, Query(alias="format")] = None,
        accept: Annotated[str, Header(include_in_schema=False)] = "",
    ) -> Any:
        """What else than AUROC was measured: precision, rates at operating points, calibration;
        and, of groups, underdiagnosis and the gaps between them.

        Over all images; of one group with its name as `group`, of every group with `group=any`.
        """
        if _as_csv(form, accept):
            return PlainTextResponse(answers.metrics_csv(caller, wanted), media_type=CSV)
        return answers.metrics(caller, wanted, cursor, limit)

    @router.get("/answers")
    def list_answers(
        caller: Reader,
        experiment: UUID | None = None,
        cursor: CursorQuery = None,
        limit: LimitQuery = 100,
    ) -> Page[Answer]:
        """The further registered questions on every test set, and their answers."""
        return answers.answers(caller, experiment, cursor, limit)

    @router.get("/comparisons")
    def list_comparisons(
        caller: Reader,
        experiment: UUID | None = None,
        cursor: CursorQuery = None,
        limit: LimitQuery = 100,
    ) -> Page[Comparison]:
        """The registered question on every test set, and its answer."""
        return answers.comparisons(caller, experiment, cursor, limit)

    @router.get("/reports/{experiment}", response_class=HTMLResponse, responses=_of(HTML))
    def get_report(experiment: UUID, caller: Reader) -> Response:
        """The experiment's report: one HTML page that stands alone."""
        return HTMLResponse(answers.report(caller, experiment), headers=REPORT_HEADERS)

    @router.get("/reports/{experiment}/table.csv", response_class=Response, responses=_of(CSV))
    def get_report_csv(experiment: UUID, caller: Reader) -> Response:
        """A row for each arm on each test set, with every digit: mean AUROC over the labels,
        interval, difference, p, verdict and flags.
        """
        return _file(table_csv(answers.study(caller, experiment)), CSV)

    @router.get("/reports/{experiment}/table.tex", response_class=Response, responses=_of(TEX))
    def get_report_tex(experiment: UUID, caller: Reader) -> Response:
        """The same as LaTeX (`booktabs`), one table a test set, with the page's numbers."""
        return _file(table_tex(answers.study(caller, experiment)), TEX)


def _file(content: str, media_type: str) -> Response:
    return PlainTextResponse(content, media_type=media_type, headers=FILE_HEADERS)


def _shifts(router: APIRouter, shifts: Shifts) -> None:
    @router.get("/shifts", response_model=Shift, responses=_of(SVG))
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

    @router.get("/qualities/{quality}/page", response_class=HTMLResponse, responses=_of(HTML))
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
        responses=_of("application/octet-stream"),
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


def _wanted(
    experiment: UUID | None = None,
    test: str | None = None,
    arm: str | None = None,
    label: str | None = None,
    group: str | None = None,
) -> Wanted:
    return Wanted(experiment, test, arm, label, group)


def _wanted_metrics(
    wanted: Annotated[Wanted, Depends(_wanted)], metric: Metric | None = None
) -> Wanted:
    return replace(wanted, metric=metric)


def _as_csv(form: str | None, accept: str) -> bool:
    preferred = accept.split(",", maxsplit=1)[0].strip()
    return form == "csv" or (form is None and preferred.startswith(CSV))


def _of(media_type: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {media_type: {"schema": {"type": "string"}}}}}


_413: dict[int | str, dict[str, Any]] = {413: {"description": "The body is too large"}}
_PREDICTIONS_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "Parquet with sample_id, patient_id, label, truth (1, 0, null) and score",
        "content": {PARQUET: {"schema": {"type": "string", "format": "binary"}}},
    }
}
