"""The network: a diffusers U-Net with an MLP of the condition added to its time embedding."""

from typing import cast

import torch
from diffusers import UNet2DModel
from torch import nn
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from services.generation.diffusion.presets import Architecture
from services.generation.diffusion.schedule import PUBLISHED, SCHEDULES


class Network(nn.Module):
    """v(x_t, t, c), images (N, 1, H, W) in and out.

    Pixels are folded into channels first (`unshuffle`): the U-Net then works at a fraction of the
    size, which is what makes it affordable on a CPU. The condition enters twice: embedded, it
    modulates every block alike everywhere; and as `maps`, learned pictures of where each attribute
    shows, beside the image. A condition that is dropped becomes the learned `null` embedding and
    no maps: the unconditional model of classifier-free guidance.
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
        self.maps = nn.Sequential(
            nn.Linear(condition_width, shape.maps * side**2),
            nn.Unflatten(1, (shape.maps, side, side)),
        )
        levels = zip(shape.channels, shape.attention, strict=True)
        blocks = ["Attn" if attention else "" for _, attention in levels]
        self.unet = UNet2DModel(
            sample_size=side,
            in_channels=folded + shape.maps,
            out_channels=folded,
            block_out_channels=shape.channels,
            layers_per_block=shape.layers,
            down_block_types=tuple(f"{b}DownBlock2D" for b in blocks),
            up_block_types=tuple(f"{b}UpBlock2D" for b in reversed(blocks)),
            add_attention=any(shape.attention),
            attention_head_dim=shape.head_width,
            norm_num_groups=shape.groups,
            attn_norm_num_groups=shape.groups,
            resnet_time_scale_shift="scale_shift",
            class_embed_type="identity",
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
        embedding, maps = self.condition(c), self.maps(c)
        if dropped is not None:
            embedding = torch.where(dropped[:, None], self.null, embedding)
            maps = maps.masked_fill(dropped[:, None, None, None], 0.0)
        folded = torch.cat([F.pixel_unshuffle(x, self.unshuffle), maps], dim=1)
        learnt = cast("torch.Tensor", self.unet(folded, t, embedding, return_dict=False)[0])
        known, scale = self.linear(t)
        return known * x + scale * F.pixel_shuffle(learnt, self.unshuffle)

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
