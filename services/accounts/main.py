"""The accounts service: its web process, and the making of a first key."""

import argparse
import sys
from dataclasses import dataclass

from fastapi import APIRouter, FastAPI

from api_schemas.accounts import InstallationRole, KeyRequest, Scope
from services.accounts.api import routes
from services.accounts.service import Accounts, Work
from services.kit.adapters import Adapters
from services.kit.http import web_app
from services.kit.settings import Settings

_ROLES = {True: InstallationRole.ADMIN, False: InstallationRole.NONE}


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

    It reads and writes in its project. With `--installation-admin` the person may from now on do
    what concerns all projects, and the key may use that. With `--revoke` all keys of the person
    end instead, as when one was lost or somebody leaves.
    """
    parser = argparse.ArgumentParser(description="Make an API key and print it once.")
    parser.add_argument("--revoke", action="store_true", help="end all keys of the person instead")
    parser.add_argument("--person", required=True)
    parser.add_argument("--project", default="lab")
    parser.add_argument("--name", default="first key")
    parser.add_argument(
        "--scopes",
        nargs="+",
        type=Scope,
        help="what the key may do: read and write unless said; of an installation's administrator "
        "admin as well",
    )
    parser.add_argument(
        "--installation-admin",
        action=argparse.BooleanOptionalAction,
        help="whether the person administers the whole installation; stays as it is unless said",
    )
    parser.add_argument("--days", type=int, default=365)
    asked = parser.parse_args()
    accounts = compose(Adapters.connect(Settings.read())).provider
    if asked.revoke:
        sys.stdout.write(f"{accounts.revoke_all(asked.person)} keys revoked\n")
        return
    administers: bool | None = asked.installation_admin
    scopes = asked.scopes or (list(Scope) if administers else [Scope.READ, Scope.WRITE])
    request = KeyRequest(name=asked.name, scopes=scopes, days=asked.days)
    role = None if administers is None else _ROLES[administers]
    sys.stdout.write(accounts.mint(asked.person, asked.project, request, role).key + "\n")


if __name__ == "__main__":
    mint()
