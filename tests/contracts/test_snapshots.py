"""The public face of each service is what it was, or the change is in the commit.

After a wanted change: `SYNTHORAX_UPDATE_SNAPSHOTS=1 .venv/bin/python -m pytest tests/contracts`.
"""

import json
import os
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from services.kit.http import web_app

FOLDER = Path(__file__).parent / "openapi"
PROVIDERS = {
    "accounts": {},
    "datasets": {},
    "generation": {"datasets": None},
    "training": {"datasets": None, "generations": None, "evaluation": None},
    "evaluation": {"datasets": None, "generations": None},
}


@pytest.mark.parametrize("service", PROVIDERS)
def test_the_api_is_as_recorded(adapters, service: str) -> None:
    part = import_module(f"services.{service}.main").compose(adapters, **PROVIDERS[service])
    document: dict[str, Any] = web_app(service, [part.router], adapters).openapi()
    path = FOLDER / f"{service}.json"
    if os.environ.get("SYNTHORAX_UPDATE_SNAPSHOTS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    assert document == json.loads(path.read_text())
