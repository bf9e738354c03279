"""The datasets service: its web process, and its part of the gateway."""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import APIRouter, FastAPI

from services.datasets.api import deletion_routes, routes, upload_routes
from services.datasets.importers import Roots
from services.datasets.service import (
    KIND,
    NAMED,
    Datasets,
    Manifests,
    Uploads,
    Views,
    Withdrawals,
)
from services.kit.adapters import Adapters
from services.kit.collector import Named
from services.kit.deletion import Deletions
from services.kit.http import web_app
from services.kit.pseudonyms import Pseudonyms
from services.kit.settings import PseudonymSettings, Settings


@dataclass(frozen=True)
class Part:
    router: APIRouter
    provider: Datasets


def compose(adapters: Adapters) -> Part:
    roots = Roots.of(adapters.settings.roots)
    db, jobs, store, settings = adapters.db, adapters.jobs, adapters.store, adapters.settings
    uploads = Uploads(db, store, settings.scratch, settings.upload_limit_bytes)
    manifests = Manifests(store, settings.scratch / "manifests")
    key = settings.pseudonym_key.get_secret_value().encode()
    datasets = Datasets(db, jobs, store, manifests, roots, uploads, Pseudonyms(key))
    views = Views(db, jobs, manifests, datasets)
    deletions = deletion_routes(Deletions(db, jobs, KIND))
    router = APIRouter()
    router.include_router(
        routes(datasets, views, deletions, Withdrawals(db, jobs, adapters.auth)),
    )
    router.include_router(upload_routes(uploads))
    return Part(router, datasets)


def named(_: Adapters) -> Mapping[str, Named]:
    """For the collector: which objects rows name, by folder."""
    return NAMED


def build() -> FastAPI:
    """For `uvicorn --factory services.datasets.main:build`."""
    adapters = Adapters.connect(Settings.read())
    return web_app("datasets", [compose(adapters).router], adapters)


def pseudonyms() -> None:
    """Print the pseudonyms of patients, whose ids come line by line on standard input: so that
    none stands in a URL, a log or a shell's history.
    """
    parser = argparse.ArgumentParser(
        prog="python -m services.datasets.main", description=pseudonyms.__doc__
    )
    parser.add_argument("--site", required=True, help="as the import named it")
    site: str = parser.parse_args().site
    known = Pseudonyms(PseudonymSettings.read().pseudonym_key.get_secret_value().encode())
    for line in sys.stdin:
        if patient := line.strip():
            sys.stdout.write(known.patient(site, patient) + "\n")


if __name__ == "__main__":
    pseudonyms()
