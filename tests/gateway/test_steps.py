"""A slice of a step that nobody knows ends its job; it publishes nothing and trains nothing."""

from collections.abc import Callable
from typing import Any

import pytest

from services.datasets.worker import handlers as datasets
from services.evaluation.worker import handlers as evaluation
from services.generation.worker import handlers as generation
from services.kit.adapters import Adapters
from services.kit.db import new_id
from services.kit.jobs import NewJob
from services.training.worker import handlers as training

WORKERS: dict[str, tuple[str, Callable[[Adapters], Any]]] = {
    "datasets": ("cpu", datasets),
    "generation": ("generation", generation),
    "training": ("training", training),
    "evaluation": ("evaluation", evaluation),
}


@pytest.mark.parametrize("service", WORKERS)
@pytest.mark.parametrize("step", ["nonsense", "Publish", "", 7, ["train"]])
def test_every_handler_refuses_a_step_that_it_does_not_know(
    adapters: Adapters, ada: Any, work: Callable[..., int], service: str, step: object
) -> None:
    queue, compose = WORKERS[service]
    handlers = compose(adapters)
    jobs = {}
    for kind in handlers:
        with adapters.db.transaction() as tx:
            new = NewJob(
                service=service,
                kind=kind,
                queue=queue,
                caller=ada.caller,
                resource=new_id(),
                inputs={"kind": "none"},
                slices=[{"step": step}],
            )
            jobs[kind] = adapters.jobs.submit(tx, new)
    work(service, queue, handlers)
    with adapters.db.transaction() as tx:
        for kind, job in jobs.items():
            view = adapters.jobs.view(tx, job)
            assert view.state == "failed", kind
            assert view.problem is not None
            assert view.problem.type == "urn:synthorax:problem:step-unknown", kind
    assert next(adapters.store.keys(f"projects/{ada.caller.project}/"), None) is None
