"""A cohort is measured against real images: ordered, measured, shown, and refused."""

import io
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageFilter

from api_schemas.base import JobState
from api_schemas.generators import GeneratorView
from api_schemas.manifest import MANIFEST
from api_schemas.screening import Neighbour, Screening
from api_schemas.terms import UNCHECKED, WITHDRAWN
from services.datasets.main import compose as compose_datasets
from services.evaluation.statistics import quality
from services.kit.errors import Unprocessable
from services.kit.objects import sha256
from tests.evaluation.study import DONE, NOW

Row = dict[str, Any]


@pytest.fixture
def cohort_of(adapters, ada, shelf) -> Callable[..., tuple[UUID, list[Row]]]:
    """A cohort of the pictures of a dataset, under synthetic names, by a generator of it."""

    def make(dataset: UUID | None, rows: list[Row], **view: Any) -> UUID:
        cohort = shelf.add_cohort(ada.caller, [None])
        caller, made, _ = shelf.cohorts[cohort]
        told = [
            row | {"sample_id": f"synthetic-{n}", "patient_id": f"synthetic/{n}", "split": "train"}
            for n, row in enumerate(rows)
        ]
        table = pa.Table.from_pylist(told, schema=MANIFEST)
        shelf.cohorts[cohort] = (caller, made.model_copy(update=view), table)
        shelf.generators[made.generator] = GeneratorView(
            id=made.generator,
            name="g",
            preset="small-64",
            dataset=dataset,
            steps=1,
            seed=0,
            size_px=64,
            created_at=NOW,
            job=DONE,
        )
        return cohort

    return make


@pytest.fixture
def rows_of(adapters, ada) -> Callable[[UUID], list[Row]]:
    provider = compose_datasets(adapters).provider
    return lambda dataset: provider.dataset_manifest(ada.caller, dataset).to_pylist()


@pytest.fixture
def few_draws(monkeypatch) -> None:
    """For what does not depend on how sure the distances are."""
    monkeypatch.setattr(quality, "DRAWS", 2)


