"""From a model, conditions and seeds to pixels: one batch of a fixed shape at a time."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from api_schemas.generation import Condition
from api_schemas.generation import Sampler as SamplerSettings
from services.generation.diffusion.checkpoints import Model
from services.generation.diffusion.denoising import Denoiser, Guidance
from services.generation.diffusion.samplers import SAMPLERS


@torch.inference_mode()
def sample(
    model: Model,
    device: torch.device,
    conditions: Sequence[Condition],
    seeds: Sequence[int],
    settings: SamplerSettings,
    batch: int,
) -> NDArray[np.uint8]:
    """At most `batch` images, in a batch that is padded to its shape and cut again."""
    real = len(seeds)
    padding = batch - real
    vectors = np.pad(model.encoder.encode(conditions), ((0, padding), (0, 0)))
    c = torch.from_numpy(vectors).to(device)
    x = torch.from_numpy(noise([*seeds, *[0] * padding], model.size_px)).to(device)
    denoiser = Denoiser(model.network, model.schedule, c, guidance_of(settings), real)
    solve = SAMPLERS[settings.name, settings.spacing]
    x_0 = solve(denoiser, x, model.schedule, settings.steps)[:real]
    if model.transposed:
        x_0 = x_0.mT
    return truncated(x_0) if settings.compatibility else rounded(x_0)


def guidance_of(settings: SamplerSettings) -> Guidance:
    """What a request's settings mean. The published scale 0 is plain conditional sampling."""
    published = settings.compatibility is not None
    w = 1.0 if published and settings.guidance == 0.0 else settings.guidance
    return Guidance(w, settings.interval, settings.rescale, batch_wide=published)


def noise(seeds: Sequence[int], size_px: int) -> NDArray[np.float32]:
    """The starting noise (N, 1, H, W), each image's from its own seed alone.

    By numpy, on the CPU: torch's CPU generator looks at the lower 32 bits of a seed only, so that
    among 100,000 images with 63-bit seeds one pair would share its noise.
    """
    shape = (1, size_px, size_px)
    return np.stack([np.random.default_rng(s).standard_normal(shape, np.float32) for s in seeds])


def rounded(x: torch.Tensor) -> NDArray[np.uint8]:
    """[-1, 1] (N, 1, H, W) to the nearest of 0 .. 255 (N, H, W)."""
    return _pixels((127.5 * (x + 1.0)).round())


def truncated(x: torch.Tensor) -> NDArray[np.uint8]:
    """The same as published, always downwards: half a grey level darker."""
    return _pixels(127.5 * (x + 1.0))


def _pixels(x: torch.Tensor) -> NDArray[np.uint8]:
    return x[:, 0].clamp(0, 255).to(torch.uint8).cpu().contiguous().numpy()
