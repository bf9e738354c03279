"""The whole suite as `make up` starts it; these tests follow each other on one installation."""

import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGKILL

import httpx2
import psutil
import pytest

from services.local.launcher import Access, Launcher
from services.local.servers import Servers


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    launcher = Launcher(tmp_path_factory.mktemp("up") / "state")
    yield launcher
    launcher.down()


@pytest.fixture
def access(launcher: Launcher) -> Access:
    return launcher.up()


def pids(launcher: Launcher) -> dict[str, int]:
    return {row.name: row.pid for row in launcher.status() if row.pid is not None}


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def answers(access: Access) -> bool:
    headers = {"Authorization": f"Bearer {access.key}"}
    return httpx2.get(f"{access.url}/me", headers=headers).status_code == 200


def test_up_makes_an_authenticated_request_work(launcher: Launcher, access: Access) -> None:
    assert answers(access)
    assert httpx2.get(f"{access.url}/me").status_code == 401
    assert all(row.pid is not None for row in launcher.status())
    lines = launcher.client_file.read_text().splitlines()
    assert lines == [
        f"export SYNTHORAX_URL={access.url}",
        f"export SYNTHORAX_KEY={access.key}",
    ]
    assert stat.S_IMODE(launcher.client_file.stat().st_mode) == 0o600


def test_the_key_and_the_secrets_are_in_no_log(launcher: Launcher, access: Access) -> None:
    secrets = [access.key, *(file.read_text() for file in launcher.state.secrets.iterdir())]
    for log in launcher.state.logs.iterdir():
        text = log.read_text(errors="replace")
        assert not [secret for secret in secrets if secret in text]


def test_a_second_up_finds_what_runs(launcher: Launcher, access: Access) -> None:
    before = pids(launcher)
    again = Launcher(launcher.state.root)
    assert again.up() == access
    assert pids(again) == before


def test_a_killed_process_comes_back(launcher: Launcher, access: Access) -> None:
    before = pids(launcher)
    os.kill(before["control"], SIGKILL)
    os.kill(before["postgres"], SIGKILL)
    until(lambda: pids(launcher).keys() == before.keys() and pids(launcher) != before)
    until(lambda: answers(access))
    after = pids(launcher)
    changed = {name for name in before if before[name] != after[name]}
    assert {"control", "postgres"} <= changed
    assert {"supervisor", "seaweed", "valkey", "web"}.isdisjoint(changed)


def test_a_new_import_root_restarts_the_importers_alone(
    launcher: Launcher, access: Access, tmp_path: Path
) -> None:
    before = pids(launcher)
    assert launcher.up([tmp_path]) == access
    after = pids(launcher)
    assert {name for name in before if before[name] != after[name]} == {"web", "cpu"}


@pytest.mark.parametrize("killed", [{"supervisor"}, {"supervisor", "web"}])
def test_up_recovers_from_a_killed_supervisor(
    launcher: Launcher, access: Access, killed: set[str]
) -> None:
    before = pids(launcher)
    victims = [psutil.Process(before[name]) for name in killed]
    for victim in victims:
        victim.kill()
    psutil.wait_procs(victims, timeout=5)
    assert launcher.up() == access
    after = pids(launcher)
    assert {name for name in before if before[name] != after[name]} == killed


def test_up_replaces_what_was_started_from_other_code(launcher: Launcher, access: Access) -> None:
    before = pids(launcher)
    record = launcher.state.records / "supervisor.json"
    launcher.state.write_json(record, launcher.state.read(record, {}) | {"digest": "other code"})
    assert launcher.up() == access
    after = pids(launcher)
    assert after.keys() == before.keys()
    assert not set(after.values()) & set(before.values())


def test_down_leaves_no_process(launcher: Launcher, access: Access) -> None:
    family = [
        process
        for pid in pids(launcher).values()
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))
    ]
    others = {child for child in psutil.Process().children() if child not in family}
    launcher.down()
    assert set(psutil.Process().children()) <= others  # nor what is left of one
    _, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []
    assert pids(launcher) == {}
    with pytest.raises(httpx2.ConnectError):
        answers(access)


def test_down_stops_orphans_without_a_supervisor(tmp_path: Path) -> None:
    """The supervisor was killed while it brought the servers up."""
    servers = Servers(tmp_path / "state")
    servers.start()
    running = [psutil.Process(pid) for pid in servers.running().values()]
    assert set(Launcher(tmp_path / "state").down()) == set(servers.names)
    _, alive = psutil.wait_procs(running, timeout=5)
    assert alive == []


def test_down_of_nothing_is_fine(tmp_path: Path) -> None:
    assert Launcher(tmp_path / "state").down() == []


def test_adopt_shows_what_database_and_store_hold(
    launcher: Launcher, access: Access, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launcher.upkeep("adopt") == 0
    told = capsys.readouterr().out
    assert "They belong together." in told
    assert "0 of them of things that the database never knew" in told
    assert answers(access)  # what ran runs on


def test_row_60_a_deleted_dataset_is_gone_from_the_files_of_the_store(
    launcher: Launcher, access: Access
) -> None:
    files = launcher.state.folder("seaweed")
    phantom = {"format": "phantom", "name": "P", "site": "phantom-a", "patients": 12, "seed": 4}
    phantom |= {"size_px": 32}
    headers = {"Authorization": f"Bearer {access.key}"}
    with httpx2.Client(base_url=access.url, headers=headers, timeout=30) as http:
        made = f"/datasets/{http.post('/datasets', json=phantom).json()['id']}"
        until(lambda: http.get(made).json()["job"]["state"] == "succeeded")
        sample = http.get(f"{made}/samples").json()["items"][0]["sample_id"]
        image = http.get(f"{made}/samples/{sample}.png").content

        def stands() -> bool:
            return any(image in path.read_bytes() for path in files.rglob("*.dat"))

        assert stands()
        assert http.delete(made).status_code == 202
        deletion = f"{made}/deletion"
        until(lambda: http.get(deletion).json()["job"]["state"] == "succeeded")
        assert not stands()
