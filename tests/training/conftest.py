"""A training service over stand-in providers, with data enough for every arm."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest

from api_schemas.base import DatasetRef, GenerationRef
from api_schemas.findings import Finding
from services.kit.jobs import NewJob
from services.training.classifier.cache import SourceCache
from services.training.main import compose
from services.training.ports.engine import Engine
from services.training.service.catalogue import Catalogue
from services.training.service.materials import Materials
from services.training.service.pretrained import PretrainedFiles
from services.training.service.runs import RunExperiment
from tests.training.manifests import both, manifest
from tests.training.standins import Shelf, StubEngine, Verdicts, store_images

SIZE_PX = 16
KNOWN = (Finding.EDEMA, Finding.FRACTURE)
TRAIN, HELD = 12, 8  # images of split train, and of validation and test each


@pytest.fixture
def shelf(adapters, ada) -> Shelf:
    return Shelf(adapters, ada.caller.project)


@pytest.fixture
def verdicts() -> Verdicts:
    return Verdicts()


@pytest.fixture
def engine() -> StubEngine:
    return StubEngine()


@pytest.fixture
def http(adapters, browse, ada, shelf, verdicts):
    part = compose(adapters, datasets=shelf, generations=shelf, evaluation=verdicts)
    return browse(part.router, member=ada)


@pytest.fixture
def handler(adapters, shelf, verdicts, tmp_path) -> Callable[..., RunExperiment]:
    """The worker's handler: `handler(engine, stretch_s=300, store=...)`."""

    def make(engine: Engine, stretch_s: float = 300.0, store: Any = None) -> RunExperiment:
        catalogue = Catalogue(shelf, shelf)
        packed = SourceCache(tmp_path / "packed", 10**9)
        weights = PretrainedFiles([tmp_path / "imports"], tmp_path / "hub")
        return RunExperiment(
            adapters.db,
            store or adapters.store,
            engine,
            catalogue,
            Materials(catalogue, store or adapters.store, packed, weights),
            verdicts,
            device="a machine",
            scratch=tmp_path / "training",
            stretch_s=stretch_s,
        )

    return make


@pytest.fixture
def classifier(http, body, work, handler, engine) -> str:
    """That of arm `real+100%`, seed 0."""
    made = http.post("/experiments", json=body | {"seeds": [0]}).json()
    work("training", "training", {"experiment": handler(engine)})
    arms = http.get(f"/experiments/{made['id']}/arms").json()
    (arm,) = [each for each in arms if each["arm"]["name"] == "real+100%"]
    return arm["runs"][0]["classifier"]


def image_table(adapters, name: str, patients: list[str], split: list[str], **more: Any):
    """A manifest with stored noise images and labels of both classes in every split."""
    rng = np.random.default_rng(len(name))
    images = rng.integers(0, 256, (len(patients), SIZE_PX, SIZE_PX), dtype=np.uint8)
    keys, digests = store_images(adapters, images, name)
    labels = both(len(patients), *KNOWN)
    return manifest(patients, labels, split=split, prefix=name, keys=keys, digests=digests, **more)


@pytest.fixture
def real_table(adapters):
    split = ["train"] * TRAIN + ["validation"] * HELD + ["test"] * HELD
    return image_table(adapters, "real", [f"real-{i}" for i in range(len(split))], split)


@pytest.fixture
def real(shelf, real_table) -> DatasetRef:
    return shelf.add_dataset(real_table, size_px=SIZE_PX)


@pytest.fixture
def cohort_table(adapters):
    replicas = [i // TRAIN for i in range(3 * TRAIN)]
    names = [f"synthetic-{i}" for i in range(len(replicas))]
    return image_table(adapters, "cohort", names, ["train"] * len(names), replicas=replicas)


@pytest.fixture
def cohort(shelf, cohort_table) -> GenerationRef:
    """Three replicas; its generator saw the training patients, as it may."""
    saw = [f"real-{i}" for i in range(TRAIN)]
    return shelf.add_cohort(cohort_table, saw=saw, size_px=SIZE_PX)


@pytest.fixture
def body(real, cohort) -> dict[str, Any]:
    """A request as JSON: ratios 1 and 3, two seeds, five steps for the primary arm."""
    data = real.model_dump(mode="json")
    return {
        "name": "does it help?",
        "preset": {
            "name": "supplement",
            "real": data,
            "synthetic": cohort.model_dump(mode="json"),
            "ratios": [1, 3],
        },
        "seeds": [0, 1],
        "classifier": {"epochs": 0.8, "batch_size": 8},
        "validation": {"data": data, "split": "validation"},
        "tests": [{"name": "internal", "data": data}],
    }


@pytest.fixture
def making(adapters, ada) -> UUID:
    """The job of data that is still being made; a worker of `stub` ends it."""
    with adapters.db.transaction() as tx:
        job = NewJob("stub", "stub", "stub", ada.caller, uuid4(), {}, [{}])
        return adapters.jobs.submit(tx, job)
