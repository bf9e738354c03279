"""Training and scoring on a CPU: it learns, resumes exactly, and refuses what is not its own."""

import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from services.training.classifier.auroc import macro_auroc
from services.training.classifier.engine import ClassifierEngine
from services.training.classifier.network import Shape
from services.training.classifier.presets import PRESETS
from services.training.classifier.stretches import Kernels
from services.training.ports.engine import (
    UNKNOWN,
    CheckpointMismatchError,
    EngineError,
    NotFiniteError,
    Outcome,
    RunSpec,
    StageSpec,
    Weights,
)
from tests.training.classifier.problems import run_spec, squares


def never() -> bool:
    return False


def after(steps: int) -> Callable[[], bool]:
    calls = count(1)
    return lambda: next(calls) >= steps


def train(
    engine,
    spec: RunSpec,
    folder: Path,
    resume: Path | None = None,
    pause: Callable[[], bool] = never,
) -> Outcome:
    return engine.train(spec, folder, resume=resume, pause=pause, progress=lambda _: None)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_it_learns_and_scores(engine, tmp_path) -> None:
    outcome = train(engine, run_spec(60), tmp_path)
    assert outcome.finished
    unseen = squares(200, 9)
    scores = engine.score(outcome.classifier, unseen.images, unseen.rows)
    assert scores.shape == (200, 3)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert macro_auroc(unseen.targets, scores) > 0.95


def test_a_resumed_run_ends_with_the_same_bytes(engine, tmp_path) -> None:
    # two stages, and contrast so faint that the best weights keep changing
    stages = (
        StageSpec((squares(48, 1, contrast=10),), 35),
        StageSpec((squares(24, 2, contrast=10), squares(24, 4, contrast=10)), 65),
    )
    spec = run_spec(100, stages=stages, validation=squares(40, 5, contrast=10))
    whole = train(engine, spec, tmp_path / "whole")
    first = train(engine, spec, tmp_path / "first", pause=after(50))
    assert first.step == 50
    assert not first.finished
    second = train(engine, spec, tmp_path / "second", resume=first.checkpoint)
    assert second == replace(whole, classifier=second.classifier)  # every loss on the way too
    assert contents(second.classifier) == contents(whole.classifier)


def test_the_best_weights_are_kept(engine, tmp_path) -> None:
    outcome = train(engine, run_spec(60), tmp_path)
    best = max(point.auroc for point in outcome.curve)
    assert outcome.best_auroc == best
    assert outcome.best_step == max(p.step for p in outcome.curve if p.auroc == best)
    held = run_spec(60).validation
    scores = engine.score(outcome.classifier, held.images, held.rows)
    assert macro_auroc(held.targets, scores) == best


def test_weights_from_before_the_last_stage_are_never_kept(engine, tmp_path) -> None:
    """The first stage is the whole problem; the second one teaches the opposite, so that its every
    validation is worse than those of the first.
    """
    opposite = squares(48, 2)
    opposite.targets[:] = np.where(opposite.targets == UNKNOWN, UNKNOWN, 1 - opposite.targets)
    stages = (StageSpec((squares(48, 1),), 60), StageSpec((opposite,), 20))
    spec = run_spec(80, stages=stages, early_stopping=2, validate_every=5)
    outcome = train(engine, spec, tmp_path)
    aurocs = {point.step: point.auroc for point in outcome.curve}
    assert max(aurocs, key=aurocs.get) <= 60
    assert outcome.best_step > 60
    assert outcome.best_auroc == aurocs[outcome.best_step]
    held = spec.validation
    scores = engine.score(outcome.classifier, held.images, held.rows)
    assert macro_auroc(held.targets, scores) == outcome.best_auroc


def test_patience_does_not_skip_a_stage(engine, tmp_path) -> None:
    stages = (StageSpec((squares(48, 1),), 100), StageSpec((squares(24, 2),), 20))
    spec = run_spec(120, stages=stages, early_stopping=1, validate_every=5)
    assert train(engine, spec, tmp_path).step > 100


def test_nothing_is_kept_before_the_share_that_was_asked(engine, tmp_path) -> None:
    spec = run_spec(60, keep_from=0.75, validate_every=5)
    outcome = train(engine, spec, tmp_path)
    later = {point.step: point.auroc for point in outcome.curve if point.step > 45}
    assert outcome.best_auroc == max(later.values())
    assert outcome.best_step in later