def ask(desk, cohort: UUID, **more: Any) -> Row:
    body = {"cohort": {"generation": str(cohort)}} | more
    answer = desk.post("/qualities", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"/qualities/{answer.json()['id']}"
    return answer.json()


def done(desk, look, asked: Row) -> Row:
    look()
    view = desk.get(f"/qualities/{asked['id']}").json()
    assert view["job"]["state"] == "succeeded", view
    assert view["job"]["done"] == view["job"]["total"]
    return view["result"]


def test_real_images_are_near_and_others_are_not(desk, look, hospital, cohort_of, rows_of) -> None:
    """Other patients of the same hospital as a cohort, and those of another one."""
    here, alike = hospital(patients=60, seed=1), hospital(patients=60, seed=2)
    other = hospital("phantom-b", patients=60, seed=2)
    asked = ask(desk, cohort_of(here, rows_of(alike)))
    assert asked["request"]["reference"] == {"data": {"dataset": str(here)}, "split": "all"}
    near = done(desk, look, asked)
    far = done(desk, look, ask(desk, cohort_of(here, rows_of(other))))
    assert near["reference"]["patients"] == 60
    assert near["images_measured"] == [near["cohort"]["images"], near["reference"]["images"]]
    names = [d["features"]["name"] for d in near["distances"]]
    assert names == ["descriptors", "grey-levels", "texture"]
    for told in near["distances"]:
        assert told["frechet"]["cohort"]["value"] < 1.5 * told["frechet"]["floor"]["value"]
        assert told["images"] < near["reference"]["images"] / 2 + 10
    levels, theirs = near["distances"][1], far["distances"][1]
    assert theirs["frechet"]["cohort"]["value"] > 1.3 * levels["frechet"]["cohort"]["value"]
    assert theirs["kernel"]["cohort"]["value"] > levels["kernel"]["cohort"]["value"]
    assert near["diversity"]["scales"] == 3
    bounds = near["diversity"]["difference"]
    assert bounds["low"] < 0.05
    assert bounds["high"] > -0.05


def test_blur_shows_in_the_texture(desk, look, hospital, cohort_of, rows_of, adapters, ada) -> None:
    here, alike = hospital(patients=60, seed=1), hospital(patients=60, seed=2)
    blurred = []
    for n, row in enumerate(rows_of(alike)):
        with Image.open(io.BytesIO(adapters.store.get(row["image_key"]))) as image:
            softer = image.convert("L").filter(ImageFilter.GaussianBlur(1))
        sink = io.BytesIO()
        softer.save(sink, "PNG")
        key = f"projects/{ada.caller.project}/test/{n}.png"
        adapters.store.put(key, sink.getvalue())
        blurred.append(row | {"image_key": key, "image_sha256": sha256(sink.getvalue())})
    *others, told = done(desk, look, ask(desk, cohort_of(here, blurred)))["distances"]
    for each in others:
        assert each["frechet"]["cohort"]["value"] < 1.5 * each["frechet"]["floor"]["value"]
    assert told["frechet"]["cohort"]["value"] > 3 * told["frechet"]["floor"]["value"]
    assert told["kernel"]["cohort"]["value"] > 5 * told["kernel"]["cohort"]["error"]


@pytest.mark.usefixtures("few_draws")
def test_a_cohort_of_one_picture_has_no_diversity(desk, look, hospital, cohort_of, rows_of) -> None:
    here = hospital(patients=60)
    rows = rows_of(here)
    picture = {k: rows[0][k] for k in ("image_key", "image_sha256", "pixel_sha256")}
    told = done(desk, look, ask(desk, cohort_of(here, [row | picture for row in rows])))
    assert told["diversity"]["cohort"]["value"] == pytest.approx(1)
    assert told["diversity"]["reference"]["value"] < 0.99
    assert told["diversity"]["pairs"] > 0


@pytest.mark.usefixtures("few_draws")
def test_the_page_shows_the_likest_pairs(desk, look, hospital, cohort_of, rows_of, shelf) -> None:
    here = hospital()
    rows = rows_of(here)
    seen = Screening(state="screened", flagged=1)
    cohort = cohort_of(here, rows, screening=seen, name="<b>mine</b>")
    shelf.neighbours[cohort] = [
        Neighbour(index=n, sample_id=f"synthetic-{n}", likeness=like, nearest=near, url="u")
        for n, (like, near) in enumerate([(0.93217, rows[0]["sample_id"]), (0.5, "withdrawn")])
    ]
    asked = ask(desk, cohort)
    assert desk.get(f"/qualities/{asked['id']}/page").status_code == 409
    done(desk, look, asked)
    answer = desk.get(f"/qualities/{asked['id']}/page")
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "script" not in answer.headers["Content-Security-Policy"]
    page = answer.text
    assert page.count("data:image/png;base64,") == 3  # a neighbour is gone
    assert page.index("0.9322") < page.index("0.5000")
    assert "1 image was withheld" in page
    assert "These are phantoms" in page
    assert "not comparable with published FID" in page
    assert "mostly its own bias" in page
    assert "&lt;b&gt;mine" in page
    assert "<b>mine" not in page
    assert not any(row["patient_id"] in page for row in rows)
    assert "changed since" not in page
    caller, view, table = shelf.cohorts[cohort]
    manifest = view.manifest.model_copy(update={"digest": "9" * 64})
    shelf.cohorts[cohort] = (caller, view.model_copy(update={"manifest": manifest}), table)
    assert "changed since" in desk.get(f"/qualities/{asked['id']}/page").text


@pytest.mark.usefixtures("few_draws")
def test_the_page_names_a_withdrawal(
    desk, look, hospital, cohort_of, rows_of, shelf, registry
) -> None:
    here = hospital()
    cohort = cohort_of(here, rows_of(here))
    asked = ask(desk, cohort)
    done(desk, look, asked)
    where = f"/qualities/{asked['id']}/page"
    before = desk.get(where).text
    assert "withdrawn" not in before
    assert "have changed since" not in before
    registry.post("/withdrawals", json={"patients": [rows_of(here)[0]["patient_id"]]})
    registry.work()
    caller, view, table = shelf.cohorts[cohort]
    for flag, said in (
        (WITHDRAWN, "A patient has been withdrawn from the data that this cohort was made of"),
        (UNCHECKED, "could not be asked just now"),
    ):
        shelf.cohorts[cohort] = (caller, view.model_copy(update={"flags": [flag]}), table)
        page = desk.get(where).text
        assert said in page
        assert "The real images have changed since" in page


@pytest.mark.usefixtures("few_draws")
def test_an_unscreened_cohort_says_so(desk, look, hospital, cohort_of, rows_of) -> None:
    here = hospital()
    told = Screening(reason="asked for without")
    asked = ask(desk, cohort_of(here, rows_of(here), screening=told))
    done(desk, look, asked)
    page = desk.get(f"/qualities/{asked['id']}/page").text
    assert "This cohort is unscreened" in page
    assert "(asked for without)" in page
    assert "data:image" not in page


def test_what_cannot_be_measured_is_refused(desk, hospital, cohort_of, rows_of) -> None:
    here = hospital()
    rows = rows_of(here)

    def refused(cohort: UUID, **more: Any) -> tuple[int, str, str]:
        answer = desk.post("/qualities", json={"cohort": {"generation": str(cohort)}} | more)
        told = answer.json()
        return answer.status_code, told["type"].split(":")[-1], told["field"]

    assert refused(uuid4()) == (404, "data-unknown", "cohort")
    assert refused(cohort_of(here, rows[:5])) == (422, "too-few-to-measure", "cohort")
    assert refused(cohort_of(None, rows)) == (422, "reference-missing", "reference")
    good = cohort_of(here, rows)
    small = {"data": {"dataset": str(here)}, "split": "test"}
    assert refused(good, reference=small) == (422, "too-few-to-measure", "reference")
    gone = {"data": {"dataset": str(uuid4())}}
    assert refused(good, reference=gone) == (404, "data-unknown", "reference")


def test_a_damaged_image_fails_it_and_is_named(
    desk, look, hospital, cohort_of, rows_of, adapters
) -> None:
    here = hospital()
    rows = rows_of(here)
    asked = ask(desk, cohort_of(here, rows))
    adapters.store.put(rows[2]["image_key"], b"something else")
    look()
    job = desk.get(f"/qualities/{asked['id']}").json()["job"]
    assert job["state"] == JobState.FAILED
    assert job["problem"]["type"].endswith("image-damaged")


@pytest.mark.usefixtures("few_draws")
def test_the_same_question_gets_the_same_numbers(desk, look, hospital, cohort_of, rows_of) -> None:
    here = hospital()
    cohort = cohort_of(here, rows_of(here))
    first, again, other = (ask(desk, cohort, seed=seed) for seed in (1, 1, 2))
    told = [done(desk, look, each) for each in (first, again, other)]
    assert told[0] == told[1] != told[2]


def test_qualities_belong_to_their_project(
    desk, hospital, cohort_of, rows_of, part, browse, stranger
) -> None:
    here = hospital()
    asked = ask(desk, cohort_of(here, rows_of(here)))
    elsewhere = browse(part.router, member=stranger)
    assert elsewhere.get(f"/qualities/{asked['id']}").status_code == 404
    assert elsewhere.get(f"/qualities/{asked['id']}/page").status_code == 404
    assert elsewhere.get("/qualities").json()["items"] == []
    assert [q["id"] for q in desk.get("/qualities").json()["items"]] == [asked["id"]]


@pytest.mark.usefixtures("few_draws")
def test_more_images_than_are_read_are_drawn_by_patient(
    desk, look, hospital, cohort_of, rows_of, monkeypatch
) -> None:
    monkeypatch.setattr("services.evaluation.service.measuring.MOST", (25, 50))
    here = hospital()
    told = done(desk, look, ask(desk, cohort_of(here, rows_of(here))))
    read = np.array(told["images_measured"])
    assert read[0] == 25
    assert 40 < read[1] <= 50


# ------------------------------------------------------------- a cohort in the making


@pytest.mark.usefixtures("few_draws")
def test_a_cohort_in_the_making_is_waited_for(
    desk, look, hospital, cohort_of, rows_of, rendering
) -> None:
    here = hospital()
    cohort = cohort_of(here, rows_of(here))
    rendering.begin(cohort)
    asked = ask(desk, cohort)
    assert asked["job"]["state"] == "blocked"
    assert look() == 0
    rendering.end(cohort)
    assert done(desk, look, asked)["cohort"]["images"] == len(rows_of(here))


def test_a_cohort_that_fails_ends_the_measurement_with_its_reason(
    desk, hospital, cohort_of, rows_of, rendering
) -> None:
    here = hospital()
    cohort = cohort_of(here, rows_of(here))
    rendering.begin(cohort)
    asked = ask(desk, cohort)
    rendering.end(cohort, Unprocessable("Nobody is 119 years old"))
    job = desk.get(f"/qualities/{asked['id']}").json()["job"]
    assert (job["state"], job["problem"]["type"].split(":")[-1]) == ("failed", "dependency-failed")
    assert job["problem"]["detail"] == "Generate has failed: Nobody is 119 years old"
    assert job["problem"]["resource"] == str(cohort)


def test_what_a_cohort_in_the_making_cannot_be_is_refused_at_once(
    desk, hospital, cohort_of, rows_of, rendering
) -> None:
    """It was ordered too small; and nothing was made from it that could be compared."""
    here = hospital()
    cohort = cohort_of(here, rows_of(here))

    def refused(**more: Any) -> tuple[int, str, str]:
        body = {"cohort": {"generation": str(cohort)}} | more
        told = desk.post("/qualities", json=body).json()
        return told["status"], told["type"].split(":")[-1], told["field"]

    rendering.begin(cohort, images=19)
    assert refused() == (422, "too-few-to-measure", "cohort")
    rendering.begin(cohort)
    agreement = {"cohort": str(uuid4())}
    assert refused(agreement=agreement) == (409, "data-not-ready", "cohort")
    small = {"data": {"dataset": str(here)}, "split": "test"}
    assert refused(reference=small) == (422, "too-few-to-measure", "reference")


def test_what_only_the_finished_cohort_shows_fails_the_measurement(
    desk, look, hospital, cohort_of, rows_of, rendering
) -> None:
    """All but 19 of its images were withheld."""
    here = hospital()
    cohort = cohort_of(here, rows_of(here)[:19])
    rendering.begin(cohort)
    asked = ask(desk, cohort)
    rendering.end(cohort)
    look()
    problem = desk.get(f"/qualities/{asked['id']}").json()["job"]["problem"]
    assert problem["type"].endswith("too-few-to-measure")
    assert (problem["field"], problem["accepted"]) == ("cohort", 20)
