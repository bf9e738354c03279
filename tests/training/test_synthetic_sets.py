"""Datasets whose images say that they are synthetic: told wherever a reader expects patients."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from api_schemas.base import DatasetRef
from api_schemas.datasets import DatasetKind
from api_schemas.provenance import ImageOrigins
from tests.training.conftest import HELD, SIZE_PX, TRAIN, image_table
from tests.training.test_experiments import ref


def origins(count: int, *generators: UUID, images: int | None = None) -> ImageOrigins:
    """All synthetic, by these generators; without one, by none that is named."""
    return ImageOrigins(
        images=images or count,
        synthetic=count,
        drawn=0,
        phantom=0,
        generators=list(generators),
        generators_unnamed=0 if generators else count,
    )


@pytest.fixture
def theirs(shelf, adapters):
    """A dataset of images that say that they are synthetic: `theirs("test", generator)`."""

    def make(
        split: str, *generators: UUID, kind: DatasetKind = DatasetKind.SYNTHETIC
    ) -> DatasetRef:
        name = f"theirs-{uuid4().hex[:4]}"
        count = TRAIN if split == "train" else HELD
        table = image_table(adapters, name, [f"{name}-{i}" for i in range(count)], [split] * count)
        made = origins(count, *generators, images=count + (kind is DatasetKind.MIXED))
        return shelf.add_dataset(table, size_px=SIZE_PX, kind=kind, origins=made)

    return make


def waived(http, body: dict[str, Any]) -> list[str]:
    answer = http.post("/experiments", json=body)
    assert answer.status_code == 202, answer.text
    return answer.json()["waived"]


def test_a_test_set_of_synthetic_images_does_not_pass_in_silence(
    http, body, theirs, verdicts
) -> None:
    body["tests"].append({"name": "theirs", "data": ref(theirs("test"))})
    (said,) = waived(http, body)
    assert said.startswith(f"synthetic: tests.1 holds synthetic images ({HELD} of {HELD})")
    assert verdicts.plans[-1].waived == [said]


def test_a_test_set_that_mixes_real_and_synthetic_says_how_many(http, body, theirs) -> None:
    mixed = theirs("test", kind=DatasetKind.MIXED)
    body["tests"] = [{"name": "theirs", "data": ref(mixed)}]
    (said,) = waived(http, body)
    assert said.startswith(f"synthetic: tests.0 holds synthetic images ({HELD} of {HELD + 1})")


def test_a_synthetic_dataset_is_counted_like_a_cohort_and_never_repeated(
    http, body, theirs, verdicts
) -> None:
    body["preset"] |= {"synthetic": ref(theirs("train")), "ratios": [0.5, 1]}
    assert http.post("/experiments", json=body).status_code == 202
    assert {arm.name: arm.dose for arm in verdicts.plans[-1].arms} == {
        "real": 0,
        "real_equal_steps": 0,
        "real+50%": 0.5,
        "real+100%": 1,
        "synthetic_only": None,
        "shuffled": None,
    }
    body["preset"]["ratios"] = [3.2]
    for dry in (True, False):
        answer = http.post("/experiments", json=body | {"dry_run": dry})
        problem = answer.json()
        assert (answer.status_code, problem["field"]) == (422, "preset.synthetic")
        assert problem["type"].endswith("cohort-too-small")
        assert problem["accepted"] == TRAIN
        assert "the largest multiple is 1" in problem["detail"]


def test_arms_given_one_by_one_know_a_synthetic_dataset_by_its_kind(
    http, body, theirs, verdicts
) -> None:
    real, made = body.pop("preset")["real"], ref(theirs("train"))
    real, made = ({"sources": [{"data": each}]} for each in (real, made))
    both = {"sources": [*real["sources"], *made["sources"]]}
    arms = {"real": [real], "both": [both], "first": [made, real], "only": [made]}
    body |= {"arms": [{"name": name, "stages": stages} for name, stages in arms.items()]}
    body |= {"plan": {"reference": "real", "primary": "both"}}
    assert http.post("/experiments", json=body).status_code == 202
    doses = {arm.name: arm.dose for arm in verdicts.plans[-1].arms}
    assert doses == {"real": 0, "both": 1, "first": None, "only": None}


def test_a_cohort_as_a_test_set_says_so_too(http, body, shelf, cohort_table) -> None:
    other = shelf.add_cohort(cohort_table, size_px=SIZE_PX)
    body["preset"]["synthetic"] = ref(shelf.add_cohort(cohort_table, size_px=SIZE_PX))
    body["tests"].append({"name": "cohort", "data": ref(other), "split": "train"})
    answer = http.post("/experiments", json=body)
    assert answer.status_code == 409  # its patients are those that are trained on
    body["validation"]["split"] = "test"
    body["tests"] = [{"name": "real", "data": body["preset"]["real"], "split": "validation"}]
    assert waived(http, body) == []


def test_a_test_set_whose_generator_shares_the_trained_patients_is_told(
    http, body, shelf, adapters
) -> None:
    said: dict[str, list[str]] = {}
    for name, saw in (("shares", ["real-0", "new"]), ("strange", ["new"])):
        table = image_table(adapters, name, [f"{name}-{i}" for i in range(HELD)], ["test"] * HELD)
        made = shelf.add_cohort(table, saw=saw, size_px=SIZE_PX)
        tests = [{"name": name, "data": ref(made)}]
        said[name] = waived(http, body | {"tests": tests})
    (shared,) = [each for each in said["shares"] if each.startswith("generator: ")]
    assert shared.startswith("generator: tests.0 was made by generator")
    assert "trained on 1 of the patients whom the classifiers are trained on" in shared
    assert not [each for each in said["strange"] if each.startswith("generator: ")]


def test_synthetic_images_in_the_place_of_real_ones_are_told(http, body, theirs) -> None:
    body["preset"]["real"] = ref(theirs("train"))
    said = waived(http, body)
    assert any(word.startswith("synthetic: preset.real holds synthetic images") for word in said)
    assert any(word.startswith("origin: preset.real was made elsewhere") for word in said)


def test_arms_given_one_by_one_say_it_as_presets_do(http, body, theirs) -> None:
    synthetic = ref(theirs("train"))
    body["arms"] = [
        {"name": name, "stages": [{"sources": [{"data": data}]}]}
        for name, data in (("real", body.pop("preset")["real"]), ("theirs", synthetic))
    ]
    body["plan"] = {"reference": "real", "primary": "theirs"}
    (said,) = waived(http, body)
    assert said.startswith("origin: arms.1.stages.0.sources.0.data was made elsewhere")


def test_a_generator_that_the_images_name_is_asked_whom_it_saw(http, body, theirs, shelf) -> None:
    def named(*saw: str) -> dict[str, Any]:
        cohort = shelf.add_cohort(shelf.tables[UUID(body["preset"]["real"]["dataset"])], saw=saw)
        generator = shelf.views[cohort.generation]().generator
        return body | {"preset": body["preset"] | {"synthetic": ref(theirs("train", generator))}}

    ratio = {"ratios": [1]}
    known = named("real-0")
    known["preset"] |= ratio
    assert waived(http, known) == []
    leaking = named(f"real-{TRAIN + HELD}")
    leaking["preset"] |= ratio
    answer = http.post("/experiments", json=leaking)
    assert (answer.status_code, answer.json()["field"]) == (409, "tests.0")
    assert "saw 1 of the" in answer.json()["detail"]


def test_a_generator_of_elsewhere_is_unknown_and_told(http, body, theirs) -> None:
    body["preset"] |= {"synthetic": ref(theirs("train", uuid4())), "ratios": [1]}
    (said,) = waived(http, body)
    assert said.startswith("origin: preset.synthetic was made elsewhere")


def test_a_source_is_refused_where_it_names_a_site_or_fold_that_is_not_there(
    http, body, cohort
) -> None:
    real = body.pop("preset")["real"]
    for where, field in (({"fold": [0, 9]}, "fold"), ({"site": ["nowhere"]}, "site")):
        body["arms"] = [
            {"name": "real", "stages": [{"sources": [{"data": real}]}]},
            {
                "name": "both",
                "stages": [
                    {"sources": [{"data": real, "where": where}, {"data": ref(cohort)}]},
                ],
            },
        ]
        body["plan"] = {"reference": "real", "primary": "both"}
        answer = http.post("/experiments", json=body)
        place = f"arms.1.stages.0.sources.0.where.{field}"
        assert (answer.status_code, answer.json()["field"]) == (422, place)
