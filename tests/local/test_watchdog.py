"""What the watchdog and the supervisor do for each other, on processes that only sleep."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL

import psutil
import pytest

from services.local.children import Child, Command
from services.local.patience import Patience
from services.local.state import State
from services.local.watchdog import LOCK, revive

SLEEPER = Command("sleeper", (sys.executable, "-c", "import time; time.sleep(600)"))


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = State(tmp_path / "state")
    yield state
    Child(state, SLEEPER).stop()


def test_what_runs_is_left_alone_and_what_was_killed_is_started_again(state: State) -> None:
    patience, child = Patience(), Child(state, SLEEPER)
    revive(state, SLEEPER, patience)
    first = child.pid()
    assert first is not None
    revive(state, SLEEPER, patience)
    assert child.pid() == first
    os.kill(first, SIGKILL)
    psutil.wait_procs([psutil.Process(first)], timeout=5)
    revive(state, SLEEPER, patience)
    assert child.pid() not in {None, first}


def test_nobody_is_revived_while_the_installation_is_being_stopped(state: State) -> None:
    with state.lock(LOCK, "down"):
        revive(state, SLEEPER, Patience())
    assert Child(state, SLEEPER).pid() is None
