"""A look at database and store side by side, and what a person may then say, as commands."""

import os
import subprocess
import sys
from collections.abc import Callable
from uuid import uuid4

import pytest

from services.kit.jobs.pairing import NAMEPLATE, Nameplate, Pairing
from services.local.processes import UPKEEP
from tests.kit.test_worker import ROOT, environment

FOREIGN = 30


@pytest.fixture
def upkeep(adapters, settings) -> Callable[..., tuple[int, str]]:
    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, *UPKEEP, *arguments],
            cwd=ROOT,
            env=os.environ | environment(settings) | {"SYNTHORAX_COLLECT_GRACE_S": "60"},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    return run


def test_a_store_of_another_installation_is_adopted_after_a_look(adapters, upkeep) -> None:
    adapters.store.remove_prefix("projects/")
    for n in range(FOREIGN):
        adapters.store.put(f"projects/{uuid4()}/datasets/{uuid4()}/{n}", b"x")
    foreign = Nameplate(uuid4(), 3)
    adapters.store.put(NAMEPLATE, foreign.encode())
    status, told = upkeep("adopt")
    assert status == 1
    assert str(foreign.id) in told
    assert f"{FOREIGN} objects, {FOREIGN} of them of things that the database never knew" in told
    assert "belongs to another installation" in told
    assert "Nothing was changed" in told
    assert upkeep("collect", "--most", "1000")[0] == 1
    assert Pairing(adapters.db, adapters.store).of_store() == foreign

    status, told = upkeep("adopt", "--yes")
    assert (status, "Adopted" in told) == (0, True)
    status, told = upkeep("adopt")
    assert (status, "They belong together." in told) == (0, True)
    assert len(list(adapters.store.keys("projects/"))) == FOREIGN
    status, told = upkeep("collect", "--most", "1000")  # all of it is young
    assert (status, "0 objects removed" in told) == (0, True)
