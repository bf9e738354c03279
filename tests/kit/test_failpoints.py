"""Failpoints: what they do when armed, and that a slip in the variable stops the process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.kit import failpoints
from services.kit.failpoints import MOMENTS, BadFailpoint, FailpointHit, arm, failpoint

SERVICES = Path(failpoints.__file__).parents[1]


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm("")


def test_nothing_happens_unless_armed() -> None:
    for moment in MOMENTS:
        failpoint(moment)


def test_the_third_time_and_only_then() -> None:
    arm("after_put@3:raise,before_bell:hang")
    failpoint("after_put")
    failpoint("after_put")
    with pytest.raises(FailpointHit):
        failpoint("after_put")
    failpoint("after_put")


@pytest.mark.parametrize(
    "asked",
    [
        *("after_put", "after_put:", "after_put:explode", "after_lunch:kill", ":kill", "kill"),
        *("after_put@0:kill", "after_put@:kill", "after_put@x:kill"),
    ],
)
def test_what_it_does_not_know_it_refuses(asked: str) -> None:
    with pytest.raises(BadFailpoint, match=r"moment\[@count\]:action"):
        arm(asked)


def test_every_moment_is_somewhere() -> None:
    code = "".join(path.read_text() for path in SERVICES.rglob("*.py"))
    assert [m for m in MOMENTS if f'failpoint("{m}")' not in code] == []
