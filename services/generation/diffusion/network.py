"""The network: a diffusers U-Net with an MLP of the condition added to its time embedding."""

from typing import cast

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from services.generation.diffusion.presets import Architecture
from services.generation.diffusion.schedule import PUBLISHED, SCHEDULES
from services.generation.diffusion.unet import UNet


class Network(nn.Module):
    """v(x_t, t, c), images (N, 1, H, W) in, (N, `outputs`, H, W) out: v first.

    Pixels are folded into channels first (`unshuffle`): the U-Net then works at a fraction of the
    size, which is what makes it affordable on a CPU. The condition enters twice: embedded, it
    modulates every block alike everywhere; and as `maps`, learned pictures of where each attribute
    shows, beside the image. A condition that is dropped becomes the learned `null` embedding and
    no maps: the unconditional model of classifier-free guidance. The published networks fold
    nothing and have no maps.

    The U-Net may have another precision than the rest; what goes in and out has that of x.
    """

    alpha: torch.Tensor
    sigma: torch.Tensor

    def __init__(self, shape: Architecture, condition_width: int) -> None:
        super().__init__()
        self.unshuffle = shape.unshuffle
        self.grain = shape.grain
        schedule = SCHEDULES[PUBLISHED]()
        for name, table in (("alpha", schedule.alpha), ("sigma", schedule.sigma)):
            self.register_buffer(name, torch.tensor(table, dtype=torch.float32), persistent=False)
        folded = shape.unshuffle**2
        width = 4 * shape.channels[0]  # of the time embedding
        self.condition = nn.Sequential(
            nn.Linear(condition_width, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.null = nn.Parameter(torch.zeros(width))
        side = shape.size_px // shape.unshuffle
        self.maps = _maps(condition_width, shape.maps, side) if shape.maps else None
        levels = zip(shape.channels, shape.attention, strict=True)
        blocks = ["Attn" if attention else "" for _, attention in levels]
        self.unet = UNet(
            sample_size=side,
            in_channels=folded + shape.maps,
            out_channels=folded * shape.outputs,
            block_out_channels=shape.channels,
            layers_per_block=shape.layers,
            down_block_types=tuple(f"{b}DownBlock2D" for b in blocks),
            up_block_types=tuple(f"{b}UpBlock2D" for b in reversed(blocks)),
            add_attention=shape.middle,
            norm_num_groups=shape.groups,
            attention_head_dim=shape.head_width if shape.heads is None else None,
            heads=shape.heads,
        )

    def pathway(self) -> list[nn.Parameter]:
        """What a condition passes through on its way into the picture."""
        entries = ("condition.", "null", "maps.", ".time_emb_proj.")
        return [p for name, p in self.named_parameters() if any(e in name for e in entries)]

    def forward(
        self,
        x: torch.Tensor,
        t: torch.Tensor,  # (N,)
        c: torch.Tensor,  # (N, D)
        dropped: torch.Tensor | None = None,  # (N,) bool
    ) -> torch.Tensor:
        embedding = self.condition(c)
        if dropped is not None:
            embedding = torch.where(dropped[:, None], self.null, embedding)
        picture = [F.pixel_unshuffle(x, self.unshuffle)]
        if self.maps is not None:
            maps = self.maps(c)
            if dropped is not None:
                maps = maps.masked_fill(dropped[:, None, None, None], 0.0)
            picture.append(maps)
        inside = self.unet.dtype
        folded = torch.cat(picture, dim=1).to(inside)
        out = self.unet(folded, t, embedding.to(inside), return_dict=False)
        learnt = F.pixel_shuffle(cast("torch.Tensor", out[0]).to(x.dtype), self.unshuffle)
        if self.grain == 1.0:
            return learnt
        known, scale = self.linear(t)
        return known * x + scale * learnt

    def linear(self, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What of v is linear in x_t, and the scale of the rest, of shape (N, 1, 1, 1).

        For independent pixels of standard deviation s, E[v | x_t] = alpha sigma (1 - s^2) / q x_t
        with q = sigma^2 + s^2 alpha^2, and sqrt(q) scales what x_t tells about the clean image
        (the preconditioning of Karras et al. 2022, table 1, in terms of v). A radiograph is
        smooth: with s = 1 the network spends its capacity on repeating the noise of every pixel,
        and what it repeats badly stays in the image as grain.
        """
        alpha, sigma = self.alpha[t, None, None, None], self.sigma[t, None, None, None]
        q = sigma**2 + self.grain**2 * alpha**2
        return alpha * sigma * (1.0 - self.grain**2) / q, 1.0 / q.sqrt()


def _maps(width: int, count: int, side: int) -> nn.Sequential:
    """From a condition (N, D) to pictures (N, count, side, side)."""
    return nn.Sequential(nn.Linear(width, count * side**2), nn.Unflatten(1, (count, side, side)))
