"""What has been trained is not trained again."""

from typing import Any

import pytest
from sqlalchemy import text

from tests.training.conftest import SIZE_PX, image_table
from tests.training.test_experiments import ref
from tests.training.test_runs import job, runs


@pytest.fixture
def train(work, handler, engine):
    """Run all that is runnable; answers how many trainings that took."""

    def run() -> int:
        before = len(engine.specs)
        work("training", "training", {"experiment": handler(engine)})
        return len(engine.specs) - before

    return run


def post(http, body: dict[str, Any], **more: Any) -> str:
    answer = http.post("/experiments", json={**body, **more})
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def test_the_same_study_again_trains_nothing(http, body, train, verdicts, adapters) -> None:
    first = post(http, body)
    assert train() == 12
    received = dict(verdicts.received)
    verdicts.received.clear()
    assert http.post("/experiments", json={**body, "dry_run": True}).json()["reused_runs"] == 12
    second = post(http, body)
    assert train() == 0
    assert job(http, second)["state"] == "succeeded"
    assert verdicts.received == received
    before, after = runs(http, first), runs(http, second)
    assert {r["reused"] for r in before.values()} == {False}
    assert {r["reused"] for r in after.values()} == {True}
    for key, run in after.items():
        assert run["classifier"] != before[key]["classifier"]
        for field in ("validation_auroc", "best_step", "curve"):
            assert run[field] == before[key][field]
    with adapters.db.transaction() as tx:
        keys = tx.session.scalars(
            text("SELECT files->0->>'key' FROM training.classifiers WHERE experiment = :id"),
            {"id": second},
        ).all()
    assert all(f"/experiments/{second}/" in key for key in keys)


def test_more_seeds_train_only_what_is_new(http, body, train) -> None:
    first = post(http, body)
    assert train() == 12
    more = {**body, "seeds": [1, 2, 0]}
    assert http.post("/experiments", json={**more, "dry_run": True}).json()["reused_runs"] == 12
    second = post(http, more, extends=first)
    assert train() == 6
    assert {seed for (_, seed), r in runs(http, second).items() if not r["reused"]} == {2}


def test_more_ratios_train_only_what_is_new(http, body, train) -> None:
    """With the same primary arm, and so the same steps."""
    post(http, body)
    train()
    body["preset"]["ratios"] = [1, 2, 3]
    post(http, body)
    assert train() == 2


@pytest.mark.parametrize(
    ("change", "trained"),
    [
        ({"name": "another name"}, 0),
        ({"plan": {"margin": 0.01}}, 0),
        ({"classifier": {"epochs": 0.8, "batch_size": 8, "learning_rate": 0.002}}, 12),
        ({"label_policy": {"uncertain": "1"}}, 12),
        ({"labels": ["Edema"]}, 12),
        ({"plan": {"primary": "real+100%"}}, 10),  # `real` has its own schedule
    ],
)
def test_what_determines_a_run_counts(http, body, train, change, trained) -> None:
    post(http, body)
    train()
    post(http, {**body, **change})
    assert train() == trained


def test_only_test_sets_not_seen_before_are_scored(
    http, body, train, shelf, engine, adapters, verdicts
) -> None:
    post(http, body)
    train()
    table = image_table(adapters, "elsewhere", [f"far-{i}" for i in range(6)], ["test"] * 6)
    far = shelf.add_dataset(table, size_px=SIZE_PX)
    scored: list[int] = []
    score = engine.score

    def counted(classifier, images, rows):
        scored.append(len(rows))
        return score(classifier, images, rows)

    engine.score = counted
    post(http, {**body, "tests": [*body["tests"], {"name": "far", "data": ref(far)}]})
    assert train() == 0
    assert scored == [6] * 12
    assert len(verdicts.received["real", 0, "far"]) == 1


def test_nothing_is_copied_of_another_project_or_of_what_is_deleted(
    http, body, train, adapters
) -> None:
    post(http, body)
    train()
    with adapters.db.transaction() as tx:
        tx.session.execute(text("UPDATE training.experiments SET project = gen_random_uuid()"))
    post(http, body)
    assert train() == 12


def test_a_damaged_classifier_is_trained_anew(http, body, train, adapters) -> None:
    first = post(http, body)
    train()
    with adapters.db.transaction() as tx:
        key = tx.session.scalar(
            text(
                "SELECT files->0->>'key' FROM training.classifiers "
                "WHERE experiment = :id AND arm = 'shuffled' AND seed = 0"
            ),
            {"id": first},
        )
    adapters.store.put(key, b"damage")
    second = post(http, body)
    assert train() == 1
    assert not runs(http, second)["shuffled", 0]["reused"]


def test_arms_that_are_the_same_train_once(http, body, train, verdicts) -> None:
    real = {"data": body["preset"]["real"]}
    del body["preset"]

    def arm(name: str, **source: Any) -> dict[str, Any]:
        return {"name": name, "stages": [{"sources": [{**real, **source}], "steps": 3}]}

    arms = [arm("a"), arm("b", shuffled=True), arm("c"), arm("d")]
    del body["classifier"]["epochs"]  # every stage says its steps
    made = post(http, {**body, "arms": arms}, plan={"reference": "a", "primary": "b"})
    assert train() == 4
    assert job(http, made)["state"] == "succeeded"
    reused = {key for key, run in runs(http, made).items() if run["reused"]}
    assert reused == {(arm, seed) for arm in "cd" for seed in (0, 1)}
    for seed in (0, 1):
        assert verdicts.received["a", seed, "internal"] == verdicts.received["c", seed, "internal"]


# ---------------------------------------------------------------- exploratory


def test_what_extends_a_study_is_marked_exploratory(http, body, verdicts) -> None:
    first = post(http, body)
    made = http.post("/experiments", json={**body, "extends": first}).json()
    words = f"extended: it extends experiment {first}, whose results were known"
    assert made["waived"] == verdicts.plans[-1].waived == [words]


def test_only_ones_own_study_can_be_extended(http, body) -> None:
    unknown = {**body, "extends": body["preset"]["real"]["dataset"]}
    assert http.post("/experiments", json=unknown).status_code == 404
