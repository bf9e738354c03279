from dataclasses import replace

import numpy as np
import pytest
import torch

from api_schemas.findings import Finding, Sex
from api_schemas.generation import Condition
from services.generation.diffusion import training as module
from services.generation.diffusion.encoders import ENCODERS
from services.generation.diffusion.presets import PRESETS
from services.generation.diffusion.schedule import PUBLISHED, SCHEDULES
from services.generation.diffusion.training import (
    Examples,
    Training,
    draw_batch,
    ema_decay,
    learning_rate,
)
from services.generation.ports.engine import LossNotFinite

CPU = torch.device("cpu")
ENCODER = ENCODERS["masked/1"]
SCHEDULE = SCHEDULES[PUBLISHED]()
RECIPE = replace(PRESETS["tiny-32"].recipe, batch=8)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> str:
    """A preset that trains a step in milliseconds."""
    preset = PRESETS["tiny-32"]
    shape = replace(preset.architecture, channels=(8, 8), attention=(False, False), groups=4)
    tiny = replace(preset, architecture=shape, recipe=replace(RECIPE, learning_rate=3e-3, warmup=5))
    monkeypatch.setattr(module, "PRESETS", {"small": tiny})
    return "small"


def examples(n: int = 20) -> Examples:
    """Women are dark on the left, men on the right."""
    images = np.full((n, 32, 32), 200, np.uint8)
    images[::2, :, :16] = 40
    images[1::2, :, 16:] = 40
    conditions = [
        Condition(sex=Sex.MALE if i % 2 else Sex.FEMALE, age=40 + i, findings={Finding.EDEMA: 1})
        for i in range(n)
    ]
    return Examples(images, ENCODER.encode(conditions), ENCODER.attribute)


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    data = examples()
    first, again, other = (draw_batch(data, RECIPE, 1000, 1, step) for step in (3, 3, 4))
    assert torch.equal(first.eps, again.eps)
    assert torch.equal(first.x_0, again.x_0)
    assert not torch.equal(first.eps, other.eps)


def test_timesteps_are_stratified() -> None:
    t = draw_batch(examples(), RECIPE, 1000, 0, 0).t
    assert sorted((t // 125).tolist()) == list(range(8))


def test_masking_hides_whole_attributes_in_the_share_asked_for() -> None:
    data, recipe = examples(), replace(RECIPE, batch=4000, mask=0.4, hide=0.5)
    c = draw_batch(data, recipe, 1000, 0, 0).c.numpy()
    unknown = c[:, 1] == 0  # the bit of age
    assert unknown.mean() == pytest.approx(0.2, abs=0.03)
    assert (c[unknown, 0] == 0).all()
    untouched = draw_batch(data, replace(recipe, mask=0.0), 1000, 0, 0).c.numpy()
    assert (untouched[:, 1] == 1).all()


def test_training_learns_and_stays_finite(small: str) -> None:
    run = Training.begin(small, seed=0, steps=60, device=CPU)
    losses = [run.advance(examples(), SCHEDULE) for _ in range(60)]
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:5])
    assert run.step == 60


def test_the_seed_decides_the_weights_and_leaves_torch_s_generator_alone(small: str) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, same, other = (Training.begin(small, seed, 10, CPU).network for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    states = [n.state_dict()["condition.0.weight"] for n in (one, same, other)]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_a_loss_that_is_not_finite_stops_before_the_weights_are_spoilt(small: str) -> None:
    run = Training.begin(small, seed=0, steps=10, device=CPU)
    data = examples()
    data.conditions[:] = np.nan
    with pytest.raises(LossNotFinite, match="step 0"):
        run.advance(data, SCHEDULE)
    assert all(p.isfinite().all() for p in run.network.parameters())


def test_the_average_follows_and_warms_up(small: str) -> None:
    run = Training.begin(small, seed=0, steps=10, device=CPU)
    before = [p.clone() for p in run.average.parameters()]
    run.advance(examples(), SCHEDULE)
    pairs = zip(before, run.network.parameters(), run.average.parameters(), strict=True)
    for old, new, average in pairs:
        torch.testing.assert_close(average, 0.1 * old + 0.9 * new.detach())
    assert ema_decay(RECIPE, 10**6) == RECIPE.ema
    assert ema_decay(RECIPE, 90) == pytest.approx(0.91)


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    rates = [learning_rate(RECIPE, step, 1000) for step in range(1001)]
    peak = int(np.argmax(rates))
    assert peak == pytest.approx(RECIPE.warmup, abs=1)
    assert rates[peak] == pytest.approx(RECIPE.learning_rate, rel=0.05)
    assert rates[1000] == pytest.approx(0.0, abs=1e-12)
    assert (np.diff(rates[peak:]) < 0).all()
