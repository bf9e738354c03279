"""The real servers, once a session; a clean house for every test that uses it."""

import gc
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient

from api_schemas.accounts import KeyRequest, Scope
from migrations.sections import upgrade
from services.accounts.main import compose as compose_accounts
from services.accounts.service import Accounts
from services.kit.adapters import Adapters
from services.kit.auth import Caller
from services.kit.http import web_app
from services.kit.jobs.pairing import Pairing
from services.kit.jobs.runner import Handler, Runner
from services.kit.jobs.sweeper import Sweeper
from services.kit.settings import Settings
from services.kit.worker import runner
from services.local.servers import Servers
from tests.emptying import EMPTY


def pytest_collection_finish() -> None:
    """What is imported stays: the collector need not look at torch again in every test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a fresh, migrated installation on real Postgres, Valkey and SeaweedFS."""
    state = tmp_path_factory.mktemp("servers")
    servers = Servers(state)
    endpoints = servers.start()
    try:
        values = {
            "database_url": endpoints.database_url,
            "broker_url": endpoints.broker_url,
            "s3_endpoint": endpoints.s3_endpoint,
            "s3_access_key": endpoints.s3_access_key,
            "s3_secret_key": endpoints.s3_secret_key,
            "s3_folder": endpoints.s3_folder,
            "key_pepper": "pepper-of-the-tests",
            "pseudonym_key": "pseudonym-key-of-the-tests",
            "service_secret": "service-secret-of-the-tests",
            "scratch": tmp_path_factory.mktemp("scratch"),
            "import_roots": str(tmp_path_factory.mktemp("imports")),
            "device": "cpu",
            "log_level": "WARNING",
            "lease_s": 5.0,
            "heartbeat_s": 0.5,
        }
        upgrade(endpoints.database_url)
        yield Settings.model_validate(values)
    finally:
        os.kill(servers.running()["seaweed"], signal.SIGKILL)  # asked, it takes seconds to go
        servers.stop()


@pytest.fixture(scope="session")
def connected(settings: Settings) -> Iterator[Adapters]:
    adapters = Adapters.connect(settings)
    adapters.store.ensure_bucket()
    yield adapters
    adapters.close()


@pytest.fixture
def adapters(connected: Adapters) -> Iterator[Adapters]:
    """The adapters over empty tables; whatever a test leaves is wiped after it."""
    Pairing(connected.db, connected.store).adopt()  # a test may have parted them
    yield connected
    with connected.db.transaction() as tx:
        tx.session.execute(EMPTY)


@dataclass(frozen=True)
class Member:
    """A person in a project, with a key."""

    key: str
    caller: Caller

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


@pytest.fixture(scope="session")
def accounts(connected: Adapters) -> Accounts:
    return compose_accounts(connected).provider


@pytest.fixture
def enrol(adapters: Adapters, accounts: Accounts) -> Callable[..., Member]:
    """Make a person in a project: `enrol("ada", "lab")`; scopes default to all."""

    def make(person: str = "ada", project: str = "lab", *scopes: Scope) -> Member:
        request = KeyRequest(name="test", scopes=list(scopes or Scope))
        key = accounts.mint(person, project, request).key
        return Member(key, adapters.auth.caller(f"Bearer {key}"))

    return make


@pytest.fixture
def ada(enrol: Callable[..., Member]) -> Member:
    return enrol("ada", "lab")


@pytest.fixture
def stranger(enrol: Callable[..., Member]) -> Member:
    """Somebody of another project."""
    return enrol("mallory", "elsewhere")


@pytest.fixture
def browse(adapters: Adapters) -> Callable[..., TestClient]:
    """An HTTP client of an app made of these routers: `browse(router, member=ada)`."""

    def make(*routers: APIRouter, member: Member | None = None) -> TestClient:
        app: FastAPI = web_app("test", routers, adapters)
        headers = member.headers if member else {}
        return TestClient(app, headers=headers, raise_server_exceptions=False)

    return make


@pytest.fixture
def work(adapters: Adapters) -> Callable[..., int]:
    """Run a service's slices in this process until none is runnable; answers how many ran.

    `work("datasets", "cpu", {"import": handler})`
    """

    def run(service: str, queue: str, handlers: dict[str, Handler], most: int = 1000) -> int:
        worker: Runner = runner(adapters, service, queue, handlers)
        ran = 0
        while ran < most and worker.run_one():
            ran += 1
        return ran

    return run


@pytest.fixture
def sweep(adapters: Adapters) -> Callable[[], None]:
    return Sweeper(adapters.db, adapters.bell, adapters.settings.lease_s).sweep


@pytest.fixture
def import_root(adapters: Adapters) -> Path:
    return adapters.settings.roots[0]
