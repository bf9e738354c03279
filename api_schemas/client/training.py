"""Experiments and classifiers."""

from collections.abc import Iterator
from uuid import UUID

from api_schemas.base import DeletionView, JobEvent, JobView
from api_schemas.client.connection import Connection
from api_schemas.planning import ExperimentPlan
from api_schemas.scorings import ScoringRequest, ScoringView
from api_schemas.training import ArmView, ClassifierView, ExperimentRequest, ExperimentView


class Training(Connection):
    """Experiments and classifiers."""

    def post_experiment(
        self, request: ExperimentRequest, *, idempotency_key: str | None = None
    ) -> ExperimentView:
        return self._post(ExperimentView, "/experiments", request, idempotency_key)

    def plan_experiment(self, request: ExperimentRequest) -> ExperimentPlan:
        """What the experiment would be; nothing is made."""
        dry = request.model_copy(update={"dry_run": True})
        return self._post(ExperimentPlan, "/experiments", dry)

    def list_experiments(self) -> Iterator[ExperimentView]:
        return self._all(ExperimentView, "/experiments")

    def get_experiment(self, experiment: UUID) -> ExperimentView:
        return self._get(ExperimentView, f"/experiments/{experiment}")

    def experiment_arms(self, experiment: UUID) -> list[ArmView]:
        return self._get(list[ArmView], f"/experiments/{experiment}/arms")

    def experiment_curves_svg(self, experiment: UUID) -> str:
        """Loss and AUROC of every run as a figure."""
        return self._ask("GET", f"/experiments/{experiment}/curves.svg").text

    def experiment_curves_png(self, experiment: UUID) -> bytes:
        return self._ask("GET", f"/experiments/{experiment}/curves.png").content

    def cancel_experiment(self, experiment: UUID) -> ExperimentView:
        return self._post(ExperimentView, f"/experiments/{experiment}/cancel")

    def experiment_deletion(self, experiment: UUID) -> DeletionView:
        return self._get(DeletionView, f"/experiments/{experiment}/deletion")

    def delete_experiment(self, experiment: UUID, *, derived: bool = False) -> DeletionView:
        return self._delete(f"/experiments/{experiment}", derived=derived)

    def experiment_events(self, experiment: UUID) -> Iterator[JobEvent]:
        return self._events(f"/experiments/{experiment}/events")

    def get_classifier(self, classifier: UUID) -> ClassifierView:
        return self._get(ClassifierView, f"/classifiers/{classifier}")

    def post_scoring(
        self, request: ScoringRequest, *, idempotency_key: str | None = None
    ) -> ScoringView:
        """Score data with a trained classifier."""
        return self._post(ScoringView, "/scorings", request, idempotency_key)

    def list_scorings(self) -> Iterator[ScoringView]:
        return self._all(ScoringView, "/scorings")

    def get_scoring(self, scoring: UUID) -> ScoringView:
        return self._get(ScoringView, f"/scorings/{scoring}")

    def experiment_predictions(self, experiment: UUID, arm: str, seed: int, test: str) -> bytes:
        """What one run of a study says of one test set: one row an image and label, as Parquet."""
        which = {"arm": arm, "seed": seed, "test": test}
        return self._ask("GET", f"/experiments/{experiment}/predictions", params=which).content

    def scoring_predictions(self, scoring: UUID) -> bytes:
        """One row an image and label, as Parquet."""
        return self._ask("GET", f"/scorings/{scoring}/predictions").content

    def cancel_scoring(self, scoring: UUID) -> ScoringView:
        return self._post(ScoringView, f"/scorings/{scoring}/cancel")

    def scoring_events(self, scoring: UUID) -> Iterator[JobEvent]:
        return self._events(f"/scorings/{scoring}/events")

    def scoring_deletion(self, scoring: UUID) -> DeletionView:
        return self._get(DeletionView, f"/scorings/{scoring}/deletion")

    def delete_scoring(self, scoring: UUID, *, derived: bool = False) -> DeletionView:
        return self._delete(f"/scorings/{scoring}", derived=derived)

    def classifier_weights(self, classifier: UUID) -> Iterator[bytes]:
        """The safetensors file, in parts as they come."""
        return self._stream(f"/classifiers/{classifier}/model.safetensors")

    def make_classifier_onnx(self, classifier: UUID) -> JobView:
        """Have the ONNX model made."""
        return self._post(JobView, f"/classifiers/{classifier}/model.onnx")

    def classifier_onnx(self, classifier: UUID) -> Iterator[bytes]:
        """The ONNX model, in parts as they come."""
        return self._stream(f"/classifiers/{classifier}/model.onnx")

    def classifier_card(self, classifier: UUID) -> str:
        """What it is, what it was trained on and how good it is, as Markdown."""
        return self._ask("GET", f"/classifiers/{classifier}/card.md").text
