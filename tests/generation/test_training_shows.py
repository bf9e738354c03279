"""What a training is asked for, and what it shows of itself while it runs, over HTTP."""

import json
from io import BytesIO
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from api_schemas.generators import TrainingSettings
from services.generation.diffusion.losses import LOSSES
from services.generation.diffusion.presets import PRESETS, Recipe
from services.generation.reports import contact_sheet, loss_curve
from services.generation.reports.curve import axis_values
from services.generation.service import KEPT
from services.kit.deletion import Delete
from services.kit.jobs.lineage import DELETE


@pytest.fixture
def dataset(put_dataset):
    return put_dataset([{"sex": "Female", "age": 20 + n} for n in range(40)])


@pytest.fixture
def order(http, dataset):
    def post(**body: object):
        plain = {"name": "g", "dataset": str(dataset), "preset": "tiny-32", "steps": 40}
        return http.post("/generators", json=plain | body)

    return post


def view(http, made) -> dict:
    return http.get(f"/generators/{made.json()['id']}").json()


def test_settings_reach_the_engine_and_stay_with_the_generator(http, run, order, engine) -> None:
    asked = {"optimiser": "lion", "learning_rate": 3e-4, "batch": 16, "precision": "bfloat16"}
    made = order(training=asked)
    run()
    assert engine.tasks[0].changes == asked
    told = {k: v for k, v in view(http, made)["settings"].items() if v is not None}
    assert told == asked


def test_without_settings_the_preset_s_recipe_stands(http, run, order, engine) -> None:
    made = order()
    run()
    assert engine.tasks[0].changes == {}
    assert engine.tasks[0].previews is None
    assert view(http, made)["settings"] is None


def test_every_setting_is_one_of_the_recipe() -> None:
    fields = set(TrainingSettings.model_fields)
    assert fields <= set(Recipe.__dataclass_fields__)
    assert {p.recipe.loss for p in PRESETS.values()} <= set(LOSSES)
    for preset in PRESETS.values():  # what is used as a default may be asked for
        TrainingSettings.model_validate({f: getattr(preset.recipe, f) for f in fields})


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"training": {"optimiser": "sgd"}}, "training.optimiser"),
        ({"training": {"learning_rate": 0}}, "training.learning_rate"),
        ({"training": {"learning_rate": 1}}, "training.learning_rate"),
        ({"training": {"batch": 0}}, "training.batch"),
        ({"training": {"micro_batch": -1}}, "training.micro_batch"),
        ({"training": {"ema": 1}}, "training.ema"),
        ({"training": {"drop": 1}}, "training.drop"),
        ({"training": {"clip": 0}}, "training.clip"),
        ({"training": {"precision": "int8"}}, "training.precision"),
        ({"training": {"loss": "magic"}}, "training.loss"),
        ({"training": {"loss": "hybrid"}}, "training.loss"),
        ({"training": {"momentum": 0.9}}, "training.momentum"),
        ({"preview_every": 0}, "preview_every"),
        ({"preview_every": 1, "steps": 100_000}, "preview_every"),
    ],
)
def test_settings_that_make_no_sense_are_refused(http, order, change, field) -> None:
    answer = order(**change)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert http.get("/generators").json()["items"] == []


def test_a_first_preview_after_the_last_step_is_refused(http, order) -> None:
    answer = order(preview_every=41)
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (422, "urn:synthorax:problem:no-preview")
    assert (problem["field"], problem["accepted"]) == ("preview_every", "at most 40")
    assert http.get("/generators").json()["items"] == []
    assert order(preview_every=40).status_code == 202


