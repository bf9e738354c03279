"""The plan before it runs: what it would train, what it could show, how long it would take."""

from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from scipy.special import stdtr
from sqlalchemy import text

from api_schemas.base import JobState
from api_schemas.findings import Finding
from api_schemas.planning import LabelCounts, PowerAssumptions
from services.evaluation.statistics import inference
from services.training.classifier.engine import ClassifierEngine
from services.training.service.calibrating import VALIDATED, Calibrate, speed_of
from services.training.service.counting import TestCounts, averaged
from services.training.service.power import (
    FEWEST_PATIENTS,
    hanley_mcneil,
    mean_variance,
    no_verdict,
    smallest_difference,
)
from tests.training.conftest import HELD
from tests.training.standins import StubEngine, job_view


def plan(http, body: dict[str, Any]) -> dict[str, Any]:
    answer = http.post("/experiments", json={**body, "dry_run": True})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
def calibrate(work, tmp_path):
    def run(engine) -> int:
        handler = Calibrate(engine, device="a machine", scratch=tmp_path / "calibrating")
        return work("training", "training", {"calibrate": handler})

    return run


def test_a_dry_run_shows_what_would_be_made_and_makes_nothing(http, body, verdicts) -> None:
    shown = plan(http, body)
    assert http.get("/experiments").json()["items"] == []
    assert verdicts.plans == []
    made = http.post("/experiments", json=body).json()
    arms = http.get(f"/experiments/{made['id']}/arms").json()
    for field in ("arm", "images", "steps"):
        assert [a[field] for a in shown["arms"]] == [a[field] for a in arms]
    assert [a["dose"] for a in shown["arms"]] == [0, 0, 1, 3, None, None]
    assert (shown["runs"], shown["total_steps"]) == (12, made["job"]["total"])
    assert (shown["reference"], shown["primary"]) == ("real_equal_steps", "real+300%")
    for field in ("labels", "left_out", "not_estimable", "waived"):
        assert shown[field] == made[field]
    (test,) = shown["tests"]
    assert (test["name"], test["images"], test["patients"]) == ("internal", HELD, HELD)
    assert [(c["label"], c["positives"], c["negatives"]) for c in test["labels"]] == [
        ("Fracture", 3, 5),
        ("Edema", 4, 4),
    ]
    assert test["smallest_difference"] is None  # eight patients show nothing


def test_a_dry_run_names_every_contrast_and_the_plan_registers_it(http, body, verdicts) -> None:
    body["preset"] |= {"ratios": [1], "real_fractions": [0.5, 1]}
    asked = {"arm": "synthetic_only", "reference": "real", "kind": "noninferiority", "margin": 0.01}
    body["plan"] = {"questions": [asked]}
    shown = plan(http, body)
    control, own = "exploratory, real_equal_steps", "exploratory, 50%-real_equal_steps"
    assert [(c["arm"], c["reference"], c["family"]) for c in shown["contrasts"]] == [
        ("real", "real_equal_steps", control),
        ("real+100%", "real_equal_steps", "primary"),
        ("synthetic_only", "real_equal_steps", control),
        ("shuffled", "real_equal_steps", control),
        ("50%-real", "50%-real_equal_steps", own),
        ("50%-real+100%", "50%-real_equal_steps", own),
        ("synthetic_only", "real", "registered"),
    ]
    assert http.post("/experiments", json=body).status_code == 202
    (registered,) = verdicts.plans
    named = {arm.name: arm.reference for arm in registered.arms}
    assert named["50%-real+100%"] == named["50%-real_equal_steps"] == "50%-real_equal_steps"
    assert [q.model_dump() for q in registered.questions] == [asked]
    body["plan"]["questions"][0]["arm"] = "nobody"
    for dry in (True, False):
        answer = http.post("/experiments", json={**body, "dry_run": dry})
        assert (answer.status_code, answer.json()["field"]) == (422, "plan.questions.0.arm")