def test_the_last_weights_are_kept_where_asked(engine, tmp_path) -> None:
    spec = run_spec(60, keep="last", stages=(StageSpec((squares(24, 1, contrast=5),), 60),))
    outcome = train(engine, spec, tmp_path)
    assert outcome.best_step == outcome.step == 60
    assert outcome.best_auroc == outcome.curve[-1].auroc
    held = spec.validation
    scores = engine.score(outcome.classifier, held.images, held.rows)
    assert macro_auroc(held.targets, scores) == outcome.best_auroc


def test_validations_fall_where_asked_and_at_the_end(engine, tmp_path) -> None:
    outcome = train(engine, run_spec(25), tmp_path)
    assert [point.step for point in outcome.curve] == [10, 20, 25]


def test_the_curve_says_how_it_goes(engine, tmp_path) -> None:
    spec = run_spec(20)
    outcome = train(engine, spec, tmp_path)
    last = outcome.curve[-1]
    assert last.images_per_s > 0
    assert last.memory_mib is None  # there is no GPU
    held = squares(40, 5)
    scores = engine.score(outcome.classifier, held.images, held.rows)
    known = held.targets != UNKNOWN
    loss = -np.log(np.where(held.targets == 1, scores, 1 - scores)[known]).mean()
    assert outcome.best_step == last.step
    assert last.validation_loss == pytest.approx(loss)


def test_early_stopping_only_where_asked(engine, tmp_path) -> None:
    spec = run_spec(200, validate_every=5)
    patient = train(engine, replace(spec, early_stopping=2), tmp_path / "patient")
    assert patient.finished
    assert patient.step < 200
    first_best = next(p.step for p in patient.curve if p.auroc == patient.best_auroc)
    assert patient.step == first_best + 10


def test_another_seed_trains_another_classifier(engine, tmp_path) -> None:
    one, two = (
        train(engine, run_spec(10, seed=seed), tmp_path / str(seed)).classifier for seed in (1, 2)
    )
    weights = "tensors.safetensors"
    assert contents(one)[weights] != contents(two)[weights]


def test_a_loss_that_is_not_finite_is_a_typed_error(engine, tmp_path) -> None:
    with pytest.raises(NotFiniteError, match="step"):
        train(engine, run_spec(20, learning_rate=float("inf")), tmp_path)


def test_the_checkpoint_of_another_run_is_refused(engine, tmp_path) -> None:
    paused = train(engine, run_spec(20), tmp_path / "a", pause=after(5))
    relabelled = squares(48, 1)
    relabelled.targets[0, 0] ^= 1
    other = run_spec(20, stages=(StageSpec((relabelled, squares(24, 2)), 20),))
    with pytest.raises(CheckpointMismatchError, match="another run"):
        train(engine, other, tmp_path / "b", resume=paused.checkpoint)


def test_a_damaged_checkpoint_is_refused(engine, tmp_path) -> None:
    paused = train(engine, run_spec(20), tmp_path / "a", pause=after(5))
    tensors = paused.checkpoint / "tensors.safetensors"
    broken = bytearray(tensors.read_bytes())
    broken[-1] ^= 1
    tensors.write_bytes(broken)
    with pytest.raises(CheckpointMismatchError, match="damaged"):
        train(engine, run_spec(20), tmp_path / "b", resume=paused.checkpoint)


def test_an_unknown_preset_is_refused(engine, tmp_path) -> None:
    with pytest.raises(EngineError, match="preset"):
        train(engine, run_spec(5, preset="gigantic"), tmp_path)


def test_scores_do_not_depend_on_the_order_of_images(engine, tmp_path) -> None:
    classifier = train(engine, run_spec(10), tmp_path).classifier
    unseen = squares(30, 9)
    forth = engine.score(classifier, unseen.images, unseen.rows)
    back = engine.score(classifier, unseen.images, unseen.rows[::-1])
    np.testing.assert_allclose(forth, back[::-1], rtol=1e-5)


# ---------------------------------------------------------------- the published recipe, small