def test_previews_come_while_it_runs(http, strangers_http, run, order, engine) -> None:
    made = order(preview_every=20)
    run(most=3)  # the plan, 10, 20
    shown = view(http, made)
    assert shown["job"]["state"] == "queued"  # between two slices
    assert shown["training"]["previews"] == [20]
    assert [20, 0.5] in shown["training"]["losses"]
    path = f"/generators/{made.json()['id']}/previews/20.png"
    sheet = Image.open(BytesIO(http.get(path).content))
    about = json.loads(sheet.text["synthorax"])
    assert about["synthetic"] is True
    assert (about["generator"], about["step"]) == (made.json()["id"], 20)
    assert strangers_http.get(path).status_code == 404
    assert http.get(path.replace("/20.", "/10.")).status_code == 404
    run()
    assert view(http, made)["training"]["previews"] == [20, 40]
    first, last = engine.tasks[1].previews, engine.tasks[-1].previews
    assert first == last  # always the same conditions and seeds
    assert len(first.conditions) == len(first.seeds) == 14  # of 40, every third
    assert len({c.age for c in first.conditions}) == 14


def test_a_deleted_generator_leaves_no_preview(adapters, http, run, order, work) -> None:
    made = order(preview_every=10).json()["id"]
    run()
    assert [k for k in adapters.store.keys("projects/") if f"{made}/previews" in k]
    http.delete(f"/generators/{made}")
    handlers = {DELETE: Delete(adapters.erasure, KEPT, lambda: None)}
    work("generation", "generation", handlers, 100)
    assert not [k for k in adapters.store.keys("projects/") if made in k]


def test_the_loss_curve_as_a_figure(http, strangers_http, run, order) -> None:
    made = order().json()["id"]
    empty = http.get(f"/generators/{made}/losses.svg")
    assert empty.headers["content-type"] == "image/svg+xml"
    ET.fromstring(empty.content)  # noqa: S314 - our own
    run()
    full = http.get(f"/generators/{made}/losses.svg")
    assert "mean loss" in full.text
    assert full.text.count("<path") > empty.text.count("<path")
    assert strangers_http.get(f"/generators/{made}/losses.svg").status_code == 404


def test_a_divergence_is_said_in_words_and_the_checkpoint_kept(http, run, order, engine) -> None:
    engine.good_steps = 25
    made = order()
    run()
    job = view(http, made)["job"]
    assert job["state"] == "failed"
    assert job["problem"]["type"] == "urn:synthorax:problem:nan-loss"
    assert "after 25 good steps; the state of step 20 is kept" in job["problem"]["detail"]
    assert job["problem"]["field"] == "training.learning_rate"


def test_a_name_is_text_in_the_figure() -> None:
    figure = loss_curve("<script>alert(1)</script>", [(1, 0.5), (2, 0.4)])
    assert "<script" not in figure
    ET.fromstring(figure)  # noqa: S314 - our own


def test_a_long_curve_is_thinned_and_keeps_its_end() -> None:
    long = loss_curve("g", [(n, 1.0 / n) for n in range(1, 100_001)])
    assert len(long) < 200_000


@pytest.mark.parametrize(
    "losses",
    [[0.3, 0.013], [0.2, 0.2], [1.0, 0.1], [4e-7, 3e5], [0.02, 0.05], [0.049, 0.051], [1e-300]],
)
def test_the_axis_reaches_from_below_the_losses_to_above_them(losses: list[float]) -> None:
    ticks = axis_values(losses)
    assert ticks[0] <= min(losses) <= max(losses) <= ticks[-1]
    assert len(ticks) < 2 or ticks[1] > min(losses) or ticks[1] == ticks[-1]
    assert ticks == sorted(set(ticks))
    loss_curve("g", list(enumerate(losses)))


@pytest.mark.parametrize(("size", "larger"), [(8, 16), (100, 1), (256, 1)])
def test_a_sheet_shows_every_image_in_its_place(size: int, larger: int) -> None:
    images = np.arange(6 * size * size).reshape(6, size, size).astype(np.uint8)
    shown = np.asarray(Image.open(BytesIO(contact_sheet(images, {}))))
    side = size * larger
    assert shown.shape == (2 + 2 * (side + 2), 2 + 4 * (side + 2))
    for n, image in enumerate(images):
        y, x = (2 + place * (side + 2) for place in divmod(n, 4))
        assert (shown[y : y + side : larger, x : x + side : larger] == image).all()
        assert (shown[y + larger - 1 : y + side : larger, x : x + side : larger] == image).all()
    assert (shown[-2 - side :, 2 + 2 * (side + 2) :] == 255).all()
