"""The accounts service: its web process, and the making of a first key."""

import argparse
import sys
from dataclasses import dataclass

from fastapi import APIRouter, FastAPI

from api_schemas.accounts import KeyRequest, Scope
from services.accounts.api import routes
from services.accounts.service import Accounts, Work
from services.kit.adapters import Adapters
from services.kit.http import web_app
from services.kit.settings import Settings


@dataclass(frozen=True)
class Part:
    router: APIRouter
    provider: Accounts


def compose(adapters: Adapters) -> Part:
    accounts = Accounts(adapters.db, adapters.settings.key_pepper.get_secret_value())
    work = Work(adapters.db, adapters.jobs, adapters.settings.owner_cap)
    return Part(routes(accounts, work), accounts)


def build() -> FastAPI:
    """For `uvicorn --factory services.accounts.main:build`."""
    adapters = Adapters.connect(Settings.read())
    return web_app("accounts", [compose(adapters).router], adapters)


def mint() -> None:
    """Print a new key: `python -m services.accounts.main --person ada --project lab`.

    With `--revoke` all keys of the person end instead, as when one was lost or somebody leaves.
    """
    parser = argparse.ArgumentParser(description="Make an API key and print it once.")
    parser.add_argument("--revoke", action="store_true", help="end all keys of the person instead")
    parser.add_argument("--person", required=True)
    parser.add_argument("--project", default="lab")
    parser.add_argument("--name", default="first key")
    parser.add_argument("--scopes", nargs="+", type=Scope, default=list(Scope))
    parser.add_argument("--days", type=int, default=365)
    asked = parser.parse_args()
    accounts = compose(Adapters.connect(Settings.read())).provider
    if asked.revoke:
        sys.stdout.write(f"{accounts.revoke_all(asked.person)} keys revoked\n")
        return
    request = KeyRequest(name=asked.name, scopes=asked.scopes, days=asked.days)
    sys.stdout.write(accounts.mint(asked.person, asked.project, request).key + "\n")


if __name__ == "__main__":
    mint()
