"""The typed HTTP client: one method an operation. People, services and tests use the same one.

Does not retry: a POST is made safe to repeat by its Idempotency-Key.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from uuid import UUID

import httpx2
import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from api_schemas.accounts import KeyRequest, KeyView, Me, NewKey
from api_schemas.base import DeletionView, JobEvent, JobState, JobView, Page, Problem, Wire
from api_schemas.datasets import (
    DatasetView,
    Duplicate,
    Rejection,
    RejectionCode,
    Sample,
    SheetQuery,
    Summary,
    UploadView,
)
from api_schemas.evaluation import (
    Comparison,
    PlanPost,
    PlanView,
    PredictionsPost,
    PredictionsView,
    ResultRow,
)
from api_schemas.exports import ExportRequest, ExportView
from api_schemas.generation import (
    GenerateRequest,
    GenerationView,
    GeneratorRequest,
    GeneratorView,
    ImageView,
    Seen,
    TrainingSetRequest,
    WeightsKind,
)
from api_schemas.imports import FilesRequest, PhantomImport
from api_schemas.jobs import AttemptView, PriorityRequest, QueueView, ShareRequest, ShareView
from api_schemas.manifest import MANIFEST, from_parquet
from api_schemas.overlaps import OverlapRequest, OverlapView
from api_schemas.paper import PaperFile
from api_schemas.qualities import QualityRequest, QualityView
from api_schemas.screening import FlaggedImage, Neighbour
from api_schemas.selection import Filter, ViewRequest
from api_schemas.shifts import Shift, ShiftQuery
from api_schemas.terms import Licence
from api_schemas.training import ArmView, ClassifierView, ExperimentRequest, ExperimentView
from api_schemas.withdrawals import WithdrawalRequest, WithdrawalView

RECONNECTS = 5
"""How often in a row a broken stream of events is taken up again."""

UPLOAD_TIMEOUT = httpx2.Timeout(600, connect=5)
"""The answer to a large file comes when it has been put away."""

T = TypeVar("T")


class ProblemRaised(Exception):
    """The service answered with a problem document."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.title}: {problem.detail or ''} ({problem.status})")
        self.problem = problem


class JobDidNotSucceed(Exception):
    """A job that was waited for ended otherwise."""

    def __init__(self, job: JobView) -> None:
        why = job.problem.detail if job.problem else ""
        super().__init__(f"the {job.kind} job has {job.state}. {why}")
        self.job = job


