"""The engine on a network of a few thousand weights: exact resume, and pixels that stand alone."""

import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from api_schemas.findings import FINDINGS, Finding, Race, Sex
from api_schemas.generation import Condition, Sampler
from api_schemas.generators import NEEDS_ALL, GeneratorRequest
from services.generation.diffusion import checkpoints, training
from services.generation.diffusion.checkpoints import (
    PARTS,
    STATE,
    WEIGHTS,
    CheckpointDamaged,
    load_weights,
)
from services.generation.diffusion.encoders import ENCODERS, ConditionIncomplete, Encoder
from services.generation.diffusion.engine import DiffusionEngine, Kernels
from services.generation.diffusion.presets import PRESETS
from services.generation.diffusion.sampling import guidance_of, noise, rounded, truncated
from services.generation.ports.engine import (
    PRESET_FACTS,
    LossNotFinite,
    Previews,
    RenderTask,
    Stretch,
    TrainTask,
)

COMPILED = pytest.param(
    Kernels(compile="on"),
    3.0,
    marks=[
        pytest.mark.skipif(not shutil.which("g++"), reason="needs a compiler of C++"),
        pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # torch's own
        pytest.mark.timeout(900),  # most of a minute of an idle machine, for the compiler alone
    ],
)
STEPS = 100
FORTH = Sampler(name="dpmsolver++", steps=3)


@pytest.fixture(autouse=True)
def _small_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    preset = PRESETS["tiny-32"]
    shape = replace(
        preset.architecture,
        channels=(8, 16),
        attention=(False, True),
        groups=4,
        middle=True,
        outputs=2,
    )
    small = replace(preset, architecture=shape, recipe=replace(preset.recipe, batch=4))
    for module in (checkpoints, training):
        monkeypatch.setattr(module, "PRESETS", {"small": small})


def conditions(n: int) -> list[Condition]:
    return [
        Condition(
            age=20 + i % 70,
            sex=tuple(Sex)[i % 2],
            race=tuple(Race)[i % 5],
            findings={f: (i >> k) % 2 for k, f in enumerate(FINDINGS[:13])},
        )
        for i in range(n)
    ]


def task(folder: Path, steps: int = STEPS, seed: int = 3) -> TrainTask:
    images = folder.parent / "images.npy"
    if not images.exists():
        rng = np.random.default_rng(0)
        np.save(images, rng.integers(0, 256, (12, 32, 32), dtype=np.uint8))
    return TrainTask("small", steps, seed, images, conditions(12), folder)


def train(
    job: TrainTask, should_stop: Callable[[], bool] = lambda: False, seconds: float = 600
) -> Stretch:
    return DiffusionEngine("cpu", 1).train(
        job, seconds=seconds, should_stop=should_stop, progress=lambda _step, _loss: None
    )


def stop_after(calls: int) -> Callable[[], bool]:
    left = iter([False] * calls)
    return lambda: next(left, True)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        _small_preset.__wrapped__(patch)  # pyright: ignore[reportFunctionMemberAccess]
        folder = tmp_path_factory.mktemp("training") / "run"
        train(task(folder, steps=4))
    return folder / WEIGHTS


def render(path: Path, order: RenderTask) -> np.ndarray:
    return DiffusionEngine("cpu", 1).render(replace(order, weights=path))


PUBLISHED = {
    "optimiser": "lion",
    "loss": "hybrid",
    "learning_rate": 1e-4,
    "weight_decay": 5e-4,
    "precision": "bfloat16",
    "micro_batch": 3,
}


