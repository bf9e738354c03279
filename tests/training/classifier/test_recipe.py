"""What the published recipe asks for, each part against its definition."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from services.training.classifier.mixing import Mixed, mix
from services.training.classifier.objective import masked_bce, mixed_bce
from services.training.ports.engine import UNKNOWN

# ---------------------------------------------------------------- the loss


def brute_force(logits, targets, smoothing, weights) -> float:
    """The mean over known targets of -w y log p - (1 - y) log(1 - p)."""
    costs = []
    for row, told in zip(logits.tolist(), targets.tolist(), strict=True):
        for z, t, w in zip(row, told, weights, strict=True):
            if t != UNKNOWN:
                y, p = t * (1 - smoothing) + smoothing / 2, 1 / (1 + math.exp(-z))
                costs.append(-w * y * math.log(p) - (1 - y) * math.log(1 - p))
    return sum(costs) / len(costs) if costs else 0.0


@given(st.integers(0, 2**31), st.floats(0, 1), st.sampled_from([0.0, 0.1]))
def test_mixing_takes_from_both_what_is_known_of_each(seed, share, smoothing) -> None:
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(size=(6, 3)))
    targets = torch.from_numpy(rng.integers(-1, 2, (6, 3)))
    partner, weights = torch.from_numpy(rng.permutation(6)), [1.0, 2.5, 0.5]
    found = mixed_bce(
        logits, targets, Mixed(partner, share), smoothing, torch.tensor(weights).double()
    )
    own = brute_force(logits, targets, smoothing, weights)
    others = brute_force(logits, targets[partner], smoothing, weights)
    assert found.item() == pytest.approx(share * own + (1 - share) * others)


def test_an_unknown_target_of_both_images_moves_nothing() -> None:
    logits = torch.zeros(2, 2, requires_grad=True)
    targets = torch.tensor([[1, UNKNOWN], [0, UNKNOWN]])
    mixed_bce(logits, targets, Mixed(torch.tensor([1, 0]), 0.3)).backward()
    assert (logits.grad[:, 1] == 0).all()
    # half of .3 (p - 1) + .7 (p - 0) at p = .5
    torch.testing.assert_close(logits.grad[:, 0], torch.tensor([0.1, -0.1]))


def test_balanced_positives_weigh_as_much_as_negatives() -> None:
    logits = torch.zeros(10, 1, requires_grad=True)
    targets = torch.zeros(10, 1, dtype=torch.int8)
    targets[:2] = 1
    masked_bce(logits, targets, positive_weights=torch.tensor([4.0])).backward()
    assert logits.grad.sum().item() == pytest.approx(0, abs=1e-6)


# ---------------------------------------------------------------- mixup and cutmix


def levels(count: int) -> torch.Tensor:
    """Image i is i everywhere."""
    return torch.arange(float(count)).view(-1, 1, 1, 1).expand(-1, 1, 16, 12).clone()


@pytest.mark.parametrize("seed", range(12))
def test_every_pixel_is_its_own_or_its_partners(seed) -> None:
    images = levels(8)
    mixed = mix(images, np.random.default_rng(seed), chance=1.0)
    assert 0 <= mixed.share <= 1
    own, others = torch.arange(8.0), mixed.partner.float()
    # the share of each picture is the share of its targets, whether blended or cut
    torch.testing.assert_close(
        images.mean(dim=(1, 2, 3)), mixed.share * own + (1 - mixed.share) * others
    )
    blended = all(len(image.unique()) == 1 for image in images)
    if not blended:
        for i, image in enumerate(images):
            assert set(image.unique().tolist()) <= {float(i), float(mixed.partner[i])}
            foreign = (image[0] != i).nonzero()
            if len(foreign):  # one rectangle, the same in all images
                height, width = (foreign.max(0).values - foreign.min(0).values + 1).tolist()
                assert len(foreign) == height * width
                assert 1 - height * width / (16 * 12) == pytest.approx(mixed.share)


def test_half_of_the_batches_are_mixed_half_of_them_cut() -> None:
    kinds = {"left": 0, "blended": 0, "cut": 0}
    shares = []
    for seed in range(400):
        images = levels(5)
        mixed = mix(images, np.random.default_rng(seed), chance=0.5)
        if mixed is None:
            assert torch.equal(images, levels(5))
            kinds["left"] += 1
        elif all(len(image.unique()) == 1 for image in images):
            kinds["blended"] += 1
            shares.append(mixed.share)
        else:
            kinds["cut"] += 1
    assert kinds["left"] == pytest.approx(200, abs=40)
    assert kinds["blended"] == pytest.approx(100, abs=35)
    assert np.mean(shares) == pytest.approx(0.5, abs=0.1)  # Beta(1, 1) is uniform
    assert np.std(shares) == pytest.approx(math.sqrt(1 / 12), abs=0.05)
