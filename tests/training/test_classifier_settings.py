"""What a request says of its classifier: presets fill it in, and what a run makes of it."""

from hashlib import sha256
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from safetensors.torch import save_file

from api_schemas.training import ClassifierSettings, Pretrained
from services.training.classifier.engine import ClassifierEngine
from services.training.classifier.network import make_network
from services.training.classifier.presets import PRESETS
from services.training.ports.engine import Part, StageSpec
from services.training.service.materials import balanced, cadence
from services.training.service.pretrained import PretrainedFiles, PretrainedMissing
from tests.training.conftest import SIZE_PX, TRAIN, image_table
from tests.training.test_runs import job


def test_a_preset_fills_what_is_left_out() -> None:
    paper = ClassifierSettings(preset="paper", batch_size=32, early_stopping=None)
    assert (paper.learning_rate, paper.weight_decay, paper.epochs) == (1e-5, 3e-4, 400)
    assert (paper.monitor, paper.precision) == ("loss", "bfloat16")
    assert (paper.batch_size, paper.early_stopping) == (32, None)
    fast = ClassifierSettings()
    assert (fast.batch_size, fast.early_stopping, fast.monitor) == (32, None, "loss")
    assert (fast.keep, paper.keep, paper.keep_from) == ("best", "best", 0.0)
    last = ClassifierSettings(keep="last")
    assert (last.keep_from, last.monitor) == (None, None)
    assert ClassifierSettings(keep="last", early_stopping=3).monitor == "loss"


def test_what_is_kept_of_a_request_says_it_all(http, body) -> None:
    view = http.post("/experiments", json=body).json()
    assert view["request"]["classifier"] == {
        "preset": "fast",
        "epochs": 0.8,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "weight_decay": 0.05,
        "validate_every": None,
        "early_stopping": None,
        "keep": "best",
        "keep_from": ClassifierSettings().keep_from,
        "monitor": "loss",
        "precision": "float32",
        "class_weights": "none",
        "pretrained": None,
    }


@pytest.mark.parametrize(
    ("changes", "field", "accepted"),
    [
        ({"preset": "huge"}, "classifier.preset", "'fast' or 'paper'"),
        ({"epochs": 0}, "classifier.epochs", None),
        ({"monitor": "f1"}, "classifier.monitor", "'auroc' or 'loss'"),
        ({"keep": "last", "monitor": "loss"}, "classifier.monitor", None),
        ({"keep": "last", "keep_from": 0.5}, "classifier.keep_from", None),
        ({"monitor": None}, "classifier.monitor", None),
        ({"keep_from": 1}, "classifier.keep_from", None),
        ({"pretrained": {"path": "w", "hub": "a/b", "sha256": "0" * 64}}, None, None),
        ({"pretrained": {"path": "w", "sha256": "0"}}, "classifier.pretrained.sha256", None),
        ({"preset": "paper"}, "classifier.preset", ["fast"]),  # images of 16 px
    ],
)
def test_what_cannot_be_is_refused_by_its_field(http, body, changes, field, accepted) -> None:
    answer = http.post("/experiments", json={**body, "classifier": changes})
    assert answer.status_code == 422
    problem = answer.json()
    assert len(problem.get("errors", [0])) == 1  # what follows from it is not told
    assert problem["field"] == (field or "classifier.pretrained")
    assert problem.get("accepted") == accepted


def test_arms_of_as_many_steps_validate_as_often() -> None:
    paper = ClassifierSettings(preset="paper", epochs=50)
    assert cadence(paper, 5000) == 100  # once an epoch of the arm that runs its own schedule
    assert cadence(ClassifierSettings(), 5000) == 250
    assert cadence(ClassifierSettings(validate_every=7), 5000) == 7
    assert cadence(ClassifierSettings(preset="paper", epochs=0.2), 30) == 30


def test_balanced_weights_count_what_is_known_as_often_as_it_is_listed() -> None:
    told = np.array([[1, 0, -1], [0, 0, 1], [0, -1, 1], [1, 0, -1], [0, 0, -1]], np.int8)
    part = Part(np.zeros((5, 2, 2), np.uint8), np.arange(5), told)
    again = Part(part.images, np.array([4, 4]), told[[4, 4]])
    assert balanced([StageSpec((part,), 1), StageSpec((again,), 1)]) == (2.5, 1.0, 1.0)


def test_balanced_weights_are_each_runs_own(http, body, work, handler, engine) -> None:
    body["classifier"] |= {"class_weights": "balanced", "epochs": 0.3}
    http.post("/experiments", json=body)
    work("training", "training", {"experiment": handler(engine)}, most=2)
    targets = [np.concatenate([p.targets for p in s.stages[0].parts]) for s in engine.specs]
    for spec, told in zip(engine.specs, targets, strict=True):
        expected = (told == 0).sum(axis=0) / (told == 1).sum(axis=0)
        assert spec.positive_weights == pytest.approx(expected.tolist())


