"""The lab's compose file runs the launcher's processes, and leaves no door open."""

import os
import re
import shutil
import stat
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from fastapi.testclient import TestClient

from services.kit.auth import Caller
from services.kit.remote import Remote
from services.kit.settings import Settings
from services.local import processes
from services.local.children import CODE

COMPOSE: dict[str, Any] = yaml.safe_load((CODE / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
THIRD_PARTY = {"proxy", "postgres", "redis", "minio"}
WEB = (*processes.WEB_SERVICES, "gateway")
OURS = {name: service for name, service in SERVICES.items() if name not in THIRD_PARTY}


def known_commands() -> set[str]:
    table = [
        processes.MIGRATIONS,
        *(processes.web(service, "0.0.0.0", 8000) for service in WEB),  # noqa: S104 - in a container, behind the proxy
        *(worker.arguments for worker in processes.WORKERS.values()),
    ]
    return {" ".join(("python", *arguments)) for arguments in table}


def test_every_command_is_the_launchers_and_each_of_those_is_there() -> None:
    commands = {service["command"] for service in OURS.values()}
    assert commands == known_commands()


def test_only_the_proxy_is_published() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["proxy"]
    assert all("network_mode" not in service for service in SERVICES.values())
    assert COMPOSE["networks"]["back"] == {"internal": True}
    assert {n for n, s in SERVICES.items() if "front" in s["networks"]} == {
        "proxy",
        *WEB,
    }


def test_only_training_can_be_let_out_and_is_not_unasked() -> None:
    assert COMPOSE["networks"]["out"] == {"internal": "${SYNTHORAX_CLOSED:-true}"}
    assert [n for n, s in SERVICES.items() if "out" in s["networks"]] == ["training-worker"]
    assert set(COMPOSE["networks"]) == {"front", "back", "out"}


def test_no_secret_is_a_variable() -> None:
    for service in SERVICES.values():
        for name in service.get("environment", {}):
            assert not re.search("PASSWORD|SECRET_KEY|ACCESS_KEY|PEPPER|URL$", name) or (
                name.endswith(("_FILE", "_URL"))
                and not name.endswith(("DATABASE_URL", "BROKER_URL"))
            )


def test_our_containers_are_confined_and_get_their_time_to_stop() -> None:
    for service in OURS.values():
        assert service["stop_grace_period"] == "120s"
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]


def test_what_is_asked_while_it_starts_says_when_it_is_healthy() -> None:
    asked = {
        name
        for service in SERVICES.values()
        for name, how in service.get("depends_on", {}).items()
        if how["condition"] == "service_healthy"
    }
    assert asked == {"postgres", "redis", "minio", *processes.WEB_SERVICES}
    assert all("healthcheck" in SERVICES[name] for name in asked)


def test_images_are_pinned() -> None:
    foreign = [SERVICES[name]["image"] for name in THIRD_PARTY]
    bases = [
        line.split()[1]
        for file in ("Dockerfile.web", "Dockerfile.gpu")
        for line in (CODE / file).read_text().splitlines()
        if line.startswith("FROM ")
    ]
    for image in (*foreign, *bases):
        assert re.search(r":[^:]*\d", image), image
        assert not image.endswith(":latest")


def test_images_do_not_run_as_root() -> None:
    for file in ("Dockerfile.web", "Dockerfile.gpu"):
        users = re.findall(r"^USER (\w+)$", (CODE / file).read_text(), re.MULTILINE)
        assert users == ["synthorax"]


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """The folder that `make secrets` makes, elsewhere."""
    script = tmp_path / "deploy" / "make-secrets"
    script.parent.mkdir()
    shutil.copy(CODE / "deploy" / "make-secrets", script)
    subprocess.run([script], check=True, capture_output=True)
    return tmp_path / "secrets"


def test_secrets_are_made_once_and_their_folder_is_closed(secrets: Path) -> None:
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    mounted = {Path(secret["file"]).name for secret in COMPOSE["secrets"].values()}
    made = {file.name: file.read_text() for file in secrets.iterdir()}
    assert set(made) == mounted
    subprocess.run([secrets.parent / "deploy" / "make-secrets"], check=True, capture_output=True)
    assert {file.name: file.read_text() for file in secrets.iterdir()} == made


def test_no_two_installations_share_a_secret(secrets: Path) -> None:
    values = [file.read_text() for file in secrets.iterdir()]
    assert len(set(values)) == len(values)
    assert all(len(value) >= 20 for value in values)


@pytest.fixture
def environment(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a web container of the compose file is told."""
    for name in [name for name in os.environ if name.startswith("SYNTHORAX_")]:
        monkeypatch.delenv(name)
    for name, value in SERVICES["datasets"]["environment"].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SYNTHORAX_SECRETS_DIR", str(secrets))


@pytest.mark.usefixtures("environment")
def test_the_secret_files_and_variables_make_whole_settings(secrets: Path) -> None:
    settings = Settings.read()
    password = (secrets / "postgres_password").read_text()
    url = settings.database_url.get_secret_value()
    assert url == f"postgresql+psycopg://synthorax:{password}@postgres:5432/synthorax"
    assert settings.evaluation_url == "http://evaluation:8000"
    assert settings.roots == [Path("/imports")]


def matches(pattern: str, path: str) -> bool:
    """Caddy's path matcher, as far as the file uses it: exact, or a prefix before `*`."""
    return path.startswith(pattern[:-1]) if pattern.endswith("*") else path == pattern


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("service", processes.WEB_SERVICES)
def test_the_proxy_sends_every_path_to_the_service_that_owns_it(service: str) -> None:
    caddyfile = (CODE / "deploy" / "Caddyfile").read_text()
    routes = dict(re.findall(r"@(\w+) path (.+)", caddyfile))
    targets = dict(re.findall(r"handle @(\w+) \{\s+reverse_proxy (\S+)", caddyfile))
    assert targets == {name: f"{name}:8000" for name in WEB}
    paths = set(import_module(f"services.{service}.main").build().openapi()["paths"]) - {"/health"}
    assert paths
    for path in paths:
        owners = [n for n, p in routes.items() if any(matches(one, path) for one in p.split())]
        assert owners == [service], path


@pytest.mark.usefixtures("environment")
def test_the_proxy_shows_the_page_of_the_whole_api() -> None:
    caddyfile = (CODE / "deploy" / "Caddyfile").read_text()
    (shown,) = re.findall(r"@gateway path (.+)", caddyfile)
    http = TestClient(import_module("services.gateway.main").build())
    loaded = re.findall(r"(?:src|href)=\"([^\"]+)\"", http.get("/docs").text)
    for path in ("/docs", "/openapi.json", *loaded):
        assert any(matches(one, path) for one in shown.split()), path
        assert http.get(path).status_code == 200


def test_nobody_outside_speaks_for_others() -> None:
    """The headers that a service credential needs are taken off at the door: whoever has got hold
    of that credential can do nothing with it from outside.
    """
    caddyfile = (CODE / "deploy" / "Caddyfile").read_text()
    taken_off = set(re.findall(r"^\trequest_header -(\S+)$", caddyfile, re.MULTILINE))
    caller = Caller(uuid4(), uuid4(), frozenset())
    with Remote("http://there", "secret").acting_for(caller) as client:
        needed = {name.title() for name in client._http.headers if name.startswith("synthorax-")}
    assert taken_off == needed
    assert len(needed) == 2


def test_docker_compose_accepts_the_file() -> None:
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("docker-compose is not installed")
    subprocess.run([program, "config", "-q"], cwd=CODE, check=True)


def test_caddy_accepts_its_file() -> None:
    program = shutil.which("caddy")
    if program is None:
        pytest.skip("caddy is not installed")
    file = CODE / "deploy" / "Caddyfile"
    subprocess.run(
        [program, "validate", "--config", str(file), "--adapter", "caddyfile"],
        check=True,
        capture_output=True,
    )
