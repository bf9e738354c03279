"""The samplers against diffusers' schedulers, on a small random network."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

from services.generation.diffusion.denoising import Denoiser, Guidance, guided
from services.generation.diffusion.network import Network
from services.generation.diffusion.presets import Architecture
from services.generation.diffusion.samplers import (
    SAMPLERS,
    ddim,
    dpm_solver_pp_2m,
    even_in_log_snr,
    leading,
    trailing,
)
from services.generation.diffusion.schedule import PUBLISHED, SCHEDULES, Schedule

SCHEDULE = SCHEDULES[PUBLISHED]()
WIDTH = 5


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    shape = Architecture(16, 2, channels=(16, 16), attention=(False, False))
    network = Network(shape, WIDTH).requires_grad_(requires_grad=False).eval()
    for parameter in network.parameters():  # far from the tame start that training has
        parameter.mul_(1.5)
    return network


@pytest.fixture(scope="module")
def c() -> torch.Tensor:
    return torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("steps", [10, 50])
def test_ddim_equals_the_published_sampler(
    network: Network, c: torch.Tensor, x: torch.Tensor, steps: int
) -> None:
    scheduler = DDIMScheduler(
        1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="leading",
        steps_offset=0,
        set_alpha_to_one=True,
        clip_sample=True,
        clip_sample_range=1.0,
    )
    scheduler.alphas_cumprod = torch.from_numpy(SCHEDULE.alpha_bar)
    scheduler.set_timesteps(steps)
    theirs = x
    for t in scheduler.timesteps:
        v = network(theirs, t.expand(2), c)
        step = scheduler.step(v, t, theirs, use_clipped_model_output=True)
        theirs = step.prev_sample.float()
    ours = ddim(Denoiser(network, SCHEDULE, c), x, SCHEDULE, steps)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers'
@pytest.mark.parametrize("steps", [2, 5, 20, 30])
def test_dpm_solver_equals_diffusers(
    network: Network, c: torch.Tensor, x: torch.Tensor, steps: int
) -> None:
    """Diffusers has no room for an infinite log SNR, so both get its stand-in of 2^-24."""
    alpha_bar = SCHEDULE.alpha_bar.copy()
    alpha_bar[-1] = 2.0**-24
    schedule = Schedule(alpha_bar)
    scheduler = DPMSolverMultistepScheduler(
        1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        algorithm_type="dpmsolver++",
        solver_order=2,
        timestep_spacing="trailing",
        final_sigmas_type="zero",
        thresholding=True,
        sample_max_value=1.0,
    )
    scheduler.alphas_cumprod = torch.from_numpy(alpha_bar)
    scheduler.set_timesteps(steps)
    theirs = x
    for t in scheduler.timesteps:
        theirs = scheduler.step(network(theirs, t.expand(2), c), t, theirs).prev_sample
    ours = dpm_solver_pp_2m(Denoiser(network, schedule, c), x, schedule, steps)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_second_order_converges_faster(network: Network, c: torch.Tensor, x: torch.Tensor) -> None:
    denoise = Denoiser(network, SCHEDULE, c)
    truth = ddim(denoise, x, SCHEDULE, 500)

    def error(image: torch.Tensor) -> float:
        return (image - truth).square().mean().sqrt().item()

    assert error(dpm_solver_pp_2m(denoise, x, SCHEDULE, 20)) < error(ddim(denoise, x, SCHEDULE, 50))


def test_exact_on_a_single_image() -> None:
    """With one training image the ideal denoiser is constant, and every sampler ends there."""
    image = torch.linspace(-1, 1, 16).reshape(1, 1, 4, 4)
    noise = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    for solve in (ddim, dpm_solver_pp_2m):
        torch.testing.assert_close(solve(lambda _x, _t: image, noise, SCHEDULE, 7), image)


def test_timesteps() -> None:
    assert leading(1000, 4) == [750, 500, 250, 0]
    assert trailing(1000, 4) == [999, 749, 499, 249]
    assert leading(1000, 600)[0] > 990  # not 599: strides need not divide T
    assert len(set(trailing(1000, 300))) == 300


@pytest.mark.parametrize("steps", [2, 3, 12, 20, 30, 500, 984, 1000])
def test_timesteps_that_are_even_in_log_snr(steps: int) -> None:
    times = even_in_log_snr(SCHEDULE, steps)
    assert len(times) == steps
    assert times == sorted(set(times), reverse=True)
    assert (times[0], times[-1] >= 0) == (999, True)


def test_strides_of_log_snr_are_equal_as_far_as_whole_timesteps_can_be() -> None:
    times = even_in_log_snr(SCHEDULE, 20)
    assert times[:2] == [999, 985]
    assert times[-1] == 3
    strides = np.diff([SCHEDULE.log_snr(t) for t in times[1:]])
    assert strides == pytest.approx(strides.mean(), rel=0.06)


def test_even_in_log_snr_ends_nearest_where_the_solution_is_known() -> None:
    """Independent pixels of mean 0 and standard deviation s: noise eps becomes s eps, exactly."""
    s = torch.linspace(0.02, 0.5, 256, dtype=torch.float64).reshape(1, 1, 16, 16)
    eps = torch.randn(s.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def ideal(x: torch.Tensor, t: int) -> torch.Tensor:
        alpha, sigma = SCHEDULE.at(t)
        return alpha * s**2 / (alpha**2 * s**2 + sigma**2) * x

    def error(name: str, spacing: str, steps: int) -> float:
        image = SAMPLERS[name, spacing](ideal, eps, SCHEDULE, steps)
        return (image - s * eps).square().mean().sqrt().item()

    ours = error("dpmsolver++", "log-snr", 20)
    assert ours < error("ddim", "leading", 200)
    assert 3 * ours < error("dpmsolver++", "trailing", 20)


def test_guidance_one_is_plain(network: Network, c: torch.Tensor, x: torch.Tensor) -> None:
    plain = Denoiser(network, SCHEDULE, c)
    one = replace(plain, guidance=Guidance(w=1.0, phi=0.7))
    assert torch.equal(plain(x, 500), one(x, 500))


def test_guidance_only_inside_its_interval(
    network: Network, c: torch.Tensor, x: torch.Tensor
) -> None:
    plain = Denoiser(network, SCHEDULE, c)
    some = replace(plain, guidance=Guidance(w=3.0, interval=(0.4, 0.6)))
    assert torch.equal(plain(x, 300), some(x, 300))
    assert not torch.equal(plain(x, 500), some(x, 500))
    assert torch.equal(plain(x, 700), some(x, 700))


def test_rescale_restores_each_image_s_own_contrast() -> None:
    rng = torch.Generator().manual_seed(0)
    cond, uncond = torch.randn(2, 3, 1, 8, 8, generator=rng) * torch.tensor(
        [1.0, 2.0, 5.0]
    ).reshape(3, 1, 1, 1)
    rescaled = guided(cond, uncond, w=4.0, phi=1.0)
    torch.testing.assert_close(rescaled.std((1, 2, 3)), cond.std((1, 2, 3)))
    torch.testing.assert_close(guided(cond, uncond, 4.0, 0.0), uncond + 4.0 * (cond - uncond))


def test_half_inverse_r_of_an_infinite_first_stride_is_zero() -> None:
    """From exact zero SNR the second step must not lean on the first, nor become NaN."""
    seen: list[torch.Tensor] = []

    def denoise(x: torch.Tensor, _t: int) -> torch.Tensor:
        seen.append(x)
        return torch.full_like(x, 0.5 if len(seen) > 1 else -0.5)

    image = dpm_solver_pp_2m(denoise, torch.zeros(1, 1, 2, 2), SCHEDULE, 3)
    assert np.isfinite(image.numpy()).all()
    a_1, s_1 = SCHEDULE.at(trailing(1000, 3)[1])
    a_2, s_2 = SCHEDULE.at(trailing(1000, 3)[2])
    x_1 = a_1 * -0.5
    x_2 = s_2 / s_1 * x_1 + (a_2 - a_1 * s_2 / s_1) * 0.5
    torch.testing.assert_close(seen[2], torch.full_like(image, x_2))
