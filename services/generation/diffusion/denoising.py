"""The denoiser D(x_t, t) that samplers see, made of a network and a condition.

v-prediction (Salimans and Ho 2022): v = alpha_t eps - sigma_t x_0, hence
x_0 = alpha_t x_t - sigma_t v.
"""

from dataclasses import dataclass

import torch

from services.generation.diffusion.network import Network
from services.generation.diffusion.schedule import Schedule


@dataclass(frozen=True)
class Guidance:
    """w, the times u = t / (T - 1) where it applies, and phi of the rescale.

    `batch_wide` rescales as the published sampler does: an image then depends on its neighbours.
    """

    w: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)
    phi: float = 0.0
    batch_wide: bool = False

    def active(self, u: float) -> bool:
        low, high = self.interval
        return self.w != 1.0 and low <= u <= high


def guided(cond: torch.Tensor, uncond: torch.Tensor, w: float, phi: float) -> torch.Tensor:
    """Classifier-free guidance with its rescale (Lin et al. 2023, eq. 15 and 16), on (N, 1, H, W).

    The standard deviation is each image's own: taken over the batch, as published, an image would
    depend on its neighbours.
    """
    v = uncond + w * (cond - uncond)
    std_cond, std_v = (p.std(dim=(1, 2, 3), keepdim=True) for p in (cond, v))
    return phi * (v * std_cond / std_v) + (1.0 - phi) * v


def guided_batch_wide(
    cond: torch.Tensor, uncond: torch.Tensor, w: float, phi: float, real: int
) -> torch.Tensor:
    """The same as published: one standard deviation over all images and both channels.

    Only the first `real` images count; the others pad the batch.
    """
    v = uncond + w * (cond - uncond)
    return phi * (v * (cond[:real].std() / v[:real].std())) + (1.0 - phi) * v


@dataclass(frozen=True)
class Denoiser:
    """D(x_t, t) for one batch of conditions, with static clipping of x_0 to [-1, 1].

    What a network of learned range says of the variance is dropped: samplers without noise of
    their own have no use for it. The first `real` images are wanted, the others pad the batch.
    """

    network: Network
    schedule: Schedule
    c: torch.Tensor  # (N, D), encoded conditions
    guidance: Guidance = Guidance()
    real: int | None = None

    def __call__(self, x: torch.Tensor, t: int) -> torch.Tensor:
        alpha, sigma = self.schedule.at(t)
        return (alpha * x - sigma * self._v(x, t)[:, :1]).clamp(-1.0, 1.0)

    def _v(self, x: torch.Tensor, t: int) -> torch.Tensor:
        times = torch.full((len(x),), t, device=x.device)
        known = self.network(x, times, self.c)
        if not self.guidance.active(t / (len(self.schedule) - 1)):
            return known
        known = known.clone()  # a captured graph has one place for its output
        nothing_known = torch.ones(len(x), dtype=torch.bool, device=x.device)
        unknown = self.network(x, times, self.c, dropped=nothing_known)
        w, phi = self.guidance.w, self.guidance.phi
        if self.guidance.batch_wide:
            return guided_batch_wide(known, unknown, w, phi, self.real or len(x))
        return guided(known[:, :1], unknown[:, :1], w, phi)