@pytest.mark.parametrize("changes", [{}, {"optimiser": "lion"}, PUBLISHED], ids=str)
def test_an_interrupted_training_ends_with_the_same_bytes(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    """Stopped at a random step, at another, and gone on; with previews, and without."""
    straight, halves = tmp_path / "straight", tmp_path / "halves"
    assert train(replace(task(straight), changes=changes)).finished
    looks = Previews(7, conditions(9), range(9))
    interrupted = replace(task(halves), changes=changes, previews=looks)
    first = random.SystemRandom().randint(1, STEPS - 10)
    half = train(interrupted, stop_after(first))
    assert (half.step, half.finished) == (first, False)
    assert not (halves / WEIGHTS).exists()
    assert train(interrupted, stop_after(3)).step == first + 3
    rest = train(interrupted)
    assert (rest.step, rest.finished) == (STEPS, True)
    for name in (WEIGHTS, *(f"{part}.safetensors" for part in PARTS), STATE):
        assert (straight / name).read_bytes() == (halves / name).read_bytes(), name


def test_a_stretch_ends_with_its_time(tmp_path: Path) -> None:
    first = train(task(tmp_path / "run"), seconds=0)
    assert (first.step, first.finished, first.losses) == (0, False, [])
    assert train(task(tmp_path / "run"), stop_after(7)).step == 7


def test_the_loss_curve_covers_every_step(tmp_path: Path) -> None:
    losses: list[float] = []
    curve = (
        DiffusionEngine("cpu", 1)
        .train(
            task(tmp_path / "run", steps=30),
            seconds=600,
            should_stop=lambda: False,
            progress=lambda _step, loss: losses.append(loss),
        )
        .losses
    )
    assert [step for step, _ in curve] == [25, 30]
    assert curve[0][1] == pytest.approx(np.mean(losses[:25]))
    assert curve[1][1] == pytest.approx(np.mean(losses[25:]))


@pytest.mark.parametrize("name", [STATE, "network.safetensors", "optimiser.safetensors"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, name: str) -> None:
    train(task(tmp_path / "run"), stop_after(2))
    file = tmp_path / "run" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointDamaged):
        train(task(tmp_path / "run"))


def test_the_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    mine = task(tmp_path / "run")
    train(mine, stop_after(2))
    for other in (task(tmp_path / "run", seed=4), replace(mine, changes={"optimiser": "lion"})):
        with pytest.raises(CheckpointDamaged):
            train(other)


def test_a_divergence_tells_how_many_steps_were_good(tmp_path: Path) -> None:
    """And the checkpoint before it is left as it was."""
    sound = task(tmp_path / "run")
    train(sound, stop_after(5))
    before = {path.name: path.read_bytes() for path in sound.folder.iterdir()}
    with pytest.MonkeyPatch.context() as patch:
        own = training.learning_rate
        patch.setattr(
            training,
            "learning_rate",
            lambda recipe, step, steps: float("inf") if step == 8 else own(recipe, step, steps),
        )
        with pytest.raises(LossNotFinite) as spoilt:
            train(sound)
    assert spoilt.value.step == 9  # the step that spoils them is still good itself
    assert {path.name: path.read_bytes() for path in sound.folder.iterdir()} == before


def test_the_weights_of_a_preset_s_own_recipe_say_nothing_of_it(tmp_path: Path) -> None:
    """So the same request gives the same bytes whether or not there is a choice."""
    plain, asked = tmp_path / "plain", tmp_path / "asked"
    train(task(plain, steps=2))
    train(replace(task(asked, steps=2), changes={"clip": 0.5}))
    assert b"changes" not in (plain / WEIGHTS).read_bytes()[:4096]
    assert b'\\"changes\\": {\\"clip\\": 0.5}' in (asked / WEIGHTS).read_bytes()[:4096]


def test_a_file_that_is_no_weights_is_refused(tmp_path: Path, weights: Path) -> None:
    bad = tmp_path / "bad.safetensors"
    for content in (b"", b"\x80\x04pickle", weights.read_bytes()[:-100]):
        bad.write_bytes(content)
        with pytest.raises(CheckpointDamaged):
            load_weights(bad)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("batch", [1, 8, 64])
@pytest.mark.parametrize(
    "sampler",
    [
        FORTH,
        FORTH.model_copy(update={"spacing": "trailing"}),
        Sampler(name="ddim", steps=2),
        Sampler(steps=2, guidance=3.0, rescale=0.7),
        Sampler(compatibility="mediffusion", steps=2),
    ],
    ids=["dpm", "trailing", "ddim", "guided", "published"],
)
def test_pixels_do_not_depend_on_neighbours(
    weights: Path, batch: int, sampler: Sampler, precision: str
) -> None:
    """The same image alone, and in every place among others, in the same batch shape."""
    sampler = sampler.model_copy(update={"precision": precision})
    many, engine = conditions(batch + 3), DiffusionEngine("cpu", 1)
    order = RenderTask(weights, "w", many, list(range(100, 103 + batch)), sampler, batch)
    among = engine.render(order)
    assert among.shape == (batch + 3, 32, 32)
    for i in {0, batch // 2, batch - 1, batch + 2}:
        lone = replace(order, conditions=[many[i]], seeds=[100 + i])
        assert np.array_equal(engine.render(lone)[0], among[i]), i
    backwards = replace(order, conditions=many[::-1], seeds=order.seeds[::-1])
    assert np.array_equal(engine.render(backwards)[::-1], among)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_precision_changes_little_but_something(weights: Path, precision: str) -> None:
    order = RenderTask(weights, "w", conditions(8), list(range(8)), FORTH, 8)
    half = replace(order, sampler=FORTH.model_copy(update={"precision": precision}))
    warm = DiffusionEngine("cpu", 1)
    full, rough, again = (warm.render(o).astype(int) for o in (order, half, order))
    assert np.array_equal(full, again)  # nothing is left of the other precision
    assert not np.array_equal(full, rough)
    assert np.abs(full - rough).mean() < 2


@pytest.mark.parametrize(
    ("kernels", "guidance"),
    [(Kernels(channels_last=True), 1.0), (Kernels(channels_last=True), 3.0), COMPILED],
)
def test_other_kernels_make_the_same_picture(
    weights: Path, kernels: Kernels, guidance: float
) -> None:
    """To a grey level; the environment says which they were."""
    sampler = FORTH.model_copy(update={"guidance": guidance})
    order = RenderTask(weights, "w", conditions(8), list(range(8)), sampler, 8)
    engine = DiffusionEngine("cpu", 1, kernels=kernels)
    assert engine.environment.kernels == kernels.names != []
    difference = engine.render(order).astype(int) - render(weights, order)
    assert np.abs(difference).max() <= 1


def test_the_published_guidance_makes_an_image_depend_on_its_neighbours(weights: Path) -> None:
    """That is why it is only there to repeat what the authors made."""
    published = Sampler(compatibility="mediffusion", steps=2, guidance=4.0)
    order = RenderTask(weights, "w", conditions(8), list(range(8)), published, 8)
    lone = replace(order, conditions=order.conditions[:1], seeds=order.seeds[:1])
    assert not np.array_equal(render(weights, lone)[0], render(weights, order)[0])


def test_padding_has_no_say_in_the_published_guidance(weights: Path) -> None:
    published = Sampler(compatibility="mediffusion", steps=2, guidance=4.0)
    order = RenderTask(weights, "w", conditions(3), [1, 2, 3], published, 8)
    wide = replace(order, batch=64)
    difference = render(weights, order).astype(int) - render(weights, wide)
    assert np.abs(difference).max() <= 1  # the shape alone: another order of additions


def test_seed_and_condition_both_decide(weights: Path) -> None:
    one, two = conditions(2)
    order = RenderTask(weights, "w", [one, one, two], [1, 2, 1], FORTH, 8)
    images = render(weights, order)
    assert images.dtype == np.uint8
    assert not np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])


