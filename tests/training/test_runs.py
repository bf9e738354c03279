"""Runs on the real servers: stretches, seeds before seeds, scores handed on once, trouble."""

import json
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from api_schemas.findings import FINDINGS
from api_schemas.imports import PhantomSite
from api_schemas.manifest import PREDICTIONS, from_parquet
from services.datasets.importers.phantom import draw, population
from services.kit.jobs import Lease
from services.kit.objects import sha256
from services.training.classifier.auroc import auroc
from services.training.classifier.engine import ClassifierEngine
from services.training.main import compose
from services.training.ports.engine import UNKNOWN
from services.training.service.storing import fetch_folder
from tests.training.conftest import TRAIN
from tests.training.manifests import manifest
from tests.training.standins import StubEngine, store_images

ARMS = ["real", "real_equal_steps", "real+100%", "real+300%", "synthetic_only", "shuffled"]


@pytest.fixture
def made(http, body) -> str:
    return http.post("/experiments", json=body).json()["id"]


def job(http, experiment: str) -> dict[str, Any]:
    return http.get(f"/experiments/{experiment}").json()["job"]


def runs(http, experiment: str) -> dict[tuple[str, int], dict[str, Any]]:
    arms = http.get(f"/experiments/{experiment}/arms").json()
    return {(a["arm"]["name"], r["seed"]): r for a in arms for r in a["runs"]}


def test_every_run_ends_with_a_classifier_and_its_scores(
    http, made, work, handler, engine, verdicts
) -> None:
    assert work("training", "training", {"experiment": handler(engine)}) == 12
    state = job(http, made)
    assert (state["state"], state["done"], state["total"]) == ("succeeded", 54, 54)
    done = runs(http, made)
    assert {r["state"] for r in done.values()} == {"done"}
    assert {r["validation_auroc"] for r in done.values()} == {0.75}
    view = http.get(f"/classifiers/{done['shuffled', 1]['classifier']}").json()
    assert (view["arm"], view["seed"], view["best_step"]) == ("shuffled", 1, 5)
    assert view["labels"] == ["Fracture", "Edema"]
    assert set(verdicts.received) == {(arm, seed, "internal") for arm in ARMS for seed in (0, 1)}
    assert {len(pushes) for pushes in verdicts.received.values()} == {1}


def test_seeds_come_one_after_the_other(made, work, handler, engine) -> None:
    work("training", "training", {"experiment": handler(engine)})
    assert [spec.seed for spec in engine.specs] == [0] * 6 + [1] * 6
    assert [spec.steps for spec in engine.specs] == [2, 5, 5, 5, 5, 5] * 2


def test_an_arm_trains_on_what_it_says(made, work, handler, engine, real_table) -> None:
    work("training", "training", {"experiment": handler(engine)})
    parts = {name: spec.stages[0].parts for name, spec in zip(ARMS, engine.specs, strict=False)}
    sizes = {name: [len(p.rows) for p in each] for name, each in parts.items()}
    assert sizes["real"] == sizes["real_equal_steps"] == [TRAIN]
    assert sizes["real+100%"] == [TRAIN, TRAIN]
    assert sizes["real+300%"] == sizes["shuffled"] == [TRAIN, 3 * TRAIN]
    # one whole replica first
    assert sorted(parts["real+100%"][1].rows) == list(range(TRAIN))
    true, dealt = parts["real+300%"][1], parts["shuffled"][1]
    np.testing.assert_array_equal(true.rows, dealt.rows)
    assert (true.targets != dealt.targets).any()
    assert sorted(map(tuple, true.targets)) == sorted(map(tuple, dealt.targets))
    np.testing.assert_array_equal(parts["real"][0].targets, parts["shuffled"][0].targets)
    expected = np.array(real_table["Edema"].to_pylist())[parts["real"][0].rows]
    np.testing.assert_array_equal(parts["real"][0].targets[:, 1], expected)


def test_predictions_carry_truth_and_patients(made, work, handler, engine, verdicts, real_table):
    work("training", "training", {"experiment": handler(engine)}, most=1)
    (content,) = verdicts.received["real", 0, "internal"]
    table = from_parquet(content, PREDICTIONS).to_pylist()
    held = [row for row in real_table.to_pylist() if row["split"] == "test"]
    assert len(table) == 2 * len(held)
    assert [row["patient_id"] for row in table[1::2]] == [row["patient_id"] for row in held]
    for row, source in zip(table[1::2], held, strict=True):
        assert (row["label"], row["truth"]) == ("Edema", source["Edema"])


def test_a_long_run_is_many_slices(http, made, work, handler, engine) -> None:
    assert work("training", "training", {"experiment": handler(engine, stretch_s=0)}) == 54
    assert engine.resumed[:24] == [0] * 12 + [1] * 12  # everyone's turn comes round
    assert engine.resumed[24:34] == [2] * 10  # `real` is done after two steps
    assert job(http, made)["state"] == "succeeded"


