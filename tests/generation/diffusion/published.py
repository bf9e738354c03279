"""The published network and sampler a second time, by the rules alone, to compare ours with.

Its state dict has the keys of the authors' package, so that it also writes checkpoints as their
trainer does. It shares no code with the importer or with diffusers.
"""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

CONFIG: dict[str, Any] = {
    "diffusion": {
        "timesteps": 1000,
        "schedule_name": "cosine",
        "enforce_zero_terminal_snr": True,
        "schedule_params": {"beta_start": 0.0001, "beta_end": 0.02, "cosine_s": 0.008},
        "timestep_respacing": None,
        "mean_type": "VELOCITY",
        "var_type": "LEARNED_RANGE",
        "loss_type": "MSE",
    },
    "optimizer": {"lr": 1e-5, "type": "Lion"},
    "batch_size": 36,
    "model": {
        "input_size": 16,
        "dims": 2,
        "attention_resolutions": [2],
        "channel_mult": [1, 2],
        "dropout": 0.0,
        "in_channels": 1,
        "out_channels": 2,
        "model_channels": 32,
        "num_head_channels": -1,
        "num_heads": 4,
        "num_heads_upsample": -1,
        "num_res_blocks": [1, 1],
        "resblock_updown": False,
        "use_checkpoint": False,
        "use_new_attention_order": False,
        "use_scale_shift_norm": True,
        "scale_skip_connection": False,
        "num_classes": 22,
        "concat_channels": 0,
        "guidance_drop_prob": 0.1,
    },
}


def config(**model: Any) -> dict[str, Any]:
    """The configuration above with other options of the network."""
    changed = deepcopy(CONFIG)
    changed["model"] |= model
    return changed


# ---------------------------------------------------------------- network


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels)


def conv(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride, padding=1)


class Residual(nn.Module):
    def __init__(self, before: int, after: int, width: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(norm(before), nn.SiLU(), conv(before, after))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * after))
        self.out_layers = nn.Sequential(norm(after), nn.SiLU(), nn.Dropout(0), conv(after, after))
        self.skip_connection = nn.Identity() if before == after else nn.Conv2d(before, after, 1)

    def forward(self, x: torch.Tensor, emb: torch.Tensor) -> torch.Tensor:
        scale, shift = self.emb_layers(emb)[:, :, None, None].chunk(2, dim=1)
        h = self.out_layers[0](self.in_layers(x)) * (1 + scale) + shift
        return self.skip_connection(x) + self.out_layers[1:](h)


class Attention(nn.Module):
    def __init__(self, channels: int, heads: int, *, thirds: bool) -> None:
        super().__init__()
        self.heads, self.thirds = heads, thirds
        self.norm = norm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        n, channels, *_ = x.shape
        flat = x.reshape(n, channels, -1)
        qkv = self.qkv(self.norm(flat))  # (N, 3 C, L)
        if self.thirds:
            q, k, v = (p.reshape(n * self.heads, -1, p.shape[-1]) for p in qkv.chunk(3, dim=1))
        else:
            q, k, v = qkv.reshape(n * self.heads, -1, qkv.shape[-1]).chunk(3, dim=1)
        weight = torch.softmax(q.mT @ k / math.sqrt(q.shape[1]), dim=-1)  # (N H, L, L)
        return x + self.proj_out((v @ weight.mT).reshape(flat.shape)).reshape(x.shape)


