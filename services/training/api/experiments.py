"""Routes of experiments and classifiers."""

from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api_schemas.base import DeletionView, Page
from api_schemas.planning import ExperimentPlan
from api_schemas.training import ArmView, ClassifierView, ExperimentRequest, ExperimentView
from services.kit.auth import Reader, Writer
from services.kit.deletion import Deletions, DerivedQuery
from services.kit.http import CursorQuery, Events, IdempotencyHeader, LimitQuery
from services.training.reports import learning_curves, learning_curves_png
from services.training.service.dry_runs import DryRuns
from services.training.service.experiments import Experiments
from services.training.service.predictions import StoredPredictions

SVG, PNG = "image/svg+xml", "image/png"
PARQUET = "application/vnd.apache.parquet"
EXPERIMENT_LIMIT = 4 << 20
"""Bytes of an experiment: 200 arms of many sources, each with a filter."""


def _of(media_type: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {media_type: {}}}}


def deletion_routes(experiments: Deletions) -> APIRouter:
    """To be included in the router of the others."""
    router = APIRouter()

    @router.get("/experiments/{experiment}/deletion")
    def get_experiment_deletion(experiment: UUID, caller: Reader) -> DeletionView:
        """What deleting it would take, or how far its deletion is."""
        return experiments.look(caller, experiment)

    @router.delete("/experiments/{experiment}", status_code=202)
    def delete_experiment(
        experiment: UUID, caller: Writer, response: Response, derived: DerivedQuery = False
    ) -> DeletionView:
        """Delete it with its classifiers and predictions. Its results stay on record."""
        response.headers["Location"] = f"/experiments/{experiment}/deletion"
        return experiments.delete(caller, experiment, derived=derived)

    return router


def routes(
    experiments: Experiments, dry_runs: DryRuns, predictions: StoredPredictions
) -> APIRouter:
    router = APIRouter(tags=["training"])
    _orders(router, experiments, dry_runs)
    _looks(router, experiments)
    _predictions(router, predictions)
    return router


def _orders(router: APIRouter, experiments: Experiments, dry_runs: DryRuns) -> None:
    @router.post(
        "/experiments",
        status_code=202,
        responses={200: {"model": ExperimentPlan}},
        max_body_size=EXPERIMENT_LIMIT,
    )
    def post_experiment(
        body: ExperimentRequest, caller: Writer, response: Response, key: IdempotencyHeader = None
    ) -> ExperimentView | ExperimentPlan:
        """Train classifiers: arms times seeds, compared by a plan that is registered now.

        With `dry_run` answer 200 and say what it would train, what the test sets can show, and
        how long it takes; refuse what would be refused.
        """
        if body.dry_run:
            response.status_code = 200
            return dry_runs.plan(caller, body)
        made = experiments.create(caller, body, key)
        response.headers["Location"] = f"/experiments/{made.id}"
        return made

    @router.post("/experiments/{experiment}/cancel")
    def cancel_experiment(experiment: UUID, caller: Writer) -> ExperimentView:
        """Stop it. Cancelled already: 200; finished: 409."""
        return experiments.cancel(caller, experiment)


def _looks(router: APIRouter, experiments: Experiments) -> None:
    @router.get("/experiments")
    def list_experiments(
        caller: Reader, cursor: CursorQuery = None, limit: LimitQuery = 100
    ) -> Page[ExperimentView]:
        """The project's experiments, the newest first."""
        return experiments.experiments(caller, cursor, limit)

    @router.get("/experiments/{experiment}")
    def get_experiment(experiment: UUID, caller: Reader) -> ExperimentView:
        return experiments.experiment(caller, experiment)

    @router.get("/experiments/{experiment}/arms")
    def experiment_arms(experiment: UUID, caller: Reader) -> list[ArmView]:
        """The arms as they were expanded, and how far their runs are."""
        return experiments.arms(caller, experiment)

    @router.get("/experiments/{experiment}/curves.svg", response_class=Response, responses=_of(SVG))
    def get_curves_svg(experiment: UUID, caller: Reader) -> Response:
        """Loss and AUROC of every run over its steps; grows while they train."""
        return Response(learning_curves(*experiments.curves(caller, experiment)), media_type=SVG)

    @router.get("/experiments/{experiment}/curves.png", response_class=Response, responses=_of(PNG))
    def get_curves_png(experiment: UUID, caller: Reader) -> Response:
        """The same as a picture."""
        picture = learning_curves_png(*experiments.curves(caller, experiment))
        return Response(picture, media_type=PNG)

    def visible(experiment: UUID, caller: Reader) -> ExperimentView:
        return experiments.experiment(caller, experiment)

    @router.get("/experiments/{experiment}/events", response_class=EventSourceResponse)
    async def experiment_events(
        shown: Annotated[ExperimentView, Depends(visible)],
        events: Events,
    ) -> AsyncIterator[ServerSentEvent]:
        """Progress as Server-Sent Events, from `Last-Event-ID` on, until the job has ended."""
        async for event in events.of(shown.job.id):
            yield event

    @router.get("/classifiers/{classifier}")
    def get_classifier(classifier: UUID, caller: Reader) -> ClassifierView:
        return experiments.classifier(caller, classifier)


def _predictions(router: APIRouter, predictions: StoredPredictions) -> None:
    @router.get(
        "/experiments/{experiment}/predictions",
        response_class=Response,
        responses=_of(PARQUET),
    )
    def get_experiment_predictions(
        experiment: UUID, arm: str, seed: int, test: str, caller: Reader
    ) -> Response:
        """What one arm and seed says of one test set, as it was evaluated: one row an image and
        label, as Parquet; 409 before the run has ended.
        """
        content = predictions.of_run(caller, experiment, arm, seed, test)
        return Response(content, media_type=PARQUET)