def test_two_checkpoints_are_kept_and_none_at_the_end(adapters, ada, made, work, handler, engine):
    handlers = {"experiment": handler(engine, stretch_s=0)}
    work("training", "training", handlers, most=40)
    prefix = f"projects/{ada.caller.project}/experiments/{made}"
    kept = list(adapters.store.keys(f"{prefix}/checkpoints/real_equal_steps/seed-0/"))
    assert len(kept) == 2
    work("training", "training", handlers)
    assert list(adapters.store.keys(f"{prefix}/checkpoints/")) == []
    assert len(list(adapters.store.keys(f"{prefix}/classifiers/"))) == 24


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    adapters, http, made, work, handler, engine
) -> None:
    handlers = {"experiment": handler(engine, stretch_s=0)}
    work("training", "training", handlers, most=24)
    with adapters.db.transaction() as tx:
        checkpoints = tx.session.scalar(
            text("SELECT checkpoints FROM training.runs WHERE arm = 'shuffled' AND seed = 0")
        )
    assert [c["step"] for c in checkpoints] == [2, 1]
    adapters.store.put(checkpoints[0]["files"][0]["key"], b"damage")
    work("training", "training", handlers, most=10)
    assert engine.resumed[24:] == [2, 2, 2, 2, 1, 2, 2, 2, 2, 2]
    work("training", "training", handlers)
    assert job(http, made)["state"] == "succeeded"


def test_scores_are_pushed_again_but_never_made_again(
    http, made, work, handler, engine, verdicts, adapters
) -> None:
    verdicts.outages = 1
    handlers = {"experiment": handler(engine)}
    work("training", "training", handlers, most=1)
    assert runs(http, made)["real", 0]["state"] == "queued"
    with adapters.db.transaction() as tx:
        tx.session.execute(text("UPDATE jobs.slices SET not_before = now()"))
    work("training", "training", handlers, most=1)
    assert runs(http, made)["real", 0]["state"] == "done"
    assert len(engine.specs) == 1
    assert len(verdicts.received["real", 0, "internal"]) == 1


def test_data_that_changed_since_it_was_planned_on(http, made, work, handler, engine, shelf, real):
    shelf.views[real.dataset] = shelf.views[
        shelf.add_dataset(shelf.tables[real.dataset][:20], size_px=16).dataset
    ]
    work("training", "training", {"experiment": handler(engine)})
    assert job(http, made)["problem"]["type"].endswith("manifest-changed")


def test_a_worker_that_knows_the_data_already_notices_a_withdrawal(
    http, made, work, handler, engine, shelf, real
) -> None:
    warm = {"experiment": handler(engine)}
    assert work("training", "training", warm, 2) == 2
    view = shelf.views[real.dataset]()
    newer = view.manifest.model_copy(update={"digest": "f" * 64})
    shelf.views[real.dataset] = lambda: view.model_copy(update={"manifest": newer})
    work("training", "training", warm)
    assert job(http, made)["problem"]["type"].endswith("manifest-changed")
    assert len(engine.specs) == 2


def test_a_cancelled_run_stops_and_writes_nothing(http, made, work, handler, verdicts, adapters):
    engine = StubEngine()
    leases: list[Lease] = []
    run = handler(engine)

    def handle(lease: Lease) -> None:
        leases.append(lease)
        run(lease)

    def cancel() -> None:
        http.post(f"/experiments/{made}/cancel")
        leases[0].beat()

    engine.between_steps = cancel
    work("training", "training", {"experiment": handle})
    assert job(http, made)["state"] == "cancelled"
    assert verdicts.received == {}
    with adapters.db.transaction() as tx:
        assert tx.session.scalar(text("SELECT sum(step) FROM training.runs")) == 0


def test_a_drained_worker_leaves_a_checkpoint(http, made, work, handler, adapters) -> None:
    engine = StubEngine()
    run = handler(engine)

    def handle(lease: Lease) -> None:
        engine.between_steps = lease.draining.set
        run(lease)

    assert work("training", "training", {"experiment": handle}) == 1
    assert runs(http, made)["real", 0]["state"] == "queued"
    engine.between_steps = lambda: None
    assert work("training", "training", {"experiment": run}) == 12
    assert engine.resumed[:2] == [0, 1]


# ---------------------------------------------------------------- the whole, for real


def phantoms(adapters, patients: int, seed: int, split: list[str] | str, name: str):
    samples = population(PhantomSite.A, patients, seed)
    keys, digests = store_images(adapters, draw(samples, 32), name)
    labels = {f: [s.labels[f] for s in samples] for f in FINDINGS}
    names = [s.patient_id for s in samples]
    where = split if isinstance(split, str) else [split[s.patient % len(split)] for s in samples]
    return manifest(names, labels, split=where, prefix=name, keys=keys, digests=digests)


