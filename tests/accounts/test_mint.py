"""The command that makes keys: what it gives unless told otherwise."""

import os
import subprocess
import sys

import pytest

from services.accounts.main import compose
from tests.kit.test_worker import ROOT, environment


@pytest.fixture
def command(adapters, settings, browse):
    """Run it as the documentation says; an HTTP client with the key that it prints."""

    def run(*arguments: str):
        printed = subprocess.run(
            [sys.executable, "-m", "services.accounts.main", *arguments],
            cwd=ROOT,
            env=os.environ | environment(settings),
            capture_output=True,
            text=True,
            check=True,
        )
        http = browse(compose(adapters).router)
        http.headers["Authorization"] = f"Bearer {printed.stdout.strip()}"
        return http

    return run


def test_a_key_reads_and_writes_unless_told_otherwise(command) -> None:
    http = command("--person", "bob")
    me = http.get("/me").json()
    assert (me["scopes"], me["installation_role"]) == (["read", "write"], "none")
    assert http.post("/keys", json={"name": "more"}).status_code == 403
    assert http.put(f"/shares/{me['person']}", json={"weight": 9}).status_code == 403


def test_an_administrator_of_the_installation_is_made_and_unmade(command) -> None:
    http = command("--person", "ada", "--installation-admin")
    me = http.get("/me").json()
    assert (me["scopes"], me["installation_role"]) == (["admin", "read", "write"], "admin")
    bob = command("--person", "bob").get("/me").json()["person"]
    assert http.put(f"/shares/{bob}", json={"weight": 2}).json()["weight"] == 2
    plain = command("--person", "ada")  # another key of hers, which does not carry it
    assert plain.put(f"/shares/{bob}", json={"weight": 3}).status_code == 403
    assert http.get("/me").json()["installation_role"] == "admin"
    command("--person", "ada", "--no-installation-admin")
    assert http.put(f"/shares/{bob}", json={"weight": 4}).status_code == 403
