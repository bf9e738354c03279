"""Each service also runs alone, its providers reached over HTTP."""

from importlib import import_module

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

SERVICES = {
    "accounts": "/me",
    "datasets": "/datasets",
    "generation": "/generators",
    "training": "/experiments",
    "evaluation": "/results",
}


@pytest.fixture
def environment(settings, monkeypatch) -> None:
    for name, value in settings:
        plain = value.get_secret_value() if isinstance(value, SecretStr) else value
        monkeypatch.setenv(f"SYNTHORAX_{name.upper()}", str(plain))


@pytest.mark.parametrize(("service", "path"), SERVICES.items())
def test_a_service_alone(adapters, ada, environment, service: str, path: str) -> None:
    app = import_module(f"services.{service}.main").build()
    with TestClient(app, raise_server_exceptions=False) as http:
        assert http.get("/health").json() == {"status": "ok"}
        assert http.get(path).status_code == 401
        others = [p for s, p in SERVICES.items() if s != service]
        assert {http.get(p, headers=ada.headers).status_code for p in others} == {404}
