"""Several processes train a classifier as one would; stopped, spoilt and ended as a worker does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from services.training.classifier import specs
from services.training.classifier.engine import ClassifierEngine
from services.training.classifier.loop import fingerprint
from services.training.classifier.mixing import Mixed
from services.training.classifier.objective import mixed_bce
from services.training.classifier.presets import PRESETS
from services.training.ports.engine import NotFiniteError, Outcome, RunSpec, StageSpec, Weights
from tests.training.classifier.problems import run_spec, squares


@pytest.fixture(scope="module")
def crew(engine) -> ClassifierEngine:
    return ClassifierEngine("cpu", threads=1, processes=2)


def train(engine, spec: RunSpec, folder: Path, **how: object) -> Outcome:
    said = {"resume": None, "pause": lambda: False, "progress": lambda _: None, **how}
    return engine.train(spec, folder, **said)


def weights(outcome: Outcome) -> torch.Tensor:
    tensors = load_file(outcome.classifier / "tensors.safetensors")
    return torch.cat([tensors[name].flatten() for name in sorted(tensors)])


def test_two_processes_train_as_one_and_go_on_where_they_paused(engine, crew, tmp_path) -> None:
    spec = run_spec(12, validate_every=3, batch_size=7)  # 4 and 3 images
    one, two = train(engine, spec, tmp_path / "one"), train(crew, spec, tmp_path / "two")
    other = train(engine, replace(spec, batch_size=4), tmp_path / "other")
    assert two.step == one.step
    for mine, theirs in zip(one.curve, two.curve, strict=True):
        assert theirs.loss == pytest.approx(mine.loss, rel=1e-3)
        assert theirs.validation_loss == pytest.approx(mine.validation_loss, rel=1e-2)
    apart = (weights(one) - weights(two)).norm()
    assert apart < 0.1 * (weights(one) - weights(other)).norm()

    first = train(crew, spec, tmp_path / "first", pause=lambda: True)
    assert 0 < first.step < 12
    rest = train(crew, spec, tmp_path / "rest", resume=first.checkpoint)
    assert rest == replace(two, classifier=rest.classifier)
    for name in ("tensors.safetensors", "record.json"):
        assert (rest.classifier / name).read_bytes() == (two.classifier / name).read_bytes()


def test_what_spoils_a_training_is_told_as_it_is(crew, tmp_path) -> None:
    with pytest.raises(NotFiniteError, match="step"):
        train(crew, run_spec(20, learning_rate=float("inf")), tmp_path)


# ---------------------------------------------------------------- what they are told


def test_a_specification_is_the_same_from_files(tmp_path) -> None:
    images = squares(12, 1).images
    np.save(tmp_path / "packed.npy", images)
    packed = replace(squares(12, 1), images=np.load(tmp_path / "packed.npy", mmap_mode="r"))
    begun = Weights("0" * 64, lambda: tmp_path / "weights.safetensors")
    spec = run_spec(
        9,
        stages=(StageSpec((packed, squares(5, 2)), 4), StageSpec((squares(6, 3),), 5)),
        positive_weights=(1.0, 2.0, 3.0),
        pretrained=begun,
    )
    specs.write(spec, tmp_path / "told")
    found, recipe = specs.read(tmp_path / "told"), PRESETS["fast"].recipe
    assert fingerprint(found, recipe) == fingerprint(spec, recipe)
    assert found.pretrained.fetch() == begun.fetch()
    for one, other in zip(spec.stages, found.stages, strict=True):
        for mine, theirs in zip(one.parts, other.parts, strict=True):
            np.testing.assert_array_equal(mine.images, theirs.images)
    assert not (tmp_path / "told" / "part-0.npy").exists()  # packed images stay where they are


def test_the_parts_of_a_batch_add_up_to_its_loss() -> None:
    rng = np.random.default_rng(1)
    logits = torch.from_numpy(rng.normal(size=(7, 3)))
    targets = torch.from_numpy(rng.integers(-1, 2, (7, 3)))
    mixed = Mixed(torch.from_numpy(rng.permutation(7)), 0.3)
    whole = mixed_bce(logits, targets, mixed, 0.1)
    rows = [slice(rank, None, 3) for rank in range(3)]
    parts = [mixed_bce(logits[mine], targets, mixed, 0.1, mine=mine) for mine in rows]
    assert sum(parts).item() == pytest.approx(whole.item())
