"""Plans, predictions, results, and what looks at two sets."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID

from api_schemas.base import DeletionView, JobEvent
from api_schemas.client.connection import UPLOAD_TIMEOUT, Connection
from api_schemas.evaluation import (
    AbsencePost,
    AbsenceView,
    Answer,
    BaselineRow,
    Comparison,
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
from api_schemas.evaluations import EvaluationPost, EvaluationView
from api_schemas.exports import ExportRequest, ExportView
from api_schemas.features import FeaturesPost, FeaturesView
from api_schemas.overlaps import OverlapRequest, OverlapView
from api_schemas.qualities import QualityRequest, QualityView
from api_schemas.shifts import Shift, ShiftQuery


class Evaluation(Connection):
    """Plans, predictions, results, and what looks at two sets."""

    def register_plan(self, plan: PlanPost) -> PlanView:
        return self._post(PlanView, "/plans", plan)

    def get_plan(self, plan: UUID) -> PlanView:
        return self._get(PlanView, f"/plans/{plan}")

    def recompute_plan(self, plan: UUID) -> PlanView:
        """Compute the results again; its job is the plan's."""
        return self._post(PlanView, f"/plans/{plan}/recomputations")

    def plan_versions(self, plan: UUID) -> Iterator[VersionView]:
        """The versions of its results, newest first."""
        return self._all(VersionView, f"/plans/{plan}/versions")

    def forgo_predictions(self, plan: UUID, what: AbsencePost) -> AbsenceView:
        """Say that predictions will never come."""
        return self._post(AbsenceView, f"/plans/{plan}/absences", what)

    def add_particulars(self, plan: UUID, what: ParticularsPost) -> ParticularsView:
        """Say what became known once the data was there."""
        return self._post(ParticularsView, f"/plans/{plan}/particulars", what)

    def push_predictions(self, what: PredictionsPost, content: bytes) -> PredictionsView:
        """`content` is a Parquet table (`api_schemas.manifest.PREDICTIONS`)."""
        answer = self._ask(
            "POST",
            "/predictions",
            params=what.model_dump(mode="json"),
            content=content,
            headers={"Content-Type": "application/vnd.apache.parquet"},
        )
        return PredictionsView.model_validate_json(answer.content)

    def results(self, experiment: UUID, **filters: str) -> Iterator[ResultRow]:
        """Rows of `/results`; `filters` are `arm`, `test`, `label`, `group` and `version`.

        Without a group they are over all images, with `group="any"` of every group.
        """
        return self._all(ResultRow, "/results", experiment=experiment, **filters)

    def results_csv(self, experiment: UUID) -> str:
        query = {"experiment": str(experiment), "format": "csv"}
        return self._ask("GET", "/results", params=query).text

    def metrics(self, experiment: UUID, **filters: str) -> Iterator[MetricRow]:
        """Rows of `/metrics`; `filters` are those of `results`, and `metric`."""
        return self._all(MetricRow, "/metrics", experiment=experiment, **filters)

    def metrics_csv(self, experiment: UUID, **filters: str) -> str:
        query = {"experiment": str(experiment), "format": "csv", **filters}
        return self._ask("GET", "/metrics", params=query).text

    def answers(self, experiment: UUID) -> Iterator[Answer]:
        """The further registered questions, answered."""
        return self._all(Answer, "/answers", experiment=experiment)

    def comparisons(self, experiment: UUID) -> Iterator[Comparison]:
        return self._all(Comparison, "/comparisons", experiment=experiment)

    def baselines(self, experiment: UUID) -> Iterator[BaselineRow]:
        """What trivial features of the images alone tell of every label."""
        return self._all(BaselineRow, "/baselines", experiment=experiment)

    def report(self, experiment: UUID) -> str:
        """The experiment's report as one HTML page."""
        return self._ask("GET", f"/reports/{experiment}").text

    def report_csv(self, experiment: UUID) -> str:
        """Its table: a row for each arm on each test set."""
        return self._ask("GET", f"/reports/{experiment}/table.csv").text

    def report_tex(self, experiment: UUID) -> str:
        """The same as LaTeX."""
        return self._ask("GET", f"/reports/{experiment}/table.tex").text

    def post_evaluation(
        self,
        request: EvaluationPost,
        file: Path,
        *,
        reference: Path | None = None,
        idempotency_key: str | None = None,
    ) -> EvaluationView:
        """Send predictions of any classifier, CSV or Parquet."""
        paths = {"file": file} if reference is None else {"file": file, "reference": reference}
        with ExitStack() as opened:
            answer = self._ask(
                "POST",
                "/evaluations",
                data=request.model_dump(mode="json", exclude_none=True),
                files={
                    field: (path.name, opened.enter_context(path.open("rb")))
                    for field, path in paths.items()
                },
                headers={} if idempotency_key is None else {"Idempotency-Key": idempotency_key},
                timeout=UPLOAD_TIMEOUT,
            )
        return EvaluationView.model_validate_json(answer.content)

    def list_evaluations(self) -> Iterator[EvaluationView]:
        return self._all(EvaluationView, "/evaluations")

    def get_evaluation(self, evaluation: UUID) -> EvaluationView:
        return self._get(EvaluationView, f"/evaluations/{evaluation}")

    def cancel_evaluation(self, evaluation: UUID) -> EvaluationView:
        return self._post(EvaluationView, f"/evaluations/{evaluation}/cancel")

    def evaluation_events(self, evaluation: UUID) -> Iterator[JobEvent]:
        return self._events(f"/evaluations/{evaluation}/events")

    def evaluation_deletion(self, evaluation: UUID) -> DeletionView:
        return self._get(DeletionView, f"/evaluations/{evaluation}/deletion")

    def delete_evaluation(self, evaluation: UUID, *, derived: bool = False) -> DeletionView:
        return self._delete(f"/evaluations/{evaluation}", derived=derived)

    def post_features(
        self, request: FeaturesPost, file: Path, *, idempotency_key: str | None = None
    ) -> FeaturesView:
        """Give features of images, Parquet or npz."""
        with file.open("rb") as content:
            answer = self._ask(
                "POST",
                "/features",
                data=request.model_dump(mode="json"),
                files={"file": (file.name, content)},
                headers={} if idempotency_key is None else {"Idempotency-Key": idempotency_key},
                timeout=UPLOAD_TIMEOUT,
            )
        return FeaturesView.model_validate_json(answer.content)

    def list_features(self) -> Iterator[FeaturesView]:
        return self._all(FeaturesView, "/features")

    def get_features(self, table: UUID) -> FeaturesView:
        return self._get(FeaturesView, f"/features/{table}")

    def features_deletion(self, table: UUID) -> DeletionView:
        return self._get(DeletionView, f"/features/{table}/deletion")

    def delete_features(self, table: UUID, *, derived: bool = False) -> DeletionView:
        return self._delete(f"/features/{table}", derived=derived)

    def shift(self, query: ShiftQuery) -> Shift:
        """How two datasets or cohorts differ."""
        return self._get(Shift, "/shifts", **query.model_dump(mode="json") | {"format": None})

    def shift_figure(self, query: ShiftQuery) -> str:
        """The same as a figure (SVG)."""
        params = query.model_dump(mode="json") | {"format": "svg"}
        return self._ask("GET", "/shifts", params=params).text

    def post_overlap(
        self, request: OverlapRequest, *, idempotency_key: str | None = None
    ) -> OverlapView:
        return self._post(OverlapView, "/overlaps", request, idempotency_key)

    def list_overlaps(self) -> Iterator[OverlapView]:
        return self._all(OverlapView, "/overlaps")

    def get_overlap(self, overlap: UUID) -> OverlapView:
        return self._get(OverlapView, f"/overlaps/{overlap}")

    def post_quality(
        self, request: QualityRequest, *, idempotency_key: str | None = None
    ) -> QualityView:
        """Measure a cohort against real images."""
        return self._post(QualityView, "/qualities", request, idempotency_key)

    def list_qualities(self) -> Iterator[QualityView]:
        return self._all(QualityView, "/qualities")

    def get_quality(self, quality: UUID) -> QualityView:
        return self._get(QualityView, f"/qualities/{quality}")

    def quality_page(self, quality: UUID) -> str:
        """The same with pictures, as one HTML page."""
        return self._ask("GET", f"/qualities/{quality}/page").text

    def post_export(
        self, request: ExportRequest, *, idempotency_key: str | None = None
    ) -> ExportView:
        return self._post(ExportView, "/exports", request, idempotency_key)

    def list_exports(self) -> Iterator[ExportView]:
        return self._all(ExportView, "/exports")

    def get_export(self, export: UUID) -> ExportView:
        return self._get(ExportView, f"/exports/{export}")

    def export_file(self, export: UUID, name: str) -> Iterator[bytes]:
        """A file of an export, in parts as they come."""
        return self._stream(f"/exports/{export}/files/{name}")
