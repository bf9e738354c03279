"""Routes of studies: plans and predictions in, results and reports out."""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal
from uuid import UUID

from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse

from api_schemas.base import Page
from api_schemas.evaluation import (
    AbsencePost,
    AbsenceView,
    Answer,
    BaselineRow,
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
    VersionView,
)
from api_schemas.findings import Finding
from services.evaluation.api.media import CSV, HTML, PARQUET, REPORT_HEADERS, TEX, shown_as
from services.evaluation.reports.tables import table_csv, table_tex
from services.evaluation.service import Absences, Answers, Details, Intake, Recomputations
from services.evaluation.service.answers import Wanted
from services.evaluation.service.problems import PredictionsTooLarge
from services.kit.auth import Reader, Writer
from services.kit.http import COUNTS_ITSELF, Admit, CursorQuery, LimitQuery

BODY_LIMIT = 256 * 2**20
PLAN_LIMIT = 4 << 20
"""Bytes of a plan: what an experiment of many arms registers."""
FILE_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "private, no-cache"}
VersionQuery = Annotated[
    int | None,
    Query(ge=1, le=2**31, description="of `GET /plans/{plan}/versions`; without it the newest"),
]


async def _bounded(request: Request) -> bytes:
    """The body, counted while it streams in; raises `PredictionsTooLarge` (413)."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > BODY_LIMIT:
            raise PredictionsTooLarge(f"At most {BODY_LIMIT // 2**20} MiB", field="body")
    return bytes(content)


@dataclass(frozen=True)
class StudyDesk:
    """What studies send, and what came out."""

    intake: Intake
    absences: Absences
    details: Details
    recomputations: Recomputations
    answers: Answers


def study_routes(study: StudyDesk) -> APIRouter:
    router = APIRouter(tags=["evaluation"])
    _plans(router, study.intake, study.absences)
    _details(router, study.details)
    _versions(router, study.intake, study.recomputations)
    _results(router, study.answers)
    _baselines(router, study.answers)
    _reports(router, study.answers)
    return router


def _plans(router: APIRouter, intake: Intake, absences: Absences) -> None:
    @router.post("/plans", status_code=201, max_body_size=PLAN_LIMIT)
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
    async def post_predictions(
        what: Annotated[PredictionsPost, Query()], request: Request, caller: Writer, admit: Admit
    ) -> PredictionsView:
        """Send the predictions of one arm and seed on one test set. The last set that the plan
        expects starts the evaluation.
        """
        content = await _bounded(request)
        async with admit():
            return await to_thread.run_sync(intake.accept, caller, what, content)


def _details(router: APIRouter, details: Details) -> None:
    @router.post("/plans/{plan}/particulars", status_code=201)
    def post_particulars(plan: UUID, body: ParticularsPost, caller: Writer) -> ParticularsView:
        """Say what became known of a plan's experiment once its data was there. Once, before its
        first predictions.
        """
        return details.add(caller, plan, body)


def _versions(router: APIRouter, intake: Intake, recomputations: Recomputations) -> None:
    @router.post("/plans/{plan}/recomputations", status_code=202)
    def post_recomputation(plan: UUID, caller: Writer, response: Response) -> PlanView:
        """Compute the results again, as a job. By another method, or from a newer manifest, they
        are a further version; the same numbers found the same way are not written twice, and
        other numbers found the same way fail the job.
        """
        recomputations.order(caller, plan)
        response.headers["Location"] = f"/plans/{plan}"
        return intake.plan(caller, plan)

    @router.get("/plans/{plan}/versions")
    def list_versions(
        plan: UUID, caller: Reader, cursor: CursorQuery = None, limit: LimitQuery = 100
    ) -> Page[VersionView]:
        """The versions of a plan's results, newest first: by which method, from which inputs."""
        return recomputations.versions(caller, plan, cursor, limit)