def one_by_one(body, where: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A study of an arm that takes some of the real images, against one that takes all."""
    preset = body.pop("preset")
    whole, some = {"data": preset["real"]}, {"data": preset["real"], **where}
    arms = [
        {"name": "all", "stages": [{"sources": [whole]}]},
        {"name": "some", "stages": [{"sources": [some]}]},
    ]
    return {**body, "arms": arms, "plan": {"reference": "all", "primary": "some"}, **more}


def test_a_label_is_judged_on_what_an_arm_leaves_of_its_sources(http, body) -> None:
    shown = plan(http, one_by_one(body, {"where": {"present": ["Fracture"]}}))
    assert shown["labels"] == ["Edema"]
    reason = "arm 'some' has no image without it, under the label policy"
    assert shown["left_out"]["Fracture"] == reason


def test_a_named_label_of_one_class_in_an_arm_is_told_by_the_plan(http, body, verdicts) -> None:
    asked = one_by_one(body, {"where": {"present": ["Fracture"]}}, labels=["Edema", "Fracture"])
    told = "training: the images of 'some' have only one class of Fracture: what it says of that"
    assert any(word.startswith(told) for word in plan(http, asked)["waived"])
    assert http.post("/experiments", json=asked).status_code == 202
    assert any(word.startswith(told) for word in verdicts.plans[0].waived)


def test_an_arm_that_can_learn_nothing_is_refused(http, body) -> None:
    asked = one_by_one(body, {"where": {"present": ["Fracture"]}}, labels=["Fracture"])
    for dry in (True, False):
        answer = http.post("/experiments", json={**asked, "dry_run": dry})
        assert answer.status_code == 422, answer.text
        assert answer.json()["field"] == "arms.1"
        assert answer.json()["accepted"] == ["Edema"]


def test_an_arm_of_a_handful_of_patients_is_told_by_the_plan(http, body) -> None:
    shown = plan(http, one_by_one(body, {"fraction": 0.3}))
    assert "training: 'some' has 4 real images of 4 patients" in shown["waived"]


def test_labels_that_are_left_out_have_their_reason(http, body) -> None:
    left_out = plan(http, body)["left_out"]
    assert len(left_out) == 12
    assert left_out["Pneumonia"] == "preset.real has no image with it"


def test_a_dry_run_refuses_what_would_be_refused(http, body) -> None:
    body["preset"]["ratios"] = [1, 4]
    dry = http.post("/experiments", json={**body, "dry_run": True})
    assert dry.status_code == 422
    assert dry.json() == http.post("/experiments", json=body).json()


def test_a_dry_run_looks_for_what_it_extends(http, body) -> None:
    for dry in (True, False):
        answer = http.post("/experiments", json={**body, "dry_run": dry, "extends": str(uuid4())})
        assert (answer.status_code, answer.json()["field"]) == (404, "extends")


def test_of_data_in_the_making_only_the_arms_are_known(http, body, shelf, cohort_table) -> None:
    job = job_view(JobState.RUNNING)
    body["preset"]["synthetic"] = shelf.add_cohort(cohort_table, job=job, size_px=16).model_dump(
        mode="json"
    )
    shown = plan(http, body)
    assert shown["waits_for"] == [str(job.id)]
    assert {a["steps"] for a in shown["arms"]} == {None}
    assert (shown["tests"], shown["estimate"], shown["calibration"]) == ([], None, None)


# ---------------------------------------------------------------- how long


def test_speed_is_measured_once_and_serves_all(http, body, calibrate, adapters) -> None:
    first = plan(http, body)
    assert first["estimate"] is None
    assert first["calibration"]["state"] == "queued"
    assert plan(http, body)["calibration"]["id"] == first["calibration"]["id"]
    assert calibrate(ClassifierEngine("cpu", threads=1)) == 1
    second = plan(http, body)
    assert second["calibration"] is None
    estimate = second["estimate"]
    assert estimate["device"] == "a machine"
    assert estimate["seconds_per_step"] > 0
    assert estimate["device_hours"] * 3600 > second["total_steps"] * estimate["seconds_per_step"]
    more = plan(http, {**body, "seeds": [1, 2, 3, 4]})["estimate"]["device_hours"]
    assert more == pytest.approx(2 * estimate["device_hours"])
    other = plan(http, {**body, "classifier": {"batch_size": 4}})
    assert other["calibration"]["state"] == "queued"


def test_what_was_trained_before_takes_no_hours(http, body, calibrate, work, handler) -> None:
    plan(http, body)
    calibrate(ClassifierEngine("cpu", threads=1))
    http.post("/experiments", json=body)
    work("training", "training", {"experiment": handler(StubEngine())})

    def hours(seeds: list[int]) -> float:
        return plan(http, {**body, "seeds": seeds})["estimate"]["device_hours"]

    assert hours([1, 2]) > 0
    assert hours([*body["seeds"], 2]) == pytest.approx(hours([2, 3]) / 2)
    assert hours(body["seeds"]) == 0


def test_a_calibration_that_failed_is_not_asked_for_at_once(http, body, calibrate) -> None:
    plan(http, body)
    calibrate(StubEngine(breaks=True))
    failed = plan(http, body)
    assert (failed["estimate"], failed["calibration"]["state"]) == (None, "failed")


def test_a_speed_is_read_off_the_ends_of_steps() -> None:
    ends = [10.0, 15.0, 18.0, 19.0, 20.0, 21.0]  # begun at 10; the first steps are slow
    speed = speed_of(ends[0], ends[1:], 22.0 + VALIDATED * 0.01)
    assert (speed.step_s, speed.setup_s) == (1.0, 4.0)
    assert speed.image_s == pytest.approx(0.01)


# ---------------------------------------------------------------- what can be shown


def test_the_variance_is_that_of_exponential_scores() -> None:
    """The model behind Q1 and Q2: A is then s / (1 + s), with s the ratio of the means."""
    rng = np.random.default_rng(0)
    positive = rng.exponential(4.0, (8000, 12, 1))
    negative = rng.exponential(1.0, (8000, 1, 30))
    areas = (positive > negative).mean(axis=(1, 2))
    assert areas.mean() == pytest.approx(0.8, abs=0.005)
    assert areas.var() == pytest.approx(hanley_mcneil(0.8, 12, 30), rel=0.05)


def counts(*patients: tuple[int, int]) -> list[LabelCounts]:
    return [
        LabelCounts(
            label=label,
            positives=n1,
            negatives=n0,
            positive_patients=n1,
            negative_patients=n0,
            estimable=n1 > 0 and n0 > 0,
        )
        for label, (n1, n0) in zip(Finding, patients, strict=False)
    ]


def test_more_patients_seeds_and_labels_show_smaller_differences() -> None:
    assumed = PowerAssumptions()
    few = smallest_difference(counts((20, 80)), 5, assumed)
    assert few[0] < few[1]
    assert smallest_difference(counts((200, 800)), 5, assumed)[0] < few[0]
    assert smallest_difference(counts((20, 80)), 50, assumed)[0] < few[0]
    assert smallest_difference(counts((20, 80), (20, 80)), 5, assumed)[0] < few[0]
    assert smallest_difference(counts((20, 80), (0, 100)), 5, assumed) is None  # no mean over both
    assert smallest_difference(counts((0, 100)), 5, assumed) is None


def test_what_is_assumed_is_asked_and_the_test_sets_share_alpha(http, body) -> None:
    assumed = PowerAssumptions()
    label = counts((200, 800))
    one, three = (smallest_difference(label, 5, assumed, tests) for tests in (1, 3))
    shared = assumed.model_copy(update={"alpha": assumed.alpha / 3})
    assert three == smallest_difference(label, 5, shared)
    assert three[0] > one[0]
    noisy = PowerAssumptions(seed_sd=0.2)
    few, many = (smallest_difference(label, seeds, noisy)[0] for seeds in (2, 20))
    assert few > 10 * one[0]
    assert many < few / 4
    body["power"] = {"seed_sd": 0.2}
    assert plan(http, body)["power"] == assumed.model_dump(mode="json") | {"seed_sd": 0.2}
    for wrong in ({"seed_sd": -1}, {"alpha": 0}, {"power": 1}, {"auroc": 0.5}):
        answer = http.post("/experiments", json={**body, "dry_run": True, "power": wrong})
        assert (answer.status_code, answer.json()["field"]) == (422, f"power.{next(iter(wrong))}")


def test_nothing_is_promised_where_there_will_be_no_verdict() -> None:
    """The same bounds as evaluation's: see there for why."""
    assumed = PowerAssumptions()
    assert FEWEST_PATIENTS == inference.FEWEST_FOR_P
    assert smallest_difference(counts((200, 800)), 1, assumed) is None
    assert smallest_difference(counts((FEWEST_PATIENTS - 1, 800)), 5, assumed) is None
    assert smallest_difference(counts((4, 800), (FEWEST_PATIENTS, 800)), 5, assumed) is not None


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("patients", [[(30, 200), (80, 150)], [(4000, 20_000), (9000, 15_000)]])
def test_a_difference_so_large_is_found_eight_times_in_ten(seeds, patients) -> None:
    """Differences drawn with the variance that was assumed, tested as evaluation does: by t, the
    seeds' part of the variance estimated. Test sets where patients and where seeds decide.
    """
    assumed, draws = PowerAssumptions(), 20_000
    labels = counts(*patients)
    shown, _ = smallest_difference(labels, seeds, assumed)
    rho, n = assumed.arms_correlation[1], max(min(pair) for pair in patients)
    variances = [2 * (1 - rho) * hanley_mcneil(0.8, c.positives, c.negatives) for c in labels]
    V = mean_variance(variances, assumed.labels_correlation)  # noqa: N806
    rng = np.random.default_rng(1)
    of_seeds = rng.normal(0, assumed.seed_sd, (draws, seeds))
    D = shown + rng.normal(0, np.sqrt(V), draws) + of_seeds.mean(axis=1)  # noqa: N806
    S = of_seeds.var(axis=1, ddof=1) / seeds  # noqa: N806
    nu = (V + S) / (V / (n - 1) + S / (seeds - 1))
    p = 2 * stdtr(nu, -np.abs(D) / np.sqrt(V + S))
    assert (p < 0.05).mean() == pytest.approx(0.8, abs=0.05 if seeds > 2 else 0.08)


def test_the_mean_of_correlated_quantities() -> None:
    covariance = np.array([[4.0, 1.8], [1.8, 9.0]])  # correlation .3
    assert mean_variance([4, 9], 0.3) == pytest.approx(covariance.mean())


def test_a_measurement_is_kept_with_its_configuration(http, body, calibrate, adapters) -> None:
    plan(http, body)
    calibrate(ClassifierEngine("cpu", threads=1))
    with adapters.db.transaction() as tx:
        (row,) = tx.session.execute(text("SELECT * FROM training.calibrations")).mappings()
    assert row["configuration"]["size_px"] == 16
    assert row["configuration"]["batch_size"] == 8
    assert min(row["setup_s"], row["step_s"], row["image_s"]) >= 0


def counted(test: str, *labels: tuple[Finding, int, int]) -> TestCounts:
    told = [
        LabelCounts(
            label=label,
            positives=n1,
            negatives=n0,
            positive_patients=n1,
            negative_patients=n0,
            estimable=n1 > 0 and n0 > 0,
        )
        for label, n1, n0 in labels
    ]
    return TestCounts(test, 100, 100, told, [])


def test_the_dry_run_says_which_labels_the_mean_is_over() -> None:
    edema, fracture = Finding.EDEMA, Finding.FRACTURE
    near = counted("near", (edema, 20, 80), (fracture, 9, 91))
    far = counted("far", (edema, 20, 80), (fracture, 1, 99))
    empty = counted("empty", (edema, 0, 0), (fracture, 0, 0))
    assert averaged([near], None, 2) == ([edema, fracture], {})
    assert averaged([near, far], None, 2) == ([edema], {fracture: "1 patient with it on far"})
    assert averaged([near, empty], None, 2) == ([edema, fracture], {})
    assert averaged([near], [fracture], 2) == ([fracture], {edema: "not asked for"})
    assert averaged([near], None, 10)[1] == {fracture: "9 patients with it on near"}
    assert no_verdict([], 5) is not None
    assert "one class" in (no_verdict(empty.labels, 5) or "")
