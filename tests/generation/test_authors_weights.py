"""From the authors' checkpoint to upright pictures, over HTTP, with the real engine."""

import os
import pickle
import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from api_schemas.generation import Condition
from services.generation.diffusion.encoders import ENCODERS
from services.generation.diffusion.engine import DiffusionEngine
from services.generation.diffusion.sampling import noise
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


class Attack:
    def __init__(self, marker: Path) -> None:
        self._command = f"touch {marker}"

    def __reduce__(self) -> object:
        return os.system, (self._command,)


def hostile_checkpoint(folder: Path) -> bytes:
    attack = {"weight": Attack(folder / "marker")}
    return lightning(folder / "x", CONFIG, attack).read_bytes()


def bare_pickle(folder: Path) -> bytes:
    return pickle.dumps(Attack(folder / "marker"))


def long_header(_: Path) -> bytes:
    return struct.pack("<Q", 200 << 20) + b"{" * (1 << 20)


@pytest.mark.parametrize(
    ("make", "slug"),
    [
        (hostile_checkpoint, "checkpoint-unsafe"),
        (bare_pickle, "checkpoint-unreadable"),
        (long_header, "checkpoint-unreadable"),
    ],
)
def test_row_43_a_hostile_file_fails_its_job_and_runs_nothing(
    http, run, tmp_path: Path, make, slug: str
) -> None:
    generator = send(http, make(tmp_path)).json()["id"]
    assert run() == 1
    job = http.get(f"/generators/{generator}").json()["job"]
    assert job["state"] == "failed"
    assert job["problem"]["type"] == f"urn:synthorax:problem:{slug}"
    assert not (tmp_path / "marker").exists()
