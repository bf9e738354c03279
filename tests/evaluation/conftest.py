"""A study that can be sent to the evaluation service, on the real servers."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.evaluation.main import compose
from services.evaluation.reports.facts import Report
from services.evaluation.service.evaluate import Evaluate
from services.evaluation.service.sources import Sources
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
