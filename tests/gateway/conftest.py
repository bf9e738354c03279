"""The whole suite in one process, with every worker, and what a study leaves in it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from services.datasets import main as datasets
from services.datasets.worker import handlers as datasets_handlers
from services.evaluation import main as evaluation
from services.evaluation.service import (
    EVALUATE,
    EXPORT,
    OVERLAP,
    QUALITY,
    FindOverlap,
    GivenTables,
    MeasureQuality,
    Stock,
    Verify,
)
from services.evaluation.service import KEPT as KEPT_BY_EVALUATION
from services.evaluation.service.evaluate import Evaluate
from services.evaluation.service.sources import Sources
from services.gateway.main import compose
from services.generation import main as generation
from services.generation.service import KEPT as KEPT_BY_GENERATION
from services.generation.service import RENDER, TRAIN, Rendering, Scratch, Training
from services.kit.deletion import Delete
from services.kit.jobs.lineage import DELETE
from services.training.classifier.cache import SourceCache
from services.training.service.calibrating import CALIBRATE, Calibrate
from services.training.service.catalogue import Catalogue
from services.training.service.keeping import KEPT as KEPT_BY_TRAINING
from services.training.service.keeping import tidy
from services.training.service.materials import Materials
from services.training.service.pretrained import PretrainedFiles
from services.training.service.runs import RunExperiment
from tests.generation.conftest import StubEngine as StubDiffusion
from tests.training.standins import StubEngine as StubClassifier

PHANTOMS = {"format": "phantom", "patients": 40, "size_px": 32, "seed": 1}


@pytest.fixture
def http(adapters, ada) -> TestClient:
    return TestClient(compose(adapters), headers=ada.headers, raise_server_exceptions=False)


@pytest.fixture
def run(adapters, work, tmp_path: Path) -> Callable[[], None]:
    """Run every worker until nothing is left to do; engines that are quick, all else real."""
    db, store, jobs = adapters.db, adapters.store, adapters.jobs
    data = datasets.compose(adapters).provider
    cohorts = generation.compose(adapters, datasets=data).provider
    verdicts = evaluation.compose(adapters, datasets=data, generations=cohorts).provider
    catalogue, packed = Catalogue(data, cohorts), SourceCache(tmp_path / "packed", 10**9)
    scratch = Scratch(db, jobs, tmp_path)
    parts = (db, store, data, StubDiffusion(), tmp_path)
    sources = Sources(store, data, cohorts)
    stock = Stock(store, data, cohorts)
    experiments = RunExperiment(
        db,
        store,
        StubClassifier(),
        catalogue,
        Materials(catalogue, store, packed, PretrainedFiles([], tmp_path)),
        verdicts,
        device="a machine",
        scratch=tmp_path / "training",
        stretch_s=300,
    )
    workers: dict[tuple[str, str], dict[str, Any]] = {
        ("datasets", "cpu"): datasets_handlers(adapters),
        ("generation", "generation"): {
            TRAIN: Training(*parts),
            RENDER: Rendering(*parts),
            DELETE: Delete(adapters.erasure, KEPT_BY_GENERATION, scratch.tidy),
        },
        ("training", "training"): {
            "experiment": experiments,
            CALIBRATE: Calibrate(StubClassifier(), device="a machine", scratch=tmp_path / "speed"),
            DELETE: Delete(adapters.erasure, KEPT_BY_TRAINING, lambda: tidy(db, packed)),
        },
        ("evaluation", "evaluation"): {
            EVALUATE: Evaluate(db, store, sources, lambda _: "a report"),
            OVERLAP: FindOverlap(stock),
            QUALITY: MeasureQuality(stock, GivenTables(db, store)),
            EXPORT: Verify(db, stock),
            DELETE: Delete(adapters.erasure, KEPT_BY_EVALUATION),
        },
    }

    def go() -> None:
        while any(work(*who, handlers) for who, handlers in workers.items()):
            pass

    return go


@dataclass(frozen=True)
class Study:
    """What a study leaves in the suite, by id; `other` is a dataset it only tests on."""

    dataset: str
    other: str
    generator: str
    cohort: str
    experiment: str

    @property
    def derived(self) -> Iterator[tuple[str, str]]:
        yield "experiments", self.experiment
        yield "generations", self.cohort
        yield "generators", self.generator


@pytest.fixture
def study(http, run) -> Study:
    def post(path: str, **body: object) -> str:
        answer = http.post(path, json=body)
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    dataset = post("/datasets", name="here", site="phantom-a", **PHANTOMS)
    other = post("/datasets", name="there", site="phantom-b", **PHANTOMS)
    generator = post("/generators", name="g", dataset=dataset, preset="tiny-32", steps=15)
    cohort = post("/generate", generator=generator, mirror={"dataset": dataset})
    run()
    real = {"dataset": dataset}
    experiment = post(
        "/experiments",
        name="does it help?",
        preset={"name": "supplement", "real": real, "synthetic": {"generation": cohort}},
        seeds=[0, 1],
        classifier={"epochs": 0.1},
        validation={"data": real, "split": "validation"},
        tests=[{"name": "there", "data": {"dataset": other}, "split": "all"}],
    )
    run()
    assert http.get(f"/reports/{experiment}").status_code == 200
    return Study(dataset, other, generator, cohort, experiment)
