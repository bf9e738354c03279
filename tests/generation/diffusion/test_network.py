import pytest
import torch

from services.generation.diffusion.network import Network
from services.generation.diffusion.presets import PRESETS, Architecture

WIDTH = 6


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return Network(Architecture(16, 2, (8, 8), (False, True), groups=4, head_width=8), WIDTH).eval()


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
        shape = preset.architecture
        network = Network(shape, WIDTH).eval()
        with torch.no_grad():
            v = network(
                torch.zeros(1, 1, shape.size_px, shape.size_px), T[:1], torch.zeros(1, WIDTH)
            )
        assert v.shape[-1] == shape.size_px, name