# ---------------------------------------------------------------- weights to begin with


@pytest.fixture
def weights(tmp_path) -> dict[str, Any]:
    """A file below the folder that the worker may read, as a request names it."""
    network = make_network(PRESETS["fast"].shape(SIZE_PX), labels=10, seed=1)
    (tmp_path / "imports").mkdir()
    path = tmp_path / "imports" / "weights.safetensors"
    save_file(dict(network.convnext.state_dict()), path)
    return {"path": "weights.safetensors", "sha256": sha256(path.read_bytes()).hexdigest()}


def begun_with(http, body, work, handler, asked: dict[str, Any]) -> dict[str, Any]:
    """The job of an experiment whose first run has had its turn."""
    body["classifier"] |= {"pretrained": asked}
    made = http.post("/experiments", json=body).json()["id"]
    run = handler(ClassifierEngine("cpu", threads=1))
    work("training", "training", {"experiment": run}, most=1)
    return job(http, made)


def test_a_run_begins_with_weights(http, body, work, handler, weights) -> None:
    assert begun_with(http, body, work, handler, weights)["state"] == "queued"  # between two slices


@pytest.mark.parametrize(
    ("changes", "slug", "field"),
    [
        ({"path": "elsewhere.safetensors"}, "pretrained-missing", "classifier.pretrained.path"),
        ({"path": "../secret"}, "pretrained-missing", "classifier.pretrained.path"),
        ({"sha256": "0" * 64}, "pretrained-unusable", "classifier.pretrained"),
    ],
)
def test_weights_that_are_not_there_or_others_fail_the_job(
    http, body, work, handler, weights, tmp_path, changes, slug, field
) -> None:
    (tmp_path / "secret").write_bytes(b"not to be read")
    standing = begun_with(http, body, work, handler, weights | changes)
    assert standing["state"] == "failed"
    assert standing["problem"]["type"].endswith(slug)
    assert standing["problem"]["field"] == field


def test_a_model_of_the_hub_is_fetched_once_and_missed_by_name(tmp_path, monkeypatch) -> None:
    """Without a network: what was fetched before is there, anything else is not."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    fetched = tmp_path / "models--lab--convnext"
    (fetched / "refs").mkdir(parents=True)
    (fetched / "refs" / "main").write_text("c0ffee")
    snapshot = fetched / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(b"weights")
    files = PretrainedFiles([], tmp_path)
    found = files.weights(Pretrained(hub="lab/convnext", sha256="0" * 64)).fetch()
    assert found.read_bytes() == b"weights"
    other = files.weights(Pretrained(hub="lab/another", sha256="0" * 64))
    with pytest.raises(PretrainedMissing) as missed:
        other.fetch()
    assert missed.value.problem.field == "classifier.pretrained.hub"


# ---------------------------------------------------------------- one read an image


class Counting:
    """The object store, counting how often each key is read."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.reads: dict[str, int] = {}

    def get(self, key: str, digest: str) -> bytes:
        self.reads[key] = self.reads.get(key, 0) + 1
        return self._store.get(key, digest)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def test_every_image_is_read_once_whatever_the_arms_and_seeds(
    adapters, shelf, http, body, work, handler, engine, real_table
) -> None:
    replicas = [i // TRAIN for i in range(10 * TRAIN)]
    names = [f"synthetic-{i}" for i in range(len(replicas))]
    table = image_table(adapters, "tenfold", names, ["train"] * len(names), replicas=replicas)
    cohort = shelf.add_cohort(table, saw=[], size_px=SIZE_PX).model_dump(mode="json")
    real = body["validation"]["data"]

    def arm(name: str, *sources: dict[str, Any]) -> dict[str, Any]:
        return {"name": name, "stages": [{"sources": list(sources)}]}

    tenfold = {"data": cohort, "multiple": 10}
    request = {name: value for name, value in body.items() if name != "preset"} | {
        "arms": [arm("real", {"data": real}), arm("real+1000%", {"data": real}, tenfold)],
        "plan": {"reference": "real", "primary": "real+1000%"},
        "classifier": {"epochs": 0.1, "batch_size": 8},
    }
    assert http.post("/experiments", json=request).status_code == 202
    store = Counting(adapters.store)
    assert work("training", "training", {"experiment": handler(engine, store=store)}) == 4
    assert [len(p.rows) for p in engine.specs[-1].stages[0].parts] == [TRAIN, 10 * TRAIN]
    keys = real_table["image_key"].to_pylist() + table["image_key"].to_pylist()
    assert {key: n for key, n in store.reads.items() if key in set(keys)} == dict.fromkeys(keys, 1)
