from pathlib import Path

import pytest
import torch
from diffusers.models.attention_processor import Attention

from services.generation.diffusion.encoders import ENCODERS
from services.generation.diffusion.network import Network
from services.generation.diffusion.presets import PRESETS, Architecture
from services.generation.diffusion.unet import UNet

WIDTH = 6


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return Network(
        Architecture(16, 2, (8, 8), (False, True), groups=4, head_width=8, middle=True), WIDTH
    ).eval()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))


T = torch.tensor([0, 500, 999])


@torch.no_grad()
def test_a_dropped_condition_has_no_say(network: Network, x: torch.Tensor) -> None:
    c, other = torch.randn(2, 3, WIDTH, generator=torch.Generator().manual_seed(1))
    dropped = torch.tensor([True, False, True])
    v, v_other = (network(x, T, condition, dropped) for condition in (c, other))
    assert v.shape == x.shape
    assert torch.equal(v[dropped], v_other[dropped])
    assert not torch.equal(v[~dropped], v_other[~dropped])


@torch.no_grad()
def test_the_condition_acts_in_places_of_its_own(network: Network, x: torch.Tensor) -> None:
    """Even on a flat image, two conditions differ by a picture, not by a constant."""
    flat = torch.zeros_like(x)
    one, two = torch.eye(WIDTH)[:3], torch.eye(WIDTH)[3:]
    difference = network(flat, T, one) - network(flat, T, two)
    assert difference[:, :, 4:-4, 4:-4].std() > 0.1 * difference.abs().mean()


def test_gradients_reach_everything_a_condition_passes_through(
    network: Network, x: torch.Tensor
) -> None:
    network(x, T, torch.ones(3, WIDTH), torch.tensor([True, False, False])).sum().backward()
    pathway = network.pathway()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in pathway)
    assert {id(p) for p in pathway} >= {id(network.null), *map(id, network.maps.parameters())}


def test_every_preset_makes_a_network_of_its_size() -> None:
    for name, preset in PRESETS.items():
        shape, width = preset.architecture, ENCODERS[preset.encoder].width
        with torch.device("meta"), torch.no_grad():
            x = torch.zeros(1, 1, shape.size_px, shape.size_px)
            v = Network(shape, width)(x, torch.zeros(1, dtype=torch.long), torch.zeros(1, width))
        assert v.shape == (1, shape.outputs, shape.size_px, shape.size_px), name


def test_the_published_network_to_the_last_parameter() -> None:
    with torch.device("meta"):
        network = Network(PRESETS["paper-256"].architecture, ENCODERS["paper22"].width)
    assert sum(p.numel() for p in network.parameters()) == 125_643_138
    attentions = [m for m in network.modules() if isinstance(m, Attention)]
    assert len(attentions) == 3 * 2 + 1 + 3 * 3
    assert {m.heads for m in attentions} == {4}
    assert {m.scale for m in attentions} == {64**-0.5, 128**-0.5}
    assert all(m.group_norm is not None for m in attentions)


@torch.no_grad()
def test_the_number_of_heads_survives_saving(tmp_path: Path) -> None:
    shape = Architecture(
        16, 1, (32, 64), (False, True), maps=0, groups=32, heads=4, middle=True, outputs=2
    )
    network = Network(shape, WIDTH).eval()
    network.unet.save_pretrained(tmp_path)
    again = UNet.from_pretrained(tmp_path)
    assert again.config["heads"] == 4
    x = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    embedding = torch.zeros(2, 128)
    expected = network.unet(x, 500, embedding).sample
    assert torch.equal(again(x, 500, embedding).sample, expected)
    for module in again.modules():  # what a forgotten number would have done
        if isinstance(module, Attention):
            module.heads = 1
    assert (again(x, 500, embedding).sample - expected).abs().max() > 1e-4


def test_heads_have_a_number_or_a_width() -> None:
    for both in ({}, {"heads": 2, "attention_head_dim": 8}):
        with pytest.raises(ValueError, match="either"):
            UNet(16, 1, 1, (32,), 1, ("DownBlock2D",), ("UpBlock2D",), True, 32, **both)
