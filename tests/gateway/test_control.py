"""The control process as it is started: it sweeps, and it collects."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from services.kit.objects import MARKER
from services.local.processes import WORKERS
from tests.kit.test_worker import ROOT, environment, until


@pytest.fixture
def control(settings, adapters) -> Iterator[subprocess.Popen[bytes]]:
    adapters.store.remove([MARKER])
    command = [sys.executable, *WORKERS["control"].arguments]
    with subprocess.Popen(command, cwd=ROOT, env=environment(settings)) as process:
        yield process
        process.terminate()


def test_it_walks_the_store_and_ends_when_told_to(adapters, control) -> None:
    """A walk begins by asking for the store's time."""
    until(lambda: adapters.store.exists(MARKER), limit_s=200)
    control.terminate()
    assert control.wait(30) == 0
