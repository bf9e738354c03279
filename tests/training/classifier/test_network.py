"""The preset `paper` against the published ConvNeXt-Base (Liu et al. 2022, arXiv 2201.03545)."""

import pytest
import torch
from torch import nn

from services.training.classifier.network import Network, Shape, make_network
from services.training.classifier.presets import PRESETS
from tests.training.classifier import published

BASE = PRESETS["paper"].shape(256)


def on_paper(shape: Shape, labels: int) -> Network:
    """Shapes without numbers."""
    with torch.device("meta"):
        return Network(shape, labels)


def counted(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_it_is_convnext_base() -> None:
    """88.6 million parameters for colour pictures of 1000 kinds (the paper's table 12)."""
    ours, labels = on_paper(BASE, 14), 14
    colours = 2 * 128 * 4 * 4
    kinds = (1000 - labels) * (1024 + 1)
    assert counted(ours) + colours + kinds == 88_591_464


def test_it_has_the_published_tensors_layer_by_layer() -> None:
    depths, widths = (3, 3, 27, 3), (128, 256, 512, 1024)
    assert (BASE.depths, BASE.widths) == (depths, widths)
    names = published.PUBLISHED["authors"]
    theirs = published.tensors(names, depths, widths, lambda *shape: torch.empty(shape))
    ours = on_paper(BASE, published.KINDS).state_dict()
    expected = [tuple(tensor.shape) for tensor in theirs.values()]
    expected[0] = (128, 1, 4, 4)  # one channel
    assert sorted(tuple(tensor.shape) for tensor in ours.values()) == sorted(expected)


@pytest.fixture(scope="module")
def small() -> Network:
    return make_network(Shape(4, (2, 1), (16, 32), layer_scale=BASE.layer_scale), 5, seed=1)


def test_it_begins_as_published(small) -> None:
    """Weights of .02, no biases, layer scales of 1e-6, norms that do nothing."""
    for name, tensor in small.named_parameters():
        if name.endswith("layer_scale_parameter"):
            assert torch.equal(tensor, torch.full_like(tensor, 1e-6))
        elif name.endswith("bias"):
            assert not tensor.any()
        elif tensor.ndim == 1:
            assert torch.equal(tensor, torch.ones_like(tensor))
        else:
            assert tensor.std().item() == pytest.approx(0.02, rel=0.3)


def test_every_norm_has_the_published_epsilon(small) -> None:
    norms = [module for module in small.modules() if isinstance(module, nn.LayerNorm)]
    assert len(norms) == 1 + 1 + 3 + 1  # stem, halving, blocks, before the head
    assert {norm.eps for norm in norms} == {1e-6}


def test_no_path_is_dropped(small) -> None:
    images = torch.randn(2, 1, 32, 32)
    assert torch.equal(small.train()(images), small.eval()(images))