class Down(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = conv(channels, channels, stride=2)

    def forward(self, x: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return self.op(x)


class Up(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv(channels, channels)

    def forward(self, x: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class First(nn.Conv2d):
    def forward(self, x: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return super().forward(x)


class Published(nn.Module):
    """The network that a configuration describes, with random weights."""

    def __init__(self, model: dict[str, Any]) -> None:
        super().__init__()
        self.options = model
        self.channels = base = model["model_channels"]
        self.width = 4 * base
        self.time_embed, self.class_embed = self.mlp(base), self.mlp(model["num_classes"])
        self.null_cls_embed = nn.Parameter(torch.randn(1, self.width))
        kept = [base]
        self.input_blocks = nn.ModuleList(self.way_down(kept))
        ch = kept[-1]
        middle = [self.residual(ch, ch), self.attention(ch), self.residual(ch, ch)]
        self.middle_block = nn.ModuleList(middle)
        self.output_blocks = nn.ModuleList(self.way_up(kept))
        self.out = nn.Sequential(norm(base), nn.SiLU(), conv(base, model["out_channels"]))

    def way_down(self, kept: list[int]) -> Iterator[nn.ModuleList]:
        """The blocks, with the channels of each in `kept`."""
        ch, factors = self.channels, self.options["channel_mult"]
        yield nn.ModuleList([First(1, ch, 3, padding=1)])
        for level, factor in enumerate(factors):
            for _ in range(self.options["num_res_blocks"][level]):
                parts: list[nn.Module] = [self.residual(ch, factor * self.channels)]
                ch = factor * self.channels
                if 2**level in self.options["attention_resolutions"]:
                    parts.append(self.attention(ch))
                yield nn.ModuleList(parts)
                kept.append(ch)
            if level + 1 < len(factors):
                yield nn.ModuleList([Down(ch)])
                kept.append(ch)

    def way_up(self, kept: list[int]) -> Iterator[nn.ModuleList]:
        ch = kept[-1]
        for level, factor in reversed(list(enumerate(self.options["channel_mult"]))):
            layers = self.options["num_res_blocks"][level]
            for layer in range(layers + 1):
                parts: list[nn.Module] = [self.residual(ch + kept.pop(), factor * self.channels)]
                ch = factor * self.channels
                if 2**level in self.options["attention_resolutions"]:
                    parts.append(self.attention(ch))
                if level and layer == layers:
                    parts.append(Up(ch))
                yield nn.ModuleList(parts)

    def mlp(self, before: int) -> nn.Sequential:
        wide = nn.Linear(self.width, self.width)
        return nn.Sequential(nn.Linear(before, self.width), nn.SiLU(), wide)

    def residual(self, before: int, after: int) -> Residual:
        return Residual(before, after, self.width)

    def attention(self, channels: int) -> Attention:
        fixed = self.options["num_head_channels"]
        heads = self.options["num_heads"] if fixed == -1 else channels // fixed
        return Attention(channels, heads, thirds=self.options["use_new_attention_order"])

    def forward(self, x: torch.Tensor, t: torch.Tensor, c: torch.Tensor | None) -> torch.Tensor:
        half = self.channels // 2
        angle = t[:, None].float() * torch.exp(-math.log(10000) * torch.arange(half) / half)
        emb = self.time_embed(torch.cat([angle.cos(), angle.sin()], dim=1).to(x.dtype))
        emb = emb + (self.null_cls_embed if c is None else self.class_embed(c))
        kept = []
        for block in self.input_blocks:
            x = through(block, x, emb)
            kept.append(x)
        x = through(self.middle_block, x, emb)
        for block in self.output_blocks:
            x = through(block, torch.cat([x, kept.pop()], dim=1), emb)
        return self.out(x)


def through(block: nn.Module, x: torch.Tensor, emb: torch.Tensor) -> torch.Tensor:
    for part in block.children():
        x = part(x, emb)
    return x


# ---------------------------------------------------------------- sampler


def alpha_bars() -> list[float]:
    """Cosine, betas at most .999, shifted and scaled to zero terminal SNR."""

    def f(u: float) -> float:
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    product, roots = 1.0, []
    for t in range(1000):
        product *= 1.0 - min(1.0 - f((t + 1) / 1000) / f(t / 1000), 0.999)
        roots.append(math.sqrt(product))
    first, last = roots[0], roots[-1]
    return [((root - last) * first / (first - last)) ** 2 for root in roots]


@torch.no_grad()
def ddim(
    network: Published, x: torch.Tensor, c: torch.Tensor, steps: int, scale: float
) -> torch.Tensor:
    """The clean images: leading steps, x_0 clipped and the noise computed from the clipped one."""
    table = alpha_bars()
    stride = 1000 // steps
    for t in reversed(range(0, 1000, stride)):
        times = torch.full((len(x),), t)
        out = network(x, times, c)
        if scale != 0:
            null = network(x, times, None)
            mixed = null + scale * (out - null)
            out = 0.7 * mixed * (out.std() / mixed.std()) + 0.3 * mixed
        alpha, sigma = math.sqrt(table[t]), math.sqrt(1 - table[t])
        x_0 = (alpha * x - sigma * out[:, :1]).clamp(-1, 1)
        eps = (x - alpha * x_0) / sigma
        before = table[t - stride] if t else 1.0
        x = math.sqrt(before) * x_0 + math.sqrt(1 - before) * eps
    return x


# ---------------------------------------------------------------- checkpoints


def _key(prefix: str, key: object) -> object:
    return prefix + key if isinstance(key, str) else key


class OmegaConf:
    """Pickles configurations as omegaconf's objects, without omegaconf."""

    def __init__(self) -> None:
        self._modules = {
            name: ModuleType(f"omegaconf{name}") for name in ("", ".base", ".dictconfig")
        } | {name: ModuleType(f"omegaconf{name}") for name in (".listconfig", ".nodes")}
        self._mapping = self._type(".dictconfig", "DictConfig")
        self._list = self._type(".listconfig", "ListConfig")
        self._node = self._type(".nodes", "AnyNode")
        self._about = self._type(".base", "ContainerMetadata")

    def _type(self, module: str, name: str) -> type:
        made = type(name, (), {"__module__": f"omegaconf{module}"})
        setattr(self._modules[module], name, made)
        return made

    @contextmanager
    def importable(self) -> Iterator[None]:
        sys.modules.update({module.__name__: module for module in self._modules.values()})
        try:
            yield
        finally:
            for module in self._modules.values():
                del sys.modules[module.__name__]

    def wrap(self, value: Any, parent: Any = None) -> Any:
        if isinstance(value, dict):
            node = self._mapping()
            content: Any = {k: self.wrap(v, node) for k, v in value.items()}
        elif isinstance(value, list):
            node = self._list()
            content = [self.wrap(v, node) for v in value]
        else:
            node = self._node()
            node.__dict__ = {"_metadata": None, "_parent": parent, "_val": value}
            return node
        about = self._about()
        about.__dict__ = {"ref_type": Any, "object_type": dict, "key_type": int}
        node.__dict__ = {"_metadata": about, "_parent": parent, "_content": content}
        return node


def lightning(
    path: Path,
    config: dict[str, Any],
    raw: dict[str, Any],
    ema: dict[str, Any] | None = None,
    *,
    compiled: bool = False,
    **more: Any,
) -> Path:
    """Write a checkpoint as the package's trainer does."""
    prefix = "model._orig_mod." if compiled else "model."
    content: dict[str, Any] = {
        "epoch": 1,
        "pytorch-lightning_version": "2.0.0",
        "state_dict": {_key(prefix, key): value for key, value in raw.items()},
        "optimizer_states": [],
    }
    if ema is not None:
        content["ema_state_dict"] = {prefix + key: value for key, value in ema.items()}
        content["_ema_state_dict_ready"] = True
    omegaconf = OmegaConf()
    with omegaconf.importable():
        content["hyper_parameters"] = omegaconf.wrap(config)
        torch.save(content | more, path)
    return path
