"""Through the whole suite in one process: a dataset goes with everything that was made from it,
and the collector takes nothing that any service still names.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from services.datasets import main as datasets
from services.datasets.worker import handlers as datasets_handlers
from services.evaluation import main as evaluation
from services.evaluation.service import EVALUATE
from services.evaluation.service import KEPT as KEPT_BY_EVALUATION
from services.evaluation.service.evaluate import Evaluate
from services.evaluation.service.sources import Sources
from services.gateway.main import compose
from services.gateway.worker import collector
from services.generation import main as generation
from services.generation.service import KEPT as KEPT_BY_GENERATION
from services.generation.service import RENDER, TRAIN, Rendering, Scratch, Training
from services.kit.deletion import Delete
from services.kit.jobs.lineage import DELETE
from services.training.classifier.cache import SourceCache
from services.training.service.catalogue import Catalogue
from services.training.service.keeping import KEPT as KEPT_BY_TRAINING
from services.training.service.keeping import tidy
from services.training.service.materials import Materials
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
    experiments = RunExperiment(
        db,
        store,
        StubClassifier(),
        catalogue,
        Materials(catalogue, store, packed),
        verdicts,
        scratch=tmp_path / "training",
        stretch_s=300,
    )
    workers: dict[tuple[str, str], dict[str, Any]] = {
        ("datasets", "cpu"): datasets_handlers(adapters),
        ("generation", "generation"): {
            TRAIN: Training(*parts),
            RENDER: Rendering(*parts),
            DELETE: Delete(store, KEPT_BY_GENERATION, scratch.tidy),
        },
        ("training", "training"): {
            "experiment": experiments,
            DELETE: Delete(store, KEPT_BY_TRAINING, lambda: tidy(db, packed)),
        },
        ("evaluation", "evaluation"): {
            EVALUATE: Evaluate(db, store, sources, lambda _: "a report"),
            DELETE: Delete(store, KEPT_BY_EVALUATION),
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
    cohort = post("/generate", generator=generator, mirror=dataset)
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


def test_a_dataset_goes_with_everything_made_from_it(
    http, run, study, adapters, ada, tmp_path
) -> None:
    project = f"projects/{ada.caller.project}/"
    query = {"experiment": study.experiment, "limit": 1000}
    results = http.get("/results", params=query).json()
    foreseen = http.get(f"/datasets/{study.dataset}/deletion").json()
    kinds = [each["kind"] for each in foreseen["derived"]]
    assert kinds == ["plan", "experiment", "generation", "generator"]
    refused = http.delete(f"/datasets/{study.dataset}")
    assert (refused.status_code, refused.json()["accepted"]) == (409, "?derived=true")
    assert refused.json()["derived"] == foreseen["derived"]
    arms = http.get(f"/experiments/{study.experiment}/arms").json()
    classifier = arms[0]["runs"][0]["classifier"]

    asked = http.delete(f"/datasets/{study.dataset}", params={"derived": True})
    assert asked.status_code == 202
    gone = [("datasets", study.dataset), *study.derived, ("reports", study.experiment)]
    for path, made in (*gone, ("classifiers", classifier)):
        assert http.get(f"/{path}/{made}").status_code == 404, path
    order = {"generator": study.generator, "conditions": [{"count": 1}]}
    assert http.post("/generate", json=order).status_code == 404

    run()
    job = http.get(f"/datasets/{study.dataset}/deletion").json()["job"]
    assert job["state"] == "succeeded"
    assert {key.split("/")[3] for key in adapters.store.keys(project)} == {study.other}
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert http.get(f"/datasets/{study.other}/summary").status_code == 200
    assert http.get("/results", params=query).json() == results
    assert results["items"]


def test_the_collector_takes_nothing_that_is_named(http, study, adapters, ada) -> None:
    project = f"projects/{ada.caller.project}/"
    before = set(adapters.store.keys(project))
    folders = {key.split("/")[2] for key in before}
    assert folders == {"datasets", "generators", "generations", "experiments", "plans"}
    orphans = set()
    for folder in folders:
        beside = next(key for key in before if f"/{folder}/" in key)
        orphans.add("/".join(beside.split("/")[:4]) + "/images/0000/000000-0123456789abcdef.png")
    for each in orphans:
        adapters.store.put(each, b"x")

    walks = collector(adapters)
    assert walks.collect().removed == 0  # all of it is young
    walks._grace = timedelta(hours=-1)
    walks.collect()
    left = set(adapters.store.keys(project))
    assert orphans & left == set()
    (rows,) = before - left  # what a finished training read
    assert "training-rows" in rows
    for path in (f"datasets/{study.dataset}", f"generations/{study.cohort}"):
        assert http.get(f"/{path}/manifest").status_code == 200
    assert http.get(f"/generations/{study.cohort}/images/0.png").status_code == 200
    assert http.get(f"/reports/{study.experiment}").status_code == 200