def test_a_small_experiment_trains_for_real(
    http, shelf, adapters, work, handler, verdicts, tmp_path
) -> None:
    """Phantoms, torch, Postgres and the object store; only the providers are stand-ins."""
    splits = ["train"] * 7 + ["validation"] + ["test"] * 2
    real = shelf.add_dataset(phantoms(adapters, 100, 1, splits, "home"))
    more = shelf.add_cohort(phantoms(adapters, 100, 2, "train", "cohort"))
    home, cohort = real.model_dump(mode="json"), more.model_dump(mode="json")

    def arm(name: str, *sources: dict[str, Any]) -> dict[str, Any]:
        return {"name": name, "stages": [{"sources": list(sources)}]}

    body = {
        "name": "small",
        "arms": [
            arm("mixed", {"data": home}, {"data": cohort}),
            arm("dealt", {"data": home, "shuffled": True}, {"data": cohort, "shuffled": True}),
        ],
        "plan": {"reference": "dealt", "primary": "mixed"},
        "seeds": [5],
        "classifier": {"epochs": 5, "batch_size": 16},
        "validation": {"data": home, "split": "validation"},
        "tests": [{"name": "internal", "data": home}],
        "label_policy": {"uncertain": "1"},
        "labels": ["Support Devices", "No Finding"],
    }
    made = http.post("/experiments", json=body)
    assert made.status_code == 202, made.json()
    run = handler(ClassifierEngine("cpu", threads=1))
    assert work("training", "training", {"experiment": run}) == 2
    done = runs(http, made.json()["id"])
    assert {r["state"] for r in done.values()} == {"done"}
    means = {arm: macro_of(verdicts.received[arm, 5, "internal"][0]) for arm, _ in done}
    assert means["mixed"] > 0.75
    assert means["dealt"] < 0.7

    view = http.get(f"/classifiers/{done['mixed', 5]['classifier']}").json()
    with adapters.db.transaction() as tx:
        files = tx.session.scalar(
            text("SELECT files FROM training.classifiers WHERE id = :id"), {"id": view["id"]}
        )
    folder = fetch_folder(adapters.store, files, tmp_path / "classifier")
    assert sha256((folder / "tensors.safetensors").read_bytes()) == view["digest"]
    record = json.loads((folder / "record.json").read_text())
    assert record["labels"] == view["labels"]


def macro_of(content: bytes) -> float:
    table = from_parquet(content, PREDICTIONS)
    labels = np.array(table["label"].to_pylist())
    truth = np.array([UNKNOWN if t is None else t for t in table["truth"].to_pylist()])
    scores = table["score"].to_numpy()
    values = []
    for label in np.unique(labels):
        mine = (labels == label) & (truth != UNKNOWN)
        values.append(auroc(truth[mine] == 1, scores[mine]))
    return float(np.mean(values))


def test_curves_grow_while_runs_train(http, made, work, handler, engine, stranger) -> None:
    before = http.get(f"/experiments/{made}/curves.svg")
    assert (before.status_code, before.headers["content-type"]) == (200, "image/svg+xml")
    work("training", "training", {"experiment": handler(engine)}, most=2)
    points = [run["curve"] for run in runs(http, made).values() if run["curve"]]
    assert len(points) == 2
    assert (points[0][0]["step"], points[0][0]["auroc"]) == (2, 0.75)
    assert len(http.get(f"/experiments/{made}/curves.svg").text) > len(before.text)
    assert http.get(f"/experiments/{made}/curves.png").content.startswith(b"\x89PNG")
    elsewhere = http.get(f"/experiments/{made}/curves.png", headers=stranger.headers)
    assert elsewhere.status_code == 404


def test_predictions_can_be_taken_away_by_arm_seed_and_test(
    http, made, work, handler, engine, verdicts, adapters, shelf, browse, stranger
) -> None:
    which = {"arm": "real+100%", "seed": 1, "test": "internal"}
    place = f"/experiments/{made}/predictions"
    early = http.get(place, params=which)
    assert (early.status_code, early.json()["type"].split(":")[-1]) == (
        409,
        "predictions-not-ready",
    )
    work("training", "training", {"experiment": handler(engine)})
    for arm, seed, test in verdicts.received:
        answer = http.get(place, params={"arm": arm, "seed": seed, "test": test})
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "application/vnd.apache.parquet"
        assert answer.content == verdicts.received[arm, seed, test][0]
    for field, wrong, accepted in (
        ("arm", "nobody's", ARMS),
        ("seed", 7, [0, 1]),
        ("seed", 2**70, [0, 1]),
        ("test", "../internal", ["internal"]),
    ):
        problem = http.get(place, params=which | {field: wrong}).json()
        assert (problem["status"], problem["field"], problem["accepted"]) == (404, field, accepted)
        lacking = {name: value for name, value in which.items() if name != field}
        assert http.get(place, params=lacking).json()["field"] == field
    part = compose(adapters, datasets=shelf, generations=shelf, evaluation=verdicts)
    assert browse(part.router, member=stranger).get(place, params=which).status_code == 404
