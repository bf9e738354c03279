"""Row 35: a study whose worker is killed ten times, at random, ends with the same numbers."""

import random
import time
from uuid import UUID

import pytest
from fastapi.testclient import TestClient

from services.datasets.main import compose as compose_datasets
from services.datasets.worker import handlers as dataset_handlers
from services.evaluation.main import compose as compose_evaluation
from services.evaluation.service.evaluate import Evaluate
from services.evaluation.service.sources import Sources
from services.kit.http import web_app
from services.kit.worker import runner
from services.training.main import compose as compose_training
from tests.faults.house import House, Process, stub_arguments, until

pytestmark = pytest.mark.slow

KILLS = 10
LONGEST_S = 0.5
"""About as long as a stretch takes, so that a kill may fall anywhere into one."""


NUMBERS = (
    """SELECT arm, seed, digest, best_step, validation_auroc FROM training.classifiers
       WHERE experiment = :id ORDER BY arm""",
    """SELECT r.arm, p->>'step' AS step, p->>'loss' AS loss, p->>'auroc' AS auroc
       FROM training.runs r, jsonb_array_elements(r.curve) p
       WHERE experiment = :id ORDER BY arm, CAST(p->>'step' AS int)""",
    """SELECT p.arm, p.seed, p.test, p.digest FROM evaluation.predictions p
       JOIN evaluation.plans q ON q.id = p.plan WHERE q.experiment = :id ORDER BY arm""",
    """SELECT arm, test, label, auroc, low, high, difference, p FROM evaluation.results
       WHERE experiment = :id ORDER BY arm, label""",
)
"""All that comes of an experiment: weights, curves, predictions, and the evaluation."""


class Laboratory:
    """Datasets, training and evaluation over the house; the training worker stands beside it."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.datasets = compose_datasets(house.adapters)
        self.verdicts = compose_evaluation(
            house.adapters, datasets=self.datasets.provider, generations=None
        )
        training = compose_training(
            house.adapters,
            datasets=self.datasets.provider,
            generations=None,
            evaluation=self.verdicts.provider,
        )
        routers = [each.router for each in (self.datasets, training, self.verdicts)]
        app = web_app("test", routers, house.adapters)
        self.http = TestClient(app, headers={"Authorization": f"Bearer {house.key}"})
        self.home = self._phantoms()

    def worker(self) -> Process:
        arguments = list(stub_arguments("tests.faults.training_worker"))
        arguments[arguments.index("-Q") + 1] = "training"
        return self.house.start("training", arguments)

    def study(self) -> tuple[UUID, str]:
        """Order two arms of one seed: the job and the experiment."""
        real = {"data": {"dataset": self.home}}

        def arm(name: str, **source: object) -> dict[str, object]:
            return {"name": name, "stages": [{"sources": [real | source], "steps": 60}]}

        body = {
            "name": "killed again and again",
            "arms": [arm("plain"), arm("dealt", shuffled=True)],
            "plan": {"reference": "dealt", "primary": "plain"},
            "seeds": [3],
            "classifier": {"batch_size": 8, "validate_every": 7},
            "validation": {**real, "split": "validation"},
            "tests": [{"name": "internal", **real}],
        }
        made = self._post("/experiments", body)
        return UUID(made["job"]["id"]), made["id"]

    def numbers(self, experiment: str) -> list[tuple]:
        adapters, shelf = self.house.adapters, self.datasets.provider
        evaluate = Evaluate(
            adapters.db, adapters.store, Sources(adapters.store, shelf, None), lambda _: "a report"
        )
        evaluator = runner(adapters, "evaluation", "evaluation", {"evaluate": evaluate})
        while evaluator.run_one():
            pass
        found = [self.house.query(sql, {"id": experiment}) for sql in NUMBERS]
        assert all(found), "every table has something to compare"
        return [tuple(row) for rows in found for row in rows]

    def _phantoms(self) -> str:
        body = {"format": "phantom", "name": "few", "site": "phantom-a", "patients": 60}
        made = self._post("/datasets", body | {"size_px": 32, "seed": 1})
        importer = runner(
            self.house.adapters, "datasets", "cpu", dataset_handlers(self.house.adapters)
        )
        while importer.run_one():
            pass
        return made["id"]

    def _post(self, path: str, body: dict[str, object]) -> dict:
        answer = self.http.post(path, json=body)
        assert answer.status_code == 202, answer.text
        self.house.accepted.append(UUID(answer.json()["job"]["id"]))
        return answer.json()


def test_row_35_a_study_killed_ten_times(house) -> None:
    house.control()
    laboratory = Laboratory(house)
    moments = random.SystemRandom()
    job, killed = laboratory.study()
    for _ in range(KILLS):
        before = _done(house, job)
        worker = laboratory.worker()
        until(lambda before=before: _done(house, job) > before, "a stretch to be finished")
        time.sleep(moments.uniform(0, LONGEST_S))  # not a wait: the random point
        assert not house.view(job).state.terminal
        worker.kill()
    laboratory.worker()
    house.finish(job)
    assert sum(s.crashes for s in house.slices(job)) >= KILLS // 2
    house.execute("UPDATE training.runs SET inputs_digest = NULL")  # else nothing is trained again
    job, whole = laboratory.study()
    house.finish(job)
    assert laboratory.numbers(killed) == laboratory.numbers(whole)


def _done(house: House, job: UUID) -> int:
    return sum(s.state == "done" for s in house.slices(job))
