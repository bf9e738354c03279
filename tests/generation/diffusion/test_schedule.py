import math

import numpy as np
import pytest
from diffusers import DDIMScheduler

from services.generation.diffusion.schedule import PUBLISHED, SCHEDULES, cosine, zero_terminal_snr

SCHEDULE = SCHEDULES[PUBLISHED]()


def test_equals_the_table_of_diffusers() -> None:
    theirs = DDIMScheduler(
        1000, beta_schedule="squaredcos_cap_v2", rescale_betas_zero_snr=True
    ).alphas_cumprod.numpy()
    np.testing.assert_allclose(SCHEDULE.alpha_bar, theirs, atol=1e-6)  # theirs is float32


def test_ends_in_pure_noise_and_keeps_its_first_value() -> None:
    assert SCHEDULE.alpha_bar[-1] == 0.0
    assert SCHEDULE.sigma[-1] == 1.0
    assert SCHEDULE.alpha_bar[0] == pytest.approx(cosine()[0], rel=1e-12)


def test_noise_grows_and_variance_is_preserved() -> None:
    assert (np.diff(SCHEDULE.alpha_bar) < 0).all()
    np.testing.assert_allclose(SCHEDULE.alpha**2 + SCHEDULE.sigma**2, 1.0, atol=1e-15)


def test_log_snr_runs_from_clean_to_noise() -> None:
    values = [SCHEDULE.log_snr(t) for t in (None, 0, 500, 998, 999)]
    assert values[0] == math.inf
    assert values[-1] == -math.inf
    assert values == sorted(values, reverse=True)


def test_rescaling_twice_changes_nothing() -> None:
    once = zero_terminal_snr(cosine())
    np.testing.assert_allclose(zero_terminal_snr(once), once, atol=1e-15)
