"""From the authors' checkpoint to upright pictures, over HTTP, with the real engine."""

import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from api_schemas.generation import Condition
from services.generation.diffusion.encoders import ENCODERS
from services.generation.diffusion.engine import DiffusionEngine, noise
from tests.generation.diffusion.published import CONFIG, Published, ddim, lightning
from tests.generation.test_imports import PATIENT, send

SEEDS = [5, 6]


@pytest.fixture
def engine() -> DiffusionEngine:
    return DiffusionEngine("cpu", 1)


def network(seed: int) -> Published:
    torch.manual_seed(seed)
    return Published(CONFIG["model"]).requires_grad_(requires_grad=False).eval()


def test_the_same_pictures_as_the_published_package(http, run, tmp_path: Path) -> None:
    raw, ema = network(0), network(1)
    file = lightning(
        tmp_path / "x", CONFIG, raw.state_dict(), ema.state_dict(), compiled=True
    ).read_bytes()
    generator = send(http, file).json()["id"]
    run()
    view = http.get(f"/generators/{generator}").json()
    assert view["job"]["state"] == "succeeded", view["job"]
    assert (view["origin"]["weights"], view["origin"]["format"]) == ("ema", "mediffusion")
    order = {
        "generator": generator,
        "recipes": [{"condition": PATIENT, "seed": seed} for seed in SEEDS],
        "sampler": {"compatibility": "mediffusion", "steps": 10},
    }
    made = http.post("/generate", json=order).json()
    assert (made["sampler"]["name"], made["sampler"]["guidance"]) == ("ddim", 0.0)
    run()
    pictures = [
        np.asarray(
            Image.open(BytesIO(http.get(f"/generations/{made['id']}/images/{n}.png").content))
        )
        for n in range(len(SEEDS))
    ]
    c = ENCODERS["paper22"].encode([Condition.model_validate(PATIENT)] * len(SEEDS))
    x_0 = ddim(ema, torch.from_numpy(noise(SEEDS, 16)), torch.from_numpy(c), 10, 0.0)
    expected = (127.5 * (x_0[:, 0].mT + 1)).to(torch.uint8).numpy()
    assert np.abs(np.stack(pictures).astype(int) - expected).max() <= 1


def test_a_hostile_file_fails_its_job_and_runs_nothing(http, run, tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> object:
            return os.system, (f"touch {tmp_path / 'marker'}",)

    file = lightning(tmp_path / "x", CONFIG, {"weight": Attack()}).read_bytes()
    generator = send(http, file).json()["id"]
    assert run() == 1
    job = http.get(f"/generators/{generator}").json()["job"]
    assert (job["state"], job["problem"]["type"]) == (
        "failed",
        "urn:synthorax:problem:checkpoint-unsafe",
    )
    assert "system" in job["problem"]["detail"]
    assert not (tmp_path / "marker").exists()
