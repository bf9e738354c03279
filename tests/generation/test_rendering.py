"""Slices of a cohort: how they end early, and that no image is lost or made twice."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from services.generation.service import Rendering
from services.generation.service.rendering import SLICE_IMAGES
from services.kit.jobs.fairness import Ask
from services.kit.jobs.leases import Lease, LeaseLost, Released, claim

IMAGES = SLICE_IMAGES + 88


@pytest.fixture
def generation(http, run, put_dataset) -> str:
    """A cohort in batches of 64, planned and not begun."""
    data = put_dataset([{"sex": "Female", "age": 60 + n} for n in range(10)])
    request = {"name": "g", "dataset": str(data), "preset": "tiny-32", "steps": 10}
    generator = http.post("/generators", json=request).json()["id"]
    run()
    order = {"generator": generator, "conditions": [{"count": IMAGES}], "batch": 64}
    made = http.post("/generate", json=order).json()["id"]
    run(most=1)
    return made


@pytest.fixture
def take(adapters) -> Callable[[], Lease]:
    """Lease the next slice."""

    def one() -> Lease:
        ask = Ask("generation", "generation", "worker", 8)
        lease = claim(adapters.db, adapters.bell, ask, threading.Event())
        assert lease is not None
        return lease

    return one


@pytest.fixture
def render(adapters, shelf, engine, tmp_path: Path) -> Callable[[Lease], None]:
    return Rendering(adapters.db, adapters.store, shelf, engine, tmp_path)


def after_batch(engine, event: Callable[[], None]) -> None:
    """Let something happen while the first batch is made."""
    make = engine.render

    def once(task):
        engine.render = make
        event()
        return make(task)

    engine.render = once


def there(http, generation: str) -> list[int]:
    path, told = f"/generations/{generation}/images", {"limit": 1000}
    return [each["index"] for each in http.get(path, params=told).json()["items"]]


def finished(http, generation: str) -> bool:
    view = http.get(f"/generations/{generation}").json()
    return view["job"]["state"] == "succeeded" and view["manifest"]["images"] == IMAGES


def test_a_finished_slice_is_not_rendered_again(http, run, generation, engine) -> None:
    run(most=1)
    engine.rendered.clear()
    run()
    assert sum(engine.rendered) == IMAGES - SLICE_IMAGES
    assert there(http, generation) == list(range(IMAGES))
    assert finished(http, generation)


def test_a_worker_that_is_to_stop_keeps_what_it_rendered(
    http, run, generation, engine, take, render
) -> None:
    lease = take()
    after_batch(engine, lease.draining.set)
    render(lease)
    assert there(http, generation) == list(range(64))
    run()
    assert there(http, generation) == list(range(IMAGES))
    assert sum(engine.rendered) == IMAGES
    assert finished(http, generation)


def test_one_that_is_to_stop_before_it_began_gives_its_slice_back(
    http, generation, engine, take, render
) -> None:
    lease = take()
    lease.draining.set()
    with pytest.raises(Released):
        render(lease)
    assert (engine.rendered, there(http, generation)) == ([], [])


def test_a_long_slice_ends_at_its_next_batch_when_others_wait(
    http, run, generation, engine, take, render
) -> None:
    for batches in (1, 2):
        lease = take()
        lease.others_wait, lease.began = True, lease.began - 3600
        render(lease)
        assert len(there(http, generation)) == 64 * batches
    run()
    assert there(http, generation) == list(range(IMAGES))
    assert sum(engine.rendered) == IMAGES
    assert finished(http, generation)


def test_of_a_slice_that_is_somebody_else_s_nothing_is_written(
    http, generation, engine, take, render
) -> None:
    lease = take()
    after_batch(engine, lease.lost.set)
    after = http.post(f"/generations/{generation}/cancel")
    assert after.status_code == 200
    with pytest.raises(LeaseLost):
        render(lease)
    assert (engine.rendered, there(http, generation)) == ([64], [])