def test_a_warm_engine_serves_the_weights_it_is_asked_for(tmp_path: Path, weights: Path) -> None:
    train(task(tmp_path / "other", steps=2, seed=9))
    order = RenderTask(weights, "a", conditions(1), [1], FORTH, 1)
    other = replace(order, weights=tmp_path / "other" / WEIGHTS, digest="b")
    warm = DiffusionEngine("cpu", 1)
    first, second, third = warm.render(order), warm.render(other), warm.render(order)
    assert np.array_equal(first, third)
    assert not np.array_equal(first, second)
    (tmp_path / "other" / WEIGHTS).unlink()
    assert np.array_equal(warm.render(order), first)


def test_all_63_bits_of_a_seed_count() -> None:
    low, high = noise([5, 5 + 2**40], 32)
    assert not np.array_equal(low, high)
    assert noise([2**63 - 1], 32).shape == (1, 1, 32, 32)
    assert abs(noise(range(50), 32).std() - 1) < 0.02


def test_the_environment_is_told() -> None:
    environment = DiffusionEngine("cpu", 1).environment
    assert (environment.device, environment.threads) == ("cpu", 1)
    assert environment.torch == torch.__version__


def test_the_web_knows_the_presets_rightly() -> None:
    told = {n: (f.size_px, f.encoder, f.learns_variance) for n, f in PRESET_FACTS.items()}
    true = {
        n: (p.architecture.size_px, p.encoder, p.architecture.outputs == 2)
        for n, p in PRESETS.items()
    }
    assert told == true
    named, _ = get_args(GeneratorRequest.model_fields["preset"].annotation)
    assert set(get_args(named)) == set(PRESETS)


def test_the_web_knows_which_encoders_need_everything() -> None:
    def needs_all(encoder: Encoder) -> bool:
        try:
            encoder.encode([Condition()])
        except ConditionIncomplete:
            return True
        return False

    assert {name for name, encoder in ENCODERS.items() if needs_all(encoder)} == NEEDS_ALL


def test_the_published_scale_of_zero_is_plain() -> None:
    assert guidance_of(Sampler(compatibility="mediffusion")).w == 1.0
    assert not guidance_of(Sampler(compatibility="mediffusion")).active(0.5)
    assert guidance_of(Sampler(compatibility="mediffusion", guidance=4.0)).w == 4.0
    assert guidance_of(Sampler(guidance=4.0)).batch_wide is False


def test_grey_levels_are_rounded_or_as_published_cut_off() -> None:
    levels = torch.tensor([-1.0, -0.996, -0.001, 0.001, 0.9999, 1.0])
    x = levels.reshape(1, 1, 2, 3)
    assert rounded(x).flatten().tolist() == [0, 1, 127, 128, 255, 255]
    assert truncated(x).flatten().tolist() == [0, 0, 127, 127, 254, 255]


def test_unknown_attributes_are_fine(weights: Path) -> None:
    order = RenderTask(weights, "w", [Condition(findings={Finding.EDEMA: 1})], [1], FORTH, 1)
    assert render(weights, order).shape == (1, 32, 32)
