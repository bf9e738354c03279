"""Datasets over HTTP, and phantoms ready to be looked at."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api_schemas.datasets import DatasetView
from services.datasets.main import compose
from services.datasets.worker import handlers
from services.kit.adapters import Adapters


@pytest.fixture
def http(adapters: Adapters, browse: Callable[..., TestClient], ada: Any) -> TestClient:
    return browse(compose(adapters).router, member=ada)


@pytest.fixture
def strange_http(
    adapters: Adapters, browse: Callable[..., TestClient], stranger: Any
) -> TestClient:
    return browse(compose(adapters).router, member=stranger)


@pytest.fixture
def ingest(adapters: Adapters, work: Callable[..., int]) -> Callable[..., int]:
    """Run the slices that wait: all of them, or at most so many."""
    return lambda most=1000: work("datasets", "cpu", handlers(adapters), most)


@pytest.fixture
def phantoms(http: TestClient, ingest: Callable[..., int]) -> Callable[..., DatasetView]:
    """A finished dataset of phantoms: `phantoms(patients=30, seed=4)`."""

    def make(patients: int = 30, seed: int = 4, site: str = "phantom-a") -> DatasetView:
        body = {
            "format": "phantom",
            "name": "Phantoms",
            "site": site,
            "patients": patients,
            "size_px": 16,
            "seed": seed,
        }
        made = http.post("/datasets", json=body).json()
        ingest()
        return DatasetView.model_validate(http.get(f"/datasets/{made['id']}").json())

    return make
