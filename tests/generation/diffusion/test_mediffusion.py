"""The authors' checkpoints: the same forwards, the same trajectories, the same pictures upright."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from api_schemas.findings import FINDINGS, Race, Sex
from api_schemas.generation import Condition, Sampler
from services.generation.diffusion.checkpoints import load_weights
from services.generation.diffusion.denoising import Denoiser
from services.generation.diffusion.encoders import ENCODERS
from services.generation.diffusion.engine import DiffusionEngine
from services.generation.diffusion.mediffusion import import_checkpoint
from services.generation.diffusion.network import Network
from services.generation.diffusion.samplers import ddim as our_ddim
from services.generation.diffusion.sampling import guidance_of, noise
from services.generation.ports.engine import (
    KeysDiffer,
    NetworkUnsupported,
    RenderTask,
    WeightsNotFinite,
)
from tests.generation.diffusion.published import CONFIG, Published, config, ddim, lightning

SHARED = Path(__file__).parents[4] / "shared" / "mediffusion"
DOUBLE = torch.float64
TIMES = torch.tensor([0, 517, 999])

CONFIGS = {
    "plain": config(),
    "three levels": config(
        channel_mult=[1, 1, 2], num_res_blocks=[2, 2, 2], attention_resolutions=[2, 4]
    ),
    "attention everywhere": config(attention_resolutions=[1, 2], num_heads=2),
    "attention in the middle only": config(attention_resolutions=[]),
    "new order": config(use_new_attention_order=True),
    "heads of one width": config(num_head_channels=8),
    "heads of one width, new order": config(num_head_channels=16, use_new_attention_order=True),
    "no learned range": config(out_channels=1),
    "wide": config(model_channels=64, channel_mult=[1, 3], num_heads=8),
}


def made(options: dict[str, Any], seed: int = 0) -> Published:
    torch.manual_seed(seed)
    network = Published(options["model"]).requires_grad_(requires_grad=False).eval()
    network.out[2].weight.mul_(3)  # so that images leave the grey
    return network


def imported(source: Path, folder: Path) -> Network:
    import_checkpoint(source, folder / "weights.safetensors")
    return load_weights(folder / "weights.safetensors").network


def inputs(size: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    return torch.randn(3, 1, size, size, generator=rng), torch.rand(3, 22, generator=rng)


# ---------------------------------------------------------------- the same numbers


@pytest.mark.skipif(
    not SHARED.exists(), reason="the published package's own forwards lie elsewhere"
)
@pytest.mark.parametrize(("kind", "limit"), [("f32", 1e-4), ("f64", 1e-10)])
def test_forwards_of_the_published_package(tmp_path: Path, kind: str, limit: float) -> None:
    reference = load_file(SHARED / "small_forward.safetensors")
    dtype = reference[f"fwd/ema/{kind}/cond"].dtype
    network = imported(SHARED / "small_plain.ckpt", tmp_path).to(dtype)
    x, c, t = reference["in/x"].to(dtype), reference["in/cls"].to(dtype), reference["in/t"]
    nothing = torch.ones(len(x), dtype=torch.bool)
    with torch.no_grad():
        found = {
            "cond": network(x, t, c),
            "null": network(x, t, c, nothing),
            "cls_embed": network.condition(c),
        }
    for name, value in found.items():
        difference = (value - reference[f"fwd/ema/{kind}/{name}"]).abs().max().item()
        assert difference < limit, name


@pytest.mark.parametrize("options", CONFIGS.values(), ids=CONFIGS)
@torch.no_grad()
def test_forwards_of_a_second_implementation(tmp_path: Path, options: dict[str, Any]) -> None:
    theirs = made(options)
    ours = imported(lightning(tmp_path / "a.ckpt", options, theirs.state_dict()), tmp_path)
    x, c = inputs()
    torch.testing.assert_close(ours(x, TIMES, c), theirs(x, TIMES, c), atol=1e-4, rtol=0)
    ours, theirs, x, c = ours.to(DOUBLE), theirs.to(DOUBLE), x.double(), c.double()
    nothing = torch.ones(3, dtype=torch.bool)
    for mine, reference in (
        (ours(x, TIMES, c), theirs(x, TIMES, c)),
        (ours(x, TIMES, c, nothing), theirs(x, TIMES, None)),
    ):
        assert mine.shape == (3, options["model"]["out_channels"], 16, 16)
        torch.testing.assert_close(mine, reference, atol=1e-10, rtol=0)


@pytest.mark.parametrize("scale", [0.0, 4.0], ids=["plain", "guided"])
@pytest.mark.parametrize("steps", [10, 50])
@torch.no_grad()
def test_a_whole_trajectory(tmp_path: Path, steps: int, scale: float) -> None:
    theirs = made(CONFIG).to(DOUBLE)
    source = lightning(tmp_path / "a.ckpt", CONFIG, made(CONFIG).state_dict())
    import_checkpoint(source, tmp_path / "w")
    model = load_weights(tmp_path / "w")
    x, c = (each.double() for each in inputs())
    settings = Sampler(compatibility="mediffusion", steps=steps, guidance=scale)
    denoiser = Denoiser(model.network.to(DOUBLE), model.schedule, c, guidance_of(settings))
    ours = our_ddim(denoiser, x, model.schedule, steps)
    expected = ddim(theirs, x, c, steps, scale)
    assert expected.std() > 0.1  # a picture, not a grey field
    torch.testing.assert_close(ours, expected, atol=1e-10, rtol=0)


PATIENTS = [
    Condition(age=10 * n + 7, sex=Sex.MALE, race=Race.WHITE, findings=dict.fromkeys(FINDINGS, 0))
    for n in range(3)
]


@pytest.mark.parametrize("scale", [0.0, 4.0], ids=["plain", "guided"])
def test_pictures_come_out_upright_and_truncated(tmp_path: Path, scale: float) -> None:
    source = lightning(tmp_path / "a.ckpt", CONFIG, made(CONFIG).state_dict())
    import_checkpoint(source, tmp_path / "w")
    settings = Sampler(compatibility="mediffusion", steps=10, guidance=scale)
    seeds = [1, 2, 3]
    order = RenderTask(tmp_path / "w", "w", PATIENTS, seeds, settings, batch=8)  # 5 are padding
    images = DiffusionEngine("cpu", 1).render(order)
    c = torch.from_numpy(ENCODERS["paper22"].encode(PATIENTS))
    x_0 = ddim(made(CONFIG), torch.from_numpy(noise(seeds, 16)), c, 10, scale)
    expected = (127.5 * (x_0[:, 0].mT + 1)).to(torch.uint8).numpy()
    assert expected.std() > 10
    assert np.abs(images.astype(int) - expected).max() <= 1  # float32 on either side of a level
    assert (images == expected).mean() > 0.99


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("threads", [1, 2])
def test_imported_networks_keep_the_promise_of_slots(
    tmp_path: Path, threads: int, precision: str
) -> None:
    """With attention, and with the threads that a worker has."""
    options = CONFIGS["three levels"]
    import_checkpoint(
        lightning(tmp_path / "a.ckpt", options, made(options).state_dict()), tmp_path / "w"
    )
    settings = Sampler(steps=2, precision=precision, guidance=3.0, rescale=0.7)
    engine = DiffusionEngine("cpu", threads)
    patients = [PATIENTS[n % 3] for n in range(8)]
    order = RenderTask(tmp_path / "w", "w", patients, list(range(8)), settings, batch=8)
    among = engine.render(order)
    for i in (0, 3, 7):
        lone = replace(order, conditions=[patients[i]], seeds=[i])
        assert np.array_equal(engine.render(lone)[0], among[i])
    backwards = replace(order, conditions=patients[::-1], seeds=order.seeds[::-1])
    assert np.array_equal(engine.render(backwards)[::-1], among)


# ---------------------------------------------------------------- which weights


def test_the_average_is_taken_unless_there_is_none(tmp_path: Path) -> None:
    raw, ema = made(CONFIG, 0).state_dict(), made(CONFIG, 1).state_dict()

    def null(source: Path, wanted: Any = "ema") -> tuple[str, torch.Tensor]:
        said = import_checkpoint(source, tmp_path / "w", wanted).weights
        return said, load_weights(tmp_path / "w").network.null

    both = lightning(tmp_path / "both.ckpt", CONFIG, raw, ema, compiled=True)
    said, found = null(both)
    assert said == "ema"
    assert torch.equal(found, ema["null_cls_embed"][0])
    said, found = null(both, "raw")
    assert said == "raw"
    assert torch.equal(found, raw["null_cls_embed"][0])
    for source in (
        lightning(tmp_path / "raw.ckpt", CONFIG, raw),
        lightning(tmp_path / "unready.ckpt", CONFIG, raw, ema, _ema_state_dict_ready=False),
    ):
        said, found = null(source)
        assert said == "raw"
        assert torch.equal(found, raw["null_cls_embed"][0])


def test_a_compiled_network_and_half_precision_are_the_same_network(tmp_path: Path) -> None:
    state = {key: value.half() for key, value in made(CONFIG).state_dict().items()}
    plain = imported(lightning(tmp_path / "a", CONFIG, state), tmp_path).state_dict()
    compiled = imported(lightning(tmp_path / "b", CONFIG, state, compiled=True), tmp_path)
    assert all(torch.equal(plain[name], value) for name, value in compiled.state_dict().items())
    assert {value.dtype for value in plain.values()} == {torch.float32}


def test_what_is_said_of_the_file(tmp_path: Path) -> None:
    source = lightning(tmp_path / "a.ckpt", CONFIG, made(CONFIG).state_dict())
    first, second = (import_checkpoint(source, tmp_path / name) for name in "xy")
    assert first == second
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()
    assert (first.size_px, first.encoder, first.format) == (16, "paper22", "mediffusion")
    assert first.parameters == sum(p.numel() for p in made(CONFIG).parameters())
    assert first.architecture["heads"] == 4


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("section", "change", "named"),
    [
        ("model", {"channel_mult": [2, 2]}, "model.channel_mult: the first multiplier must be 1"),
        ("model", {"num_res_blocks": [1, 2]}, "model.num_res_blocks: all levels"),
        ("model", {"resblock_updown": True}, "model.resblock_updown"),
        ("model", {"scale_skip_connection": True}, "model.scale_skip_connection"),
        ("model", {"dims": 3}, "model.dims"),
        ("model", {"input_size": [16, 24]}, "model.input_size"),
        ("model", {"in_channels": 3}, "model.in_channels"),
        ("model", {"concat_channels": 1}, "model.concat_channels"),
        ("model", {"num_classes": 0}, "model.num_classes"),
        ("model", {"use_scale_shift_norm": False}, "model.use_scale_shift_norm"),
        ("model", {"num_heads": 5}, "divisible"),
        ("model", {"num_heads": 0}, "model.num_heads"),
        ("model", {"num_heads_upsample": 2}, "num_heads_upsample"),
        ("model", {"model_channels": 10**9}, "model.model_channels"),
        ("model", {"channel_mult": [1, float("inf")]}, "model.channel_mult"),
        ("model", {"channel_mult": [1, 1.5]}, "divisible"),
        ("model", {"num_head_channels": 7}, "divisible"),
        ("model", {"input_size": 17}, "divisible"),
        ("model", {"num_res_blocks": [1]}, "equally long"),
        ("model", {"missing_class_value": -1}, "model.missing_class_value"),
        ("diffusion", {"mean_type": "EPSILON"}, "diffusion.mean_type"),
        ("diffusion", {"schedule_name": "linear"}, "diffusion.schedule_name"),
        ("diffusion", {"timesteps": 500}, "diffusion.timesteps"),
        ("diffusion", {"enforce_zero_terminal_snr": False}, "diffusion.enforce_zero_terminal_snr"),
        ("diffusion", {"schedule_params": {"cosine_s": 0.01}}, "schedule_params.cosine_s"),
    ],
)
def test_options_that_cannot_be_taken_over_are_named(
    tmp_path: Path, section: str, change: dict[str, Any], named: str
) -> None:
    options = {**CONFIG, section: CONFIG[section] | change}
    source = lightning(tmp_path / "a.ckpt", options, made(CONFIG).state_dict())
    with pytest.raises(NetworkUnsupported) as refusal:
        import_checkpoint(source, tmp_path / "w")
    assert named in str(refusal.value)
    assert not (tmp_path / "w").exists()


def test_several_wrong_options_are_named_at_once(tmp_path: Path) -> None:
    options = config(dims=3, resblock_updown=True)
    source = lightning(tmp_path / "a.ckpt", options, made(CONFIG).state_dict())
    with pytest.raises(NetworkUnsupported, match=r"model\.dims.*model\.resblock_updown"):
        import_checkpoint(source, tmp_path / "w")


def test_a_checkpoint_of_another_package_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {"layer.weight": torch.zeros(2)}}, tmp_path / "a.ckpt")
    with pytest.raises(NetworkUnsupported, match="hyper_parameters"):
        import_checkpoint(tmp_path / "a.ckpt", tmp_path / "w")


KEY = "output_blocks.1.1.qkv.weight"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({KEY: None}, f"1 missing: {KEY}"),
        ({"extra.a": torch.zeros(3), "extra.b": 0}, "2 not of this network: extra.a, extra.b"),
        ({KEY: torch.zeros(192, 32, 1)}, f"1 of another shape: {KEY} is 192x32x1 instead of"),
        ({KEY: torch.zeros(1).expand(10**6, 10**6)}, f"{KEY} is 1000000x1000000 instead of"),
        ({KEY: torch.zeros(192, 64, 1, dtype=torch.long)}, f"{KEY} is no tensor of floats"),
        ({KEY: "a word"}, f"{KEY} is no tensor of floats"),
        ({7: torch.zeros(1)}, "no text"),
        ({"_orig_mod." + KEY: torch.zeros(192, 64, 1)}, "twice"),
    ],
)
def test_wrong_keys_are_named(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    state = {k: v for k, v in (made(CONFIG).state_dict() | change).items() if v is not None}
    source = lightning(tmp_path / "a.ckpt", CONFIG, state)
    with pytest.raises(KeysDiffer) as refusal:
        import_checkpoint(source, tmp_path / "w")
    assert named in str(refusal.value)


def test_a_checkpoint_without_weights_is_refused(tmp_path: Path) -> None:
    source = lightning(tmp_path / "a.ckpt", CONFIG, {})
    with pytest.raises(KeysDiffer, match="no weights"):
        import_checkpoint(source, tmp_path / "w")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    state = made(CONFIG).state_dict()
    state["time_embed.0.bias"][3] = value
    source = lightning(tmp_path / "a.ckpt", CONFIG, state)
    with pytest.raises(WeightsNotFinite, match=r"time_embed\.0\.bias"):
        import_checkpoint(source, tmp_path / "w")
    assert not (tmp_path / "w").exists()
