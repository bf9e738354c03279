"""Background processes by their records, with real processes."""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from signal import SIGKILL

import psutil
import pytest

from services.local.children import LOG_BYTES, Child, Command
from services.local.state import State

SLEEPER = "import time; print('awake', flush=True); time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SLEEPER
PARENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEPER!r}]);" + SLEEPER


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state")


@pytest.fixture
def start(state: State) -> Iterator[Callable[..., Child]]:
    """A running child that executes this Python text; stopped after the test."""
    children: list[Child] = []

    def make(script: str, grace_s: float = 10) -> Child:
        child = Child(state, Command("child", (sys.executable, "-c", script), grace_s=grace_s))
        children.append(child)
        child.spawn()
        until(lambda: "awake" in child.last_words())
        return child

    yield make
    for child in children:
        child.stop()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_child_is_found_again_by_its_record(state: State, start: Callable[..., Child]) -> None:
    child = start(SLEEPER)
    found = Child(state, child.command)
    assert found.pid() == child.pid()
    assert found.current()


def test_a_child_with_other_settings_is_not_current(
    state: State, start: Callable[..., Child]
) -> None:
    child = start(SLEEPER)
    changed = Child(state, replace(child.command, environment={"SETTING": "new"}))
    assert changed.pid() == child.pid()
    assert not changed.current()


def test_a_stopped_child_leaves_no_record(start: Callable[..., Child]) -> None:
    child = start(SLEEPER)
    child.stop()
    assert child.pid() is None
    assert not child.record.exists()


def test_a_child_that_does_not_listen_is_ended_after_its_grace(
    start: Callable[..., Child],
) -> None:
    child = start(STUBBORN, grace_s=0.3)
    child.stop()
    assert child.pid() is None


def test_what_a_killed_child_left_behind_is_ended(start: Callable[..., Child]) -> None:
    """As Celery's beat process, when its worker is killed."""
    child = start(PARENT)
    pid = child.pid()
    assert pid is not None
    until(lambda: child.last_words().count("awake") == 2)
    helper = psutil.Process(pid).children()[0]
    os.kill(pid, SIGKILL)
    until(lambda: child.pid() is None)
    assert helper.is_running()
    child.stop()
    psutil.wait_procs([helper], timeout=5)
    assert not helper.is_running() or helper.status() == psutil.STATUS_ZOMBIE


def test_a_reused_pid_is_never_signalled(state: State, start: Callable[..., Child]) -> None:
    """The record of a dead child whose number a stranger was given."""
    child = start(SLEEPER)
    record = state.read(child.record, {})
    with subprocess.Popen([sys.executable, "-c", SLEEPER], start_new_session=True) as stranger:
        state.write_json(child.record, record | {"pid": stranger.pid})
        assert child.pid() is None
        child.stop()
        assert stranger.poll() is None
        stranger.kill()
    state.write_json(child.record, record)


def test_a_record_from_before_a_restart_of_the_machine_is_nobodys(
    state: State, start: Callable[..., Child]
) -> None:
    """Numbers and start times begin anew then, and may be those of somebody else."""
    child = start(SLEEPER)
    record = state.read(child.record, {})
    for change in ({"boot": "another"}, {"arguments": ["another", "command"]}, {"started": None}):
        state.write_json(child.record, record | change)
        assert child.pid() is None
    state.write_json(child.record, record)
    assert child.pid() == record["pid"]


@pytest.mark.parametrize("content", ["", "[]", "null", '{"pid": 1}', '{"pid": 1, "other": 2}'])
def test_a_record_that_cannot_be_read_is_none(state: State, content: str) -> None:
    child = Child(state, Command("child", (sys.executable, "-c", SLEEPER)))
    child.record.write_text(content)
    assert child.pid() is None
    child.stop()
    assert not child.record.exists()


def test_a_child_that_cannot_be_recorded_does_not_run(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(state, "write_json", refuse)
    child = Child(state, Command("child", (sys.executable, "-c", SLEEPER)))
    before = set(psutil.Process().children())
    with pytest.raises(OSError, match="No space left"):
        child.spawn()
    assert set(psutil.Process().children()) == before


def test_a_child_whose_record_was_lost_is_ended_before_another_is_started(
    start: Callable[..., Child],
) -> None:
    child = start(SLEEPER)
    lost = child.pid()
    child.record.unlink()
    again = child.spawn()
    assert lost is not None
    until(lambda: not psutil.pid_exists(lost) or psutil.Process(lost).status() == "zombie")
    assert child.pid() == again


def test_a_child_gets_its_environment_and_no_more(state: State) -> None:
    script = "import os; print(sorted(set(os.environ) - {'LC_CTYPE'}))"
    command = Command(
        "child", (sys.executable, "-c", script), environment={"GIVEN": "1"}, inherited=("PATH",)
    )
    assert Child(state, command).output().strip() == "['GIVEN', 'PATH', 'SYNTHORAX_CHILD']"


def test_output_stays_out_of_the_log_and_failure_is_an_error(state: State) -> None:
    command = Command("child", (sys.executable, "-c", "print('secret'); raise SystemExit(3)"))
    with pytest.raises(subprocess.CalledProcessError):
        Child(state, command).output()
    assert "secret" not in Child(state, command).last_words()


def test_run_returns_the_exit_status(state: State) -> None:
    command = Command("child", (sys.executable, "-c", "raise SystemExit(3)"))
    assert Child(state, command).run() == 3


def test_a_long_log_is_put_aside_at_the_next_start(
    state: State, start: Callable[..., Child]
) -> None:
    log = state.logs / "child.log"
    log.write_bytes(b"x" * (LOG_BYTES + 1))
    start(SLEEPER)
    assert log.stat().st_size < 100
    assert (state.logs / "child.log.1").stat().st_size == LOG_BYTES + 1
