"""The tensors of a published network under our names.

Published blocks are counted through (`input_blocks.7`), ours by level; published attention has one
projection for queries, keys and values, ours three.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from services.generation.diffusion.presets import Architecture
from services.generation.ports.engine import KeysDiffer, WeightsNotFinite

NAMED = 10
"""Of many wrong keys an answer names so many."""

Form = Literal["same", "row", "flat", "qkv"]
"""As it is; one row that is a vector here; a convolution of width 1 that is a linear layer here;
three such in one.
"""

_RESIDUAL = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_ENDS = {
    "time_embed.0": "unet.time_embedding.linear_1",
    "time_embed.2": "unet.time_embedding.linear_2",
    "class_embed.0": "condition.0",
    "class_embed.2": "condition.2",
    "input_blocks.0.0": "unet.conv_in",
    "out.0": "unet.conv_norm_out",
    "out.2": "unet.conv_out",
}


@dataclass(frozen=True)
class _Entry:
    """A tensor of the file, what becomes of it, and the shape it must have."""

    key: str
    names: tuple[str, ...]
    form: Form
    shape: tuple[int, ...]


def translate(
    state: Mapping[Any, Any], shape: Architecture, ours: Mapping[str, torch.Tensor], *, thirds: bool
) -> dict[str, torch.Tensor]:
    """The file's `state` as float32 tensors for the network whose state dict is `ours`.

    `ours` tells names and shapes only (it may lie on the meta device). With `thirds` the joint
    projections are q, k, v one after the other (`use_new_attention_order`), else head by head.
    Raises `KeysDiffer` and `WeightsNotFinite`, naming the keys.
    """
    entries = {e.key: e for e in _entries(shape, ours)}
    theirs = _without_prefixes(state)
    _check_keys(entries, theirs)
    found: dict[str, torch.Tensor] = {}
    for key, entry in entries.items():
        tensor = theirs[key].detach().float()
        if not tensor.isfinite().all():
            raise WeightsNotFinite(f"{key} holds NaN or infinite values")
        found |= zip(entry.names, _split(tensor, entry.form, shape, thirds), strict=True)
    return {name: tensor.contiguous() for name, tensor in found.items()}


def _split(
    tensor: torch.Tensor, form: Form, shape: Architecture, thirds: bool
) -> Sequence[torch.Tensor]:
    if form == "same":
        return (tensor,)
    if form == "row":
        return (tensor[0],)
    flat = tensor.squeeze(-1) if tensor.ndim > 1 else tensor  # (C or 3 C, C), or a bias
    if form == "flat":
        return (flat,)
    if thirds:
        return flat.chunk(3)
    width = len(flat) // 3
    heads = shape.heads or width // shape.head_width
    by_head = flat.reshape(heads, 3, width // heads, *flat.shape[1:])
    return [by_head[:, i].reshape(width, *flat.shape[1:]) for i in range(3)]


def _without_prefixes(state: Mapping[Any, Any]) -> dict[str, Any]:
    """Without `model.`, and without the `_orig_mod.` of a network that was compiled."""
    if not all(isinstance(key, str) for key in state):
        raise KeysDiffer("Some keys are no text")
    theirs = {
        key.replace("_orig_mod.", "").removeprefix("model."): value for key, value in state.items()
    }
    if len(theirs) != len(state):
        raise KeysDiffer("Some keys are there twice, with and without the prefix of compilation")
    return theirs


def _check_keys(entries: Mapping[str, _Entry], theirs: Mapping[str, Any]) -> None:
    shapes = {
        key: tuple(value.shape)
        for key, value in theirs.items()
        if isinstance(value, torch.Tensor) and value.is_floating_point() and not value.is_sparse
    }
    wrong = [
        f"{key} is {_as_shape(shapes.get(key))} instead of {_as_shape(entry.shape)}"
        for key, entry in entries.items()
        if key in theirs and shapes.get(key) != entry.shape
    ]
    faults = {
        "missing": sorted(entries.keys() - theirs.keys()),
        "not of this network": sorted(ascii(k)[1:-1][:100] for k in theirs.keys() - entries.keys()),
        "of another shape": wrong,
    }
    said = [
        f"{len(keys)} {what}: {', '.join(keys[:NAMED])}" for what, keys in faults.items() if keys
    ]
    if said:
        raise KeysDiffer("; ".join(said))


def _as_shape(shape: tuple[int, ...] | None) -> str:
    return "no tensor of floats" if shape is None else "x".join(map(str, shape)) or "a number"


# ---------------------------------------------------------------- names


def _entries(shape: Architecture, ours: Mapping[str, torch.Tensor]) -> Iterator[_Entry]:
    yield _Entry("null_cls_embed", ("null",), "row", (1, *ours["null"].shape))
    for key, names, form in _modules(shape):
        for kind in ("weight", "bias"):
            tensors = tuple(f"{name}.{kind}" for name in names)
            if tensors[0] not in ours:  # a residual block that keeps its channels has no shortcut
                continue
            rows, *rest = ours[tensors[0]].shape
            if form != "same" and kind == "weight":
                rest.append(1)
            yield _Entry(f"{key}.{kind}", tensors, form, (rows * len(names), *rest))


def _modules(shape: Architecture) -> Iterator[tuple[str, tuple[str, ...], Form]]:
    """(published module, our modules, form) of the whole network but the null embedding."""
    for key, name in _ENDS.items():
        yield key, (name,), "same"
    yield from _way_down(shape)
    yield from _residual("middle_block.0", "unet.mid_block.resnets.0")
    yield from _attention("middle_block.1", "unet.mid_block.attentions.0")
    yield from _residual("middle_block.2", "unet.mid_block.resnets.1")
    yield from _way_up(shape)


def _way_down(shape: Architecture) -> Iterator[tuple[str, tuple[str, ...], Form]]:
    block = 1
    for level, attention in enumerate(shape.attention):
        here = f"unet.down_blocks.{level}"
        for layer in range(shape.layers):
            yield from _residual(f"input_blocks.{block}.0", f"{here}.resnets.{layer}")
            if attention:
                yield from _attention(f"input_blocks.{block}.1", f"{here}.attentions.{layer}")
            block += 1
        if level + 1 < len(shape.channels):
            yield f"input_blocks.{block}.0.op", (f"{here}.downsamplers.0.conv",), "same"
            block += 1


def _way_up(shape: Architecture) -> Iterator[tuple[str, tuple[str, ...], Form]]:
    block = 0
    for step, attention in enumerate(reversed(shape.attention)):
        here = f"unet.up_blocks.{step}"
        for layer in range(shape.layers + 1):
            yield from _residual(f"output_blocks.{block}.0", f"{here}.resnets.{layer}")
            if attention:
                yield from _attention(f"output_blocks.{block}.1", f"{here}.attentions.{layer}")
            if layer == shape.layers and step + 1 < len(shape.channels):
                key = f"output_blocks.{block}.{2 if attention else 1}.conv"
                yield key, (f"{here}.upsamplers.0.conv",), "same"
            block += 1


def _residual(key: str, name: str) -> Iterator[tuple[str, tuple[str, ...], Form]]:
    for theirs, mine in _RESIDUAL.items():
        yield f"{key}.{theirs}", (f"{name}.{mine}",), "same"


def _attention(key: str, name: str) -> Iterator[tuple[str, tuple[str, ...], Form]]:
    yield f"{key}.norm", (f"{name}.group_norm",), "same"
    yield f"{key}.qkv", tuple(f"{name}.to_{which}" for which in "qkv"), "qkv"
    yield f"{key}.proj_out", (f"{name}.to_out.0",), "flat"