class Client(AbstractContextManager["Client"]):
    """Speaks to a Synthorax deployment at `url`, with a person's `key` or ready `headers`.

    Raises `ProblemRaised` for every error answer and `httpx2.TransportError` when nobody answers.
    """

    def __init__(
        self, url: str, key: str | None = None, *, headers: Mapping[str, str] | None = None
    ) -> None:
        own = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx2.Client(
            base_url=url, headers={**own, **(headers or {})}, timeout=httpx2.Timeout(60, connect=5)
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    # ------------------------------------------------------------ the ways to ask

    def _ask(self, method: str, path: str, **more: Any) -> httpx2.Response:
        response = self._http.request(method, path, **more)
        if response.is_error:
            raise ProblemRaised(_problem(response))
        return response

    def _get(self, kind: type[T], path: str, **query: Any) -> T:
        given = {k: v for k, v in query.items() if v is not None}
        return TypeAdapter(kind).validate_json(self._ask("GET", path, params=given).content)

    def _post(
        self, kind: type[T], path: str, body: Wire | None = None, key: str | None = None
    ) -> T:
        headers = {"Content-Type": "application/json"}
        if key is not None:
            headers["Idempotency-Key"] = key
        content = None if body is None else body.model_dump_json()
        answer = self._ask("POST", path, content=content, headers=headers)
        return TypeAdapter(kind).validate_json(answer.content)

    def _delete(self, path: str, *, derived: bool) -> DeletionView:
        query = {"derived": "true"} if derived else {}
        return DeletionView.model_validate_json(self._ask("DELETE", path, params=query).content)

    def _put(self, kind: type[T], path: str, body: Wire) -> T:
        headers = {"Content-Type": "application/json"}
        answer = self._ask("PUT", path, content=body.model_dump_json(), headers=headers)
        return TypeAdapter(kind).validate_json(answer.content)

    def _all(self, kind: type[T], path: str, **query: Any) -> Iterator[T]:
        cursor: str | None = None
        while True:
            part = self._get(Page[kind], path, cursor=cursor, limit=1000, **query)
            yield from part.items
            cursor = part.next
            if cursor is None:
                return

    def _events(self, path: str) -> Iterator[JobEvent]:
        """The events to the end; a connection that breaks is made again, and none is missed."""
        seen: int | None = None
        broken = 0
        while True:
            try:
                for event in self._events_after(path, seen):
                    seen, broken = event.id, 0
                    yield event
            except httpx2.TransportError:
                broken += 1
                if broken > RECONNECTS:
                    raise
                time.sleep(broken)
            else:
                return

    def _events_after(self, path: str, seen: int | None) -> Iterator[JobEvent]:
        headers = {} if seen is None else {"Last-Event-ID": str(seen)}
        patience = httpx2.Timeout(60, connect=5)
        with self._http.stream("GET", path, headers=headers, timeout=patience) as response:
            if response.is_error:
                response.read()
                raise ProblemRaised(_problem(response))
            for line in response.iter_lines():
                if line.startswith("data:"):
                    yield JobEvent.model_validate_json(line[5:].strip())

    # ------------------------------------------------------------ accounts

    def get_me(self) -> Me:
        return self._get(Me, "/me")

    def get_queue(self) -> list[QueueView]:
        return self._get(list[QueueView], "/queue")

    def get_job(self, job: UUID) -> JobView:
        return self._get(JobView, f"/jobs/{job}")

    def list_attempts(self, job: UUID) -> list[AttemptView]:
        return self._get(list[AttemptView], f"/jobs/{job}/attempts")

    def list_job_events(self, job: UUID) -> Iterator[JobEvent]:
        return self._events(f"/jobs/{job}/events")

    def cancel_job(self, job: UUID) -> JobView:
        return self._post(JobView, f"/jobs/{job}/cancel")

    def retry_job(self, job: UUID) -> JobView:
        """Queue quarantined work again."""
        return self._post(JobView, f"/jobs/{job}/retry")

    def put_priority(self, job: UUID, request: PriorityRequest) -> JobView:
        return self._put(JobView, f"/jobs/{job}/priority", request)

    def get_share(self, person: UUID) -> ShareView:
        return self._get(ShareView, f"/shares/{person}")

    def put_share(self, person: UUID, request: ShareRequest) -> ShareView:
        return self._put(ShareView, f"/shares/{person}", request)

    def post_key(self, request: KeyRequest) -> NewKey:
        return self._post(NewKey, "/keys", request)

    def list_keys(self) -> Iterator[KeyView]:
        return self._all(KeyView, "/keys")

    def revoke_key(self, key: UUID) -> None:
        self._ask("DELETE", f"/keys/{key}")

    # ------------------------------------------------------------ datasets

    def post_dataset(
        self, request: FilesRequest | PhantomImport, *, idempotency_key: str | None = None
    ) -> DatasetView:
        return self._post(DatasetView, "/datasets", request, idempotency_key)

    def list_datasets(self) -> Iterator[DatasetView]:
        return self._all(DatasetView, "/datasets")

    def get_dataset(self, dataset: UUID) -> DatasetView:
        return self._get(DatasetView, f"/datasets/{dataset}")

    def dataset_summary(self, dataset: UUID) -> Summary:
        return self._get(Summary, f"/datasets/{dataset}/summary")

    def post_view(
        self, base: UUID, request: ViewRequest, *, idempotency_key: str | None = None
    ) -> DatasetView:
        return self._post(DatasetView, f"/datasets/{base}/views", request, idempotency_key)

    def put_licence(self, dataset: UUID, licence: Licence) -> DatasetView:
        answer = self._ask(
            "PUT", f"/datasets/{dataset}/licence", json=licence.model_dump(mode="json")
        )
        return DatasetView.model_validate_json(answer.content)

    def dataset_samples(self, dataset: UUID, where: Filter | None = None) -> Iterator[Sample]:
        """The samples, or those that meet a filter."""
        query = {} if where is None else where.model_dump(mode="json", exclude_defaults=True)
        return self._all(Sample, f"/datasets/{dataset}/samples", **query)

    def dataset_sheet(self, dataset: UUID, query: SheetQuery | None = None) -> bytes:
        """A contact sheet (PNG), for the dataset's owner."""
        given = (query or SheetQuery()).model_dump(mode="json", exclude_defaults=True)
        return self._ask("GET", f"/datasets/{dataset}/sheet.png", params=given).content

    def dataset_sample_png(self, dataset: UUID, sample_id: str) -> bytes:
        return self._ask("GET", f"/datasets/{dataset}/samples/{sample_id}.png").content

    def dataset_rejections(
        self, dataset: UUID, *, code: RejectionCode | None = None
    ) -> Iterator[Rejection]:
        return self._all(Rejection, f"/datasets/{dataset}/rejections", code=code)

    def dataset_duplicates(self, dataset: UUID) -> Iterator[Duplicate]:
        return self._all(Duplicate, f"/datasets/{dataset}/duplicates")

    def dataset_manifest(self, dataset: UUID) -> pa.Table:
        """The manifest table (`api_schemas.manifest.MANIFEST`)."""
        return from_parquet(self._ask("GET", f"/datasets/{dataset}/manifest").content, MANIFEST)

    def dataset_paper_file(self, dataset: UUID, name: PaperFile) -> str:
        """One of the paper's own files, as CSV; of a cohort, `paper_file(cohort_manifest(...))`."""
        return self._ask("GET", f"/datasets/{dataset}/paper/{name}").text

    def dataset_deletion(self, dataset: UUID) -> DeletionView:
        """What deleting it would take, or how far its deletion is."""
        return self._get(DeletionView, f"/datasets/{dataset}/deletion")

    def delete_dataset(self, dataset: UUID, *, derived: bool = False) -> DeletionView:
        """Delete it; with `derived` also everything made from it."""
        return self._delete(f"/datasets/{dataset}", derived=derived)

    def cancel_dataset(self, dataset: UUID) -> DatasetView:
        return self._post(DatasetView, f"/datasets/{dataset}/cancel")

    def dataset_events(self, dataset: UUID) -> Iterator[JobEvent]:
        return self._events(f"/datasets/{dataset}/events")

    def post_withdrawal(
        self, request: WithdrawalRequest, *, idempotency_key: str | None = None
    ) -> WithdrawalView:
        return self._post(WithdrawalView, "/withdrawals", request, idempotency_key)

    def list_withdrawals(self) -> Iterator[WithdrawalView]:
        return self._all(WithdrawalView, "/withdrawals")

    def get_withdrawal(self, withdrawal: UUID) -> WithdrawalView:
        return self._get(WithdrawalView, f"/withdrawals/{withdrawal}")

    def post_upload(self, content: bytes | Iterable[bytes]) -> UploadView:
        """Send an archive: its bytes, or its blocks one after the other."""
        headers = {"Content-Type": "application/octet-stream"}
        answer = self._ask("POST", "/uploads", content=content, headers=headers)
        return UploadView.model_validate_json(answer.content)

    def delete_upload(self, upload: UUID) -> None:
        self._ask("DELETE", f"/uploads/{upload}")

    # ------------------------------------------------------------ generation

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

    # ------------------------------------------------------------ training

    def post_experiment(
        self, request: ExperimentRequest, *, idempotency_key: str | None = None
    ) -> ExperimentView:
        return self._post(ExperimentView, "/experiments", request, idempotency_key)

    def list_experiments(self) -> Iterator[ExperimentView]:
        return self._all(ExperimentView, "/experiments")

    def get_experiment(self, experiment: UUID) -> ExperimentView:
        return self._get(ExperimentView, f"/experiments/{experiment}")

    def experiment_arms(self, experiment: UUID) -> list[ArmView]:
        return self._get(list[ArmView], f"/experiments/{experiment}/arms")

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

    # ------------------------------------------------------------ evaluation

    def register_plan(self, plan: PlanPost) -> PlanView:
        return self._post(PlanView, "/plans", plan)

    def get_plan(self, plan: UUID) -> PlanView:
        return self._get(PlanView, f"/plans/{plan}")

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
        """Rows of `/results`; `filters` are `arm`, `test` and `label`."""
        return self._all(ResultRow, "/results", experiment=experiment, **filters)

    def results_csv(self, experiment: UUID) -> str:
        query = {"experiment": str(experiment), "format": "csv"}
        return self._ask("GET", "/results", params=query).text

    def comparisons(self, experiment: UUID) -> Iterator[Comparison]:
        return self._all(Comparison, "/comparisons", experiment=experiment)

    def report(self, experiment: UUID) -> str:
        """The experiment's report as one HTML page."""
        return self._ask("GET", f"/reports/{experiment}").text

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
        with self._http.stream("GET", f"/exports/{export}/files/{name}") as response:
            if response.is_error:
                response.read()
                raise ProblemRaised(_problem(response))
            yield from response.iter_bytes()


def wait(
    look: Callable[[], JobView],
    *,
    limit_s: float,
    poll_s: float = 0.25,
    seen: Callable[[JobView], None] = lambda _: None,
) -> JobView:
    """Poll a job until it has succeeded; `seen` gets every look.

    Raises `JobDidNotSucceed` when it ended otherwise and `TimeoutError` after `limit_s`.
    """
    end = time.monotonic() + limit_s
    while True:
        job = look()
        seen(job)
        if job.state is JobState.SUCCEEDED:
            return job
        if job.state.terminal:
            raise JobDidNotSucceed(job)
        if time.monotonic() > end:
            raise TimeoutError(f"the {job.kind} job is still {job.state} after {limit_s:.0f} s")
        time.sleep(poll_s)


def _problem(response: httpx2.Response) -> Problem:
    try:
        return Problem.model_validate_json(response.content)
    except ValidationError:
        return Problem(
            type="urn:synthorax:problem:http",
            title=f"{response.status_code} {response.reason_phrase}",
            status=response.status_code,
        )
