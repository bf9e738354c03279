"""The parts of the loop, each by what must always hold of it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.nn import functional

from services.training.classifier.auroc import auroc, macro_auroc
from services.training.classifier.average import decay_at, move
from services.training.classifier.batches import StageData, ahead, draw
from services.training.classifier.loop import learning_rate
from services.training.classifier.network import make_network
from services.training.classifier.objective import masked_bce
from services.training.classifier.presets import PRESETS
from services.training.ports.engine import UNKNOWN, StageSpec
from tests.training.classifier.problems import squares

targets_of = hnp.arrays(np.int8, (5, 3), elements=st.sampled_from([1, 0, UNKNOWN]))


# ---------------------------------------------------------------- the mask


@given(targets_of, st.integers(0, 2**31))
def test_unknown_targets_move_nothing(targets, seed) -> None:
    logits = torch.from_numpy(np.random.default_rng(seed).normal(size=(5, 3)))
    logits.requires_grad_()
    told = torch.from_numpy(targets)
    loss = masked_bce(logits, told)
    loss.backward()
    assert (logits.grad[told == UNKNOWN] == 0).all()
    known = told != UNKNOWN
    if known.any():
        plain = functional.binary_cross_entropy_with_logits(
            logits[known], told[known].to(logits.dtype)
        )
        assert loss.item() == pytest.approx(plain.item())
        assert (logits.grad[known] != 0).all()
    else:
        assert loss.item() == 0


def test_smoothing_pulls_targets_inwards() -> None:
    certain = torch.tensor([[20.0]])
    assert masked_bce(certain, torch.tensor([[1]])) < 1e-6
    assert masked_bce(certain, torch.tensor([[1]]), smoothing=0.1) > 0.9


# ---------------------------------------------------------------- batches


@given(st.integers(0, 2**62), st.integers(1, 40), st.integers(1, 70))
def test_every_epoch_shows_every_image_once(seed, count, batch_size) -> None:
    steps = -(-3 * count // batch_size)
    seen = np.concatenate([draw(seed, 0, step, count, batch_size) for step in range(steps)])
    assert len(seen) == steps * batch_size
    for epoch in range(3):
        shown = seen[epoch * count : (epoch + 1) * count]
        assert sorted(shown) == list(range(count))


def test_batches_depend_on_seed_stage_and_step_alone() -> None:
    drawn = draw(7, 0, 3, 100, 10)
    assert (drawn == draw(7, 0, 3, 100, 10)).all()
    others = [draw(8, 0, 3, 100, 10), draw(7, 1, 3, 100, 10), draw(7, 0, 4, 100, 10)]
    assert all((drawn != other).any() for other in others)


def test_what_is_gathered_ahead_comes_in_order() -> None:
    assert list(ahead(lambda step: step * step, 3, 7)) == [9, 16, 25, 36]
    assert list(ahead(lambda step: step, 7, 7)) == []


def test_a_gathering_that_fails_is_heard_of() -> None:
    def gather(step: int) -> float:
        return 1 / (2 - step)

    batches = ahead(gather, 1, 5)
    assert next(batches) == 1
    with pytest.raises(ZeroDivisionError):
        next(batches)


def test_a_stage_gathers_from_all_its_parts() -> None:
    one, two = squares(5, 1), squares(7, 2)
    data = StageData(StageSpec((one, two), 1))
    assert len(data) == 12
    positions = np.array([11, 0, 5, 4])
    expected = np.stack([two.images[6], one.images[0], two.images[0], one.images[4]])
    np.testing.assert_array_equal(data.pixels(positions), expected)
    np.testing.assert_array_equal(data.targets[5:], two.targets)


# ---------------------------------------------------------------- AUROC


@given(
    hnp.arrays(np.bool_, 12),
    hnp.arrays(np.float64, 12, elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])),
)
def test_auroc_is_the_chance_that_a_positive_ranks_higher(truth, score) -> None:
    pairs = [(p > n) + 0.5 * (p == n) for p in score[truth] for n in score[~truth]]
    if pairs:
        assert auroc(truth, score) == pytest.approx(np.mean(pairs))
    else:
        assert auroc(truth, score) is None


def test_macro_leaves_out_what_is_unknown() -> None:
    targets = np.array([[1, 1, UNKNOWN], [0, 1, UNKNOWN], [UNKNOWN, 1, UNKNOWN]], np.int8)
    scores = np.array([[0.9, 0.1, 0.1], [0.2, 0.2, 0.2], [0.0, 0.3, 0.3]])
    assert macro_auroc(targets, scores) == 1.0
    assert macro_auroc(targets[:, 1:], scores[:, 1:]) is None


# ---------------------------------------------------------------- schedule, average, network


@settings(max_examples=30)
@given(st.integers(1, 2000))
def test_the_rate_rises_then_falls(steps) -> None:
    rates = [learning_rate(step, steps, 1.0) for step in range(steps)]
    top = rates.index(max(rates))
    assert min(rates) > 0
    assert max(rates) <= 1.0
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_the_average_warms_up() -> None:
    assert decay_at(0, 0.999) == pytest.approx(0.1)
    assert decay_at(10**6, 0.999) == 0.999
    average, weights = [torch.zeros(2)], [torch.ones(2)]
    move(average, weights, decay_at(0, 0.999))
    torch.testing.assert_close(average[0], torch.full((2,), 0.9))
    assert (weights[0] == 1).all()


@pytest.mark.parametrize("size_px", [16, 32, 64])
def test_a_network_fits_its_working_size(size_px) -> None:
    network = make_network(PRESETS["fast"].shape(size_px), labels=14, seed=1)
    assert network(torch.zeros(2, 1, size_px, size_px)).shape == (2, 14)
    again = make_network(PRESETS["fast"].shape(size_px), labels=14, seed=1)
    for one, other in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_published_network_is_convnext_base() -> None:
    with torch.device("meta"):
        network = make_network(PRESETS["paper"].shape(256), labels=14, seed=1)
    # 87,566,464 without a head (Liu et al. 2022, table 12: 89M with one of 1000), less two of the
    # stem's three channels
    assert sum(p.numel() for p in network.parameters()) == 87_566_464 - 2 * 16 * 128 + 14 * 1025