@pytest.fixture(scope="module")
def small(engine) -> ClassifierEngine:
    """`paper` in all but the size of its network."""
    shape = Shape(patch=4, depths=(1, 1), widths=(8, 16), layer_scale=1e-6)
    paper = replace(PRESETS["paper"], shape=lambda _: shape)
    return ClassifierEngine("cpu", threads=1, presets={"paper": paper})


def paper_spec(steps: int, **changes: object) -> RunSpec:
    return run_spec(
        steps,
        **{
            "preset": "paper",
            "learning_rate": 1e-3,
            "weight_decay": 3e-4,
            "monitor": "loss",
            "precision": "bfloat16",
            "positive_weights": (1.0, 2.0, 1.0),
            **changes,
        },
    )


def test_the_published_recipe_resumes_with_the_same_bytes(small, tmp_path) -> None:
    spec = paper_spec(30, validate_every=4)
    whole = train(small, spec, tmp_path / "whole")
    first = train(small, spec, tmp_path / "first", pause=after(14))
    second = train(small, spec, tmp_path / "second", resume=first.checkpoint)
    assert (first.step, second.step) == (14, 30)
    assert second == replace(whole, classifier=second.classifier)
    assert contents(second.classifier) == contents(whole.classifier)
    record = json.loads((second.classifier / "record.json").read_text())
    assert record["recipe"]["optimiser"] == "lion"
    assert record["positive_weights"] == [1.0, 2.0, 1.0]


def test_the_published_recipe_learns(small, tmp_path) -> None:
    outcome = train(small, paper_spec(200, precision="float32", validate_every=20), tmp_path)
    assert outcome.best_auroc > 0.8


def test_the_least_loss_is_kept_and_patience_counts_it(small, tmp_path) -> None:
    outcome = train(small, paper_spec(400, validate_every=2, early_stopping=3), tmp_path)
    losses = [point.validation_loss for point in outcome.curve]
    best = min(range(len(losses)), key=lambda at: losses[at])
    assert outcome.best_step == outcome.curve[best].step
    assert outcome.best_auroc == outcome.curve[best].auroc
    assert outcome.step == outcome.best_step + 3 * 2


def test_scores_in_bfloat16_are_the_validations(small, tmp_path) -> None:
    spec = paper_spec(8, validate_every=8)
    outcome = train(small, spec, tmp_path)
    held = spec.validation
    scores = small.score(outcome.classifier, held.images, held.rows)
    assert macro_auroc(held.targets, scores) == outcome.best_auroc
    assert len(np.unique(scores[:, 0])) == len(scores)  # the head does not round


def test_what_it_begins_with_is_read_once_and_recorded(small, tmp_path) -> None:
    donor = train(small, paper_spec(4), tmp_path / "donor").classifier
    tensors = load_file(donor / "tensors.safetensors")
    path = tmp_path / "weights.safetensors"
    save_file({name.removeprefix("convnext."): t for name, t in tensors.items()}, path)
    fetched = []

    def fetch() -> Path:
        fetched.append(path)
        return path

    digest = sha256(path.read_bytes()).hexdigest()
    spec = paper_spec(10, pretrained=Weights(digest, fetch))
    whole = train(small, spec, tmp_path / "whole").classifier
    first = train(small, spec, tmp_path / "first", pause=after(5)).checkpoint
    assert len(fetched) == 2
    path.unlink()
    second = train(small, spec, tmp_path / "second", resume=first).classifier
    assert contents(second) == contents(whole)
    assert json.loads((whole / "record.json").read_text())["pretrained_sha256"] == digest
    cold = train(small, paper_spec(10), tmp_path / "cold").classifier
    assert contents(cold)["tensors.safetensors"] != contents(whole)["tensors.safetensors"]


def test_channels_last_is_the_same_training(small, tmp_path) -> None:
    innermost = ClassifierEngine(
        "cpu", threads=1, kernels=Kernels(channels_last=True), presets=small._presets
    )
    spec = paper_spec(6, precision="float32", learning_rate=1e-4)
    usual = train(small, spec, tmp_path / "usual")
    other = train(innermost, spec, tmp_path / "other")
    assert other.curve[-1].loss == pytest.approx(usual.curve[-1].loss, rel=1e-3)
