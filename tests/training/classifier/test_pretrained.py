"""Weights to begin with: what of them is taken, and what is refused, by name."""

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import ConvNextConfig, ConvNextForImageClassification

from services.training.classifier.layouts import STEM
from services.training.classifier.network import Shape, make_network
from services.training.classifier.pretrained import begin
from services.training.ports.engine import Weights, WeightsMismatchError
from tests.training.classifier import published as paper

SHAPE = Shape(patch=4, depths=(1, 1), widths=(8, 16), layer_scale=1e-6)


def published(depths: tuple[int, ...] = SHAPE.depths) -> ConvNextForImageClassification:
    """A network for colour pictures of 10 kinds, as the hub's are."""
    torch.manual_seed(1)
    return ConvNextForImageClassification(
        ConvNextConfig(
            num_channels=3,
            patch_size=SHAPE.patch,
            num_stages=len(depths),
            depths=list(depths),
            hidden_sizes=list(SHAPE.widths),
            layer_scale_init_value=1.0,
            layer_norm_eps=1e-6,  # as published; the library would have 1e-12
            num_labels=10,
        )
    ).eval()


def stored(path: Path, tensors: dict[str, torch.Tensor]) -> Weights:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return Weights(hashlib.sha256(path.read_bytes()).hexdigest(), lambda: path)


def test_a_grey_picture_looks_as_it_does_in_colour(tmp_path) -> None:
    theirs, ours = published(), make_network(SHAPE, 3, seed=2).eval()
    head = ours.convnext.classifier.weight.clone()
    begin(ours, stored(tmp_path / "w.safetensors", theirs.state_dict()))
    grey = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        expected = theirs.convnext(grey.expand(-1, 3, -1, -1)).pooler_output
        torch.testing.assert_close(ours.features(grey), expected)
    assert torch.equal(ours.convnext.classifier.weight, head)


@pytest.mark.parametrize("library", paper.PUBLISHED)
def test_published_names_of_every_library_are_known(tmp_path, library) -> None:
    """Four stages, the third the deepest, as all published sizes have them."""
    names, depths, widths = paper.PUBLISHED[library], (1, 2, 3, 1), (4, 8, 12, 16)
    theirs = paper.tensors(names, depths, widths, paper.random_draw(5))
    ours = make_network(Shape(4, depths, widths, layer_scale=1e-6), 3, seed=2).eval()
    head = ours.convnext.classifier.weight.clone()
    begin(ours, stored(tmp_path / "w.safetensors", theirs))
    grey = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        expected = paper.features(names, theirs, depths, grey.expand(-1, 3, -1, -1))
        torch.testing.assert_close(ours.features(grey), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(ours.convnext.classifier.weight, head)


@pytest.mark.parametrize("library", paper.PUBLISHED)
def test_what_is_missing_under_other_names_is_told_under_ours(tmp_path, library) -> None:
    names = paper.PUBLISHED[library]
    theirs = paper.tensors(names, SHAPE.depths, SHAPE.widths, paper.random_draw(5))
    del theirs[names.scale(1, 0)]
    with pytest.raises(WeightsMismatchError, match=r"lacks .*stages.1.layers.0.layer_scale"):
        begin(make_network(SHAPE, 3, seed=2), stored(tmp_path / "w.safetensors", theirs))


def test_a_classifier_of_this_suite_can_be_begun_with(tmp_path) -> None:
    theirs, ours = make_network(SHAPE, 5, seed=1), make_network(SHAPE, 3, seed=2)
    begin(ours, stored(tmp_path / "w.safetensors", theirs.state_dict()))
    grey = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        assert torch.equal(ours.features(grey), theirs.features(grey))


def test_half_precision_files_are_taken(tmp_path) -> None:
    halved = {name: tensor.half() for name, tensor in published().state_dict().items()}
    ours = make_network(SHAPE, 3, seed=2)
    begin(ours, stored(tmp_path / "w.safetensors", halved))
    stem = ours.convnext.state_dict()[STEM]
    assert stem.dtype == torch.float32
    torch.testing.assert_close(stem, halved[STEM].float().sum(1, keepdim=True))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda tensors: tensors.pop(STEM), f"lacks {STEM}"),
        (lambda tensors: tensors.update(extra=torch.zeros(1)), "also holds extra"),
        (lambda tensors: tensors.update({STEM: torch.zeros(9, 3, 4, 4)}), "shape of.*not.*8, 1"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, change, told) -> None:
    tensors = published().state_dict()
    change(tensors)
    ours = make_network(SHAPE, 3, seed=2)
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    with pytest.raises(WeightsMismatchError, match=told):
        begin(ours, stored(tmp_path / "w.safetensors", tensors))
    assert all(torch.equal(tensor, before[name]) for name, tensor in ours.state_dict().items())


def test_a_deeper_network_is_told_in_a_few_words(tmp_path) -> None:
    deeper = stored(tmp_path / "w.safetensors", published((1, 3)).state_dict())
    with pytest.raises(WeightsMismatchError, match=r"also holds .* and 15 more"):
        begin(make_network(SHAPE, 3, seed=2), deeper)


def test_other_bytes_than_were_named_are_refused(tmp_path) -> None:
    path = tmp_path / "w.safetensors"
    stored(path, published().state_dict())
    with pytest.raises(WeightsMismatchError, match="SHA-256"):
        begin(make_network(SHAPE, 3, seed=2), Weights("0" * 64, lambda: path))


def test_a_file_of_something_else_is_refused(tmp_path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"no tensors")
    weights = Weights(hashlib.sha256(b"no tensors").hexdigest(), lambda: path)
    with pytest.raises(WeightsMismatchError, match="no safetensors file"):
        begin(make_network(SHAPE, 3, seed=2), weights)
