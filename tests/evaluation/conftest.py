"""A study that can be sent to the evaluation service, on the real servers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest

from api_schemas.generation import GenerationView
from services.datasets.main import compose as compose_datasets
from services.datasets.worker import handlers as dataset_handlers
from services.evaluation.main import compose
from services.evaluation.reports.facts import Report
from services.evaluation.service import (
    EXPORT,
    JUDGE,
    OVERLAP,
    QUALITY,
    FindOverlap,
    GivenTables,
    Judge,
    MeasureQuality,
    Stock,
    Verify,
)
from services.evaluation.service.evaluate import Evaluate
from services.evaluation.service.sources import Sources
from services.kit.adapters import Adapters
from services.kit.auth import Caller
from services.kit.errors import ProblemError
from services.kit.jobs import Lease, NewJob
from tests.evaluation.study import ARMS, SEEDS, TESTS, Shelf, content, plan


@pytest.fixture
def shelf(adapters) -> Shelf:
    return Shelf(adapters.store)


@pytest.fixture
def data(shelf, ada) -> UUID:
    """A dataset of ada's that the test sets come from."""
    return shelf.add_dataset(ada.caller)


@pytest.fixture
def part(adapters, shelf):
    return compose(adapters, datasets=shelf, generations=shelf)


@pytest.fixture
def http(part, browse, ada):
    return browse(part.router, member=ada)


@pytest.fixture
def trainer(part, browse, ada, adapters):
    """The training service, which acts for ada."""
    client = browse(part.router)
    client.headers |= {
        "Authorization": f"Service {adapters.settings.service_secret.get_secret_value()}",
        "Synthorax-Person": str(ada.caller.person),
        "Synthorax-Project": str(ada.caller.project),
    }
    return client


@pytest.fixture
def registered(http, data) -> Callable[..., dict]:
    """Register the plan of a new experiment, with changes."""

    def register(**changes: Any) -> dict:
        answer = http.post("/plans", json=plan(uuid4(), data, **changes))
        assert answer.status_code == 201, answer.text
        return answer.json()

    return register


@pytest.fixture
def send(http) -> Callable[..., object]:
    """Send one set of predictions and get the response."""

    def post(plan_id: str, test: str, arm: str, seed: int, body: bytes | None = None):
        return http.post(
            "/predictions",
            params={"plan": plan_id, "arm": arm, "seed": seed, "test": test},
            content=content(test, arm, seed) if body is None else body,
        )

    return post


@pytest.fixture
def send_all(send) -> Callable[[str], None]:
    def post(plan_id: str) -> None:
        for test in TESTS:
            for arm in ARMS:
                for seed in SEEDS:
                    answer = send(plan_id, test, arm, seed)
                    assert answer.status_code == 201, answer.text

    return post


@pytest.fixture
def evaluate(adapters, shelf, work) -> Callable[..., int]:
    """Run evaluations until none is left; figures take a second, so most tests go without."""
    sources = Sources(adapters.store, shelf, shelf)

    def run(render: Callable[[Report], str] = lambda _: "a report") -> int:
        handler = Evaluate(adapters.db, adapters.store, sources, render)
        return work("evaluation", "evaluation", {"evaluate": handler})

    return run


@pytest.fixture
def hospital(adapters, ada, browse, work) -> Callable[..., UUID]:
    """A finished dataset of phantoms in the real datasets service: `hospital("phantom-b")`."""
    http = browse(compose_datasets(adapters).router, member=ada)

    def make(site: str = "phantom-a", patients: int = 40, seed: int = 1, size_px: int = 64) -> UUID:
        body = {"format": "phantom", "name": f"Phantoms {site}", "site": site}
        body |= {"patients": patients, "size_px": size_px, "seed": seed}
        made = http.post("/datasets", json=body).json()["id"]
        work("datasets", "cpu", dataset_handlers(adapters))
        return UUID(made)

    return make


@dataclass
class Rendering:
    """Makes a cohort of the shelf one that is still being rendered, and ends that."""

    adapters: Adapters
    shelf: Shelf
    caller: Caller
    work: Callable[..., int]
    finished: dict[UUID, GenerationView] = field(default_factory=dict)

    def begin(self, cohort: UUID, images: int = 100) -> None:
        caller, view, table = self.shelf.cohorts[cohort]
        with self.adapters.db.transaction() as tx:
            new = NewJob("stub", "generate", "stub", self.caller, cohort, {}, [{}])
            job = self.adapters.jobs.view(tx, self.adapters.jobs.submit(tx, new))
        self.finished.setdefault(cohort, view)
        unfinished = view.model_copy(update={"manifest": None, "job": job, "images": images})
        self.shelf.cohorts[cohort] = (caller, unfinished, table)

    def end(self, cohort: UUID, problem: ProblemError | None = None) -> None:
        def handler(lease: Lease) -> None:
            if problem is not None:
                raise problem
            with lease.finishing():
                pass

        self.work("stub", "stub", {"generate": handler})
        caller, _, table = self.shelf.cohorts[cohort]
        if problem is None:
            self.shelf.cohorts[cohort] = (caller, self.finished[cohort], table)


@pytest.fixture
def rendering(adapters, shelf, ada, work) -> Rendering:
    return Rendering(adapters, shelf, ada.caller, work)


@pytest.fixture
def registry(adapters, ada, browse, work):
    """The datasets service over HTTP, and its worker: `registry.post(...)`, `registry.work()`."""
    http = browse(compose_datasets(adapters).router, member=ada)
    http.work = lambda: work("datasets", "cpu", dataset_handlers(adapters))
    return http


@pytest.fixture
def desk(adapters, shelf, browse, ada):
    """Evaluation over HTTP beside the real datasets service; cohorts are on the shelf."""
    part = compose(adapters, datasets=compose_datasets(adapters).provider, generations=shelf)
    return browse(part.router, member=ada)


@pytest.fixture
def look(adapters, shelf, work) -> Callable[[], int]:
    """Run the worker's overlaps, qualities, exports and judgements until none is left."""
    stock = Stock(adapters.store, compose_datasets(adapters).provider, shelf)
    handlers = {
        OVERLAP: FindOverlap(stock),
        QUALITY: MeasureQuality(stock, GivenTables(adapters.db, adapters.store)),
        EXPORT: Verify(adapters.db, stock),
        JUDGE: Judge(adapters.db, adapters.store),
    }
    return lambda: work("evaluation", "evaluation", handlers)
