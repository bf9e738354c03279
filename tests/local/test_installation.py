"""What the processes of an installation are told."""

from pathlib import Path

import pytest

from services.kit.settings import Settings
from services.local import processes
from services.local.installation import Installation
from services.local.servers import Endpoints, Servers
from services.local.state import State


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(State(tmp_path / "state"))


@pytest.fixture
def endpoints(installation: Installation) -> Endpoints:
    return Servers(installation.state.root).endpoints()


def test_the_environment_makes_whole_settings(
    installation: Installation, endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in installation.command("web", endpoints).environment.items():
        monkeypatch.setenv(name, value)
    settings = Settings.read()
    assert settings.database_url.get_secret_value() == endpoints.database_url
    assert settings.datasets_url == installation.url
    assert settings.scratch.parent == installation.state.root


def test_every_process_of_the_table_is_started(
    installation: Installation, endpoints: Endpoints
) -> None:
    commands = [installation.command(name, endpoints).arguments[1:] for name in installation.names]
    assert [worker.arguments for worker in processes.WORKERS.values()] == commands[1:]
    assert "services.gateway.main:build" in commands[0]


def test_a_new_import_root_concerns_the_importers_alone(
    installation: Installation, endpoints: Endpoints, tmp_path: Path
) -> None:
    before = {name: installation.command(name, endpoints).digest for name in installation.names}
    installation.ask([tmp_path])
    after = {name: installation.command(name, endpoints).digest for name in installation.names}
    assert {name for name in after if after[name] != before[name]} == {"web", "cpu"}


def test_import_roots_are_remembered_and_add_up(installation: Installation, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        installation.ask([tmp_path / name])
    again = Installation(installation.state)
    again.ask([])
    assert again.import_roots == [str(tmp_path / "a"), str(tmp_path / "b")]


def test_an_import_root_that_is_not_there_is_refused(
    installation: Installation, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        installation.ask([tmp_path / "missing"])


def test_a_tunable_of_the_shell_is_taken_and_a_key_is_not(
    installation: Installation, endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNTHORAX_DEVICE", "cuda")
    monkeypatch.setenv("SYNTHORAX_KEY", "from client.env")
    installation.ask([])
    command = installation.command("generation", endpoints)
    assert command.environment["SYNTHORAX_DEVICE"] == "cuda"
    assert "SYNTHORAX_KEY" not in {*command.environment, *command.inherited}


def test_a_tunable_stays_until_another_value_is_given(
    installation: Installation, endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    def owner_cap() -> str | None:
        environment = Installation(installation.state).command("web", endpoints).environment
        return environment.get("SYNTHORAX_OWNER_CAP")

    monkeypatch.setenv("SYNTHORAX_OWNER_CAP", "2")
    assert installation.ask([]) == []
    monkeypatch.delenv("SYNTHORAX_OWNER_CAP")
    monkeypatch.setenv("SYNTHORAX_DEVICE", "cpu")
    assert installation.ask([]) == ["SYNTHORAX_OWNER_CAP"]
    assert owner_cap() == "2"
    monkeypatch.setenv("SYNTHORAX_OWNER_CAP", "3")
    assert installation.ask([]) == []
    assert owner_cap() == "3"
    monkeypatch.setenv("SYNTHORAX_OWNER_CAP", "")
    assert installation.ask([]) == []
    assert owner_cap() is None


def test_torch_workers_get_the_cores_and_the_others_do_not(
    installation: Installation, endpoints: Endpoints
) -> None:
    limited = {
        name
        for name in installation.names
        if "OMP_NUM_THREADS" in installation.command(name, endpoints).environment
    }
    assert limited == set(installation.names) - {"generation", "training"}