def _results(router: APIRouter, answers: Answers) -> None:
    @router.get("/results", response_model=Page[ResultRow], responses=shown_as(CSV))
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

    @router.get("/metrics", response_model=Page[MetricRow], responses=shown_as(CSV))
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
        wanted: Annotated[Wanted, Depends(_asked)],
        caller: Reader,
        cursor: CursorQuery = None,
        limit: LimitQuery = 100,
    ) -> Page[Answer]:
        """The further registered questions on every test set, and their answers."""
        return answers.answers(caller, wanted, cursor, limit)

    @router.get("/comparisons")
    def list_comparisons(
        wanted: Annotated[Wanted, Depends(_asked)],
        caller: Reader,
        cursor: CursorQuery = None,
        limit: LimitQuery = 100,
    ) -> Page[Comparison]:
        """The registered question on every test set, and its answer."""
        return answers.comparisons(caller, wanted, cursor, limit)


def _baselines(router: APIRouter, answers: Answers) -> None:
    @router.get("/baselines")
    def list_baselines(
        wanted: Annotated[Wanted, Depends(_asked)],
        caller: Reader,
        cursor: CursorQuery = None,
        limit: LimitQuery = 100,
    ) -> Page[BaselineRow]:
        """What border, exposure, sharpness and other trivial features of the images alone tell of
        every label on every test set. A classifier that does no better may have learnt them.
        """
        return answers.baselines(caller, wanted, cursor, limit)


def _reports(router: APIRouter, answers: Answers) -> None:
    @router.get("/reports/{experiment}", response_class=HTMLResponse, responses=shown_as(HTML))
    def get_report(wanted: Annotated[Wanted, Depends(_of_experiment)], caller: Reader) -> Response:
        """The experiment's report: one HTML page that stands alone."""
        return HTMLResponse(answers.report(caller, wanted), headers=REPORT_HEADERS)

    @router.get("/reports/{experiment}/table.csv", response_class=Response, responses=shown_as(CSV))
    def get_report_csv(
        wanted: Annotated[Wanted, Depends(_of_experiment)], caller: Reader
    ) -> Response:
        """A row for each arm on each test set, with every digit: mean AUROC over the labels,
        interval, difference, p, verdict and flags.
        """
        return _file(table_csv(answers.study(caller, wanted)), CSV)

    @router.get("/reports/{experiment}/table.tex", response_class=Response, responses=shown_as(TEX))
    def get_report_tex(
        wanted: Annotated[Wanted, Depends(_of_experiment)], caller: Reader
    ) -> Response:
        """The same as LaTeX (`booktabs`), one table a test set, with the page's numbers."""
        return _file(table_tex(answers.study(caller, wanted)), TEX)


def _file(content: str, media_type: str) -> Response:
    return PlainTextResponse(content, media_type=media_type, headers=FILE_HEADERS)


def _asked(experiment: UUID | None = None, version: VersionQuery = None) -> Wanted:
    return Wanted(experiment, version)


def _wanted(
    asked: Annotated[Wanted, Depends(_asked)],
    test: str | None = None,
    arm: str | None = None,
    label: Finding | Literal["macro"] | None = None,
    group: str | None = None,
) -> Wanted:
    return replace(asked, test=test, arm=arm, label=label, group=group)


def _wanted_metrics(
    wanted: Annotated[Wanted, Depends(_wanted)], metric: Metric | None = None
) -> Wanted:
    return replace(wanted, metric=metric)


def _of_experiment(experiment: UUID, version: VersionQuery = None) -> Wanted:
    return Wanted(experiment, version)


def _as_csv(form: str | None, accept: str) -> bool:
    preferred = accept.split(",", maxsplit=1)[0].strip()
    return form == "csv" or (form is None and preferred.startswith(CSV))


_413: dict[int | str, dict[str, Any]] = {413: {"description": "The body is too large"}}
_PREDICTIONS_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "Parquet with sample_id, patient_id, label, truth (1, 0, null) and score",
        "content": {PARQUET: {"schema": {"type": "string", "format": "binary"}}},
    }
}
