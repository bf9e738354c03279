"""One rare label takes no answer away; which labels are averaged follows from the truth alone."""

import numpy as np
import pytest

from api_schemas.base import DatasetRef
from api_schemas.evaluation import MACRO, PlannedArm, PlannedTest, PlanPost
from services.evaluation.statistics.analysis import comparisons, estimate, result_rows
from services.evaluation.statistics.averaged import averaged_over, complements
from services.evaluation.statistics.cases import Cases
from services.evaluation.statistics.inference import auroc_inference, difference_inference
from services.evaluation.statistics.influence import auroc
from services.evaluation.statistics.judgement import judge
from services.evaluation.statistics.predictions import Predictions
from services.evaluation.statistics.shares import Sample, share_of

LABELS = ("Edema", "Fracture", "Pneumonia")
PATIENTS = 60


def cases_of(rare: int, seed: int = 1) -> Cases:
    """60 patients with an image each; `rare` of them have a fracture."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((PATIENTS, 3)) < 0.4).astype(np.int8)
    truth[:, 1] = np.arange(PATIENTS) < rare
    return Cases.of(LABELS, truth, [f"p{i}" for i in range(PATIENTS)])


def scores_of(cases: Cases, arm: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng([arm, seed]).normal(size=cases.truth.shape)
    return 1.2 * cases.truth + noise


def plan_of(tests: list[str], **changes: object) -> PlanPost:
    data = DatasetRef(dataset="00000000-0000-0000-0000-000000000002")
    return PlanPost(
        experiment="00000000-0000-0000-0000-000000000001",
        name="rare",
        arms=[PlannedArm(name="real"), PlannedArm(name="more")],
        seeds=[0, 1, 2],
        tests=[PlannedTest(name=t, data=data, split="test") for t in tests],
        reference="real",
        primary="more",
        margin=0.01,
        **changes,
    )


def analysed(plan: PlanPost, tests: dict[str, Cases]) -> tuple[list, list]:
    """Comparisons and result rows, with the mean that the plan registers."""
    mean = averaged_over(tests, plan.averaged, plan.fewest_patients)
    found = []
    for name, cases in tests.items():
        over = Cases(cases.labels, cases.truth, cases.patient, cases.G, mean.labels)

        def scores(arm: str, seed: int, over: Cases = over) -> np.ndarray:
            return scores_of(over, ["real", "more"].index(arm), seed)

        found.append(estimate(plan, name, over, scores))
    return comparisons(plan, found, left_out=mean.left_out), result_rows(plan, found)


@pytest.mark.parametrize("rare", [0, 1])
def test_one_rare_label_takes_no_answer_away(rare: int) -> None:
    asked, rows = analysed(plan_of(["far"]), {"far": cases_of(rare)})
    (answer,) = asked
    assert None not in (answer.difference, answer.low, answer.high, answer.p)
    assert answer.averaged == ["Edema", "Pneumonia"]
    assert answer.left_out == {"Fracture": f"{rare} patient{'s' * (rare != 1)} with it on far"}
    assert "fewer_labels" in answer.flags
    (macro,) = [r for r in rows if r.label == MACRO and r.arm == "more"]
    each = [r.auroc for r in rows if r.arm == "more" and r.label in answer.averaged]
    assert macro.auroc == pytest.approx(np.mean(each))


def test_the_mean_is_over_the_same_labels_on_every_test_set() -> None:
    tests = {"near": cases_of(20), "far": cases_of(1)}
    asked, _ = analysed(plan_of(["near", "far"]), tests)
    assert [a.averaged for a in asked] == [["Edema", "Pneumonia"]] * 2
    many, _ = analysed(plan_of(["near"]), {"near": tests["near"]})
    assert many[0].averaged == list(LABELS)
    assert (many[0].left_out, "fewer_labels" in many[0].flags) == ({}, False)


def test_a_test_set_without_any_label_takes_none_from_the_others() -> None:
    nothing = Cases.of(LABELS, np.zeros((PATIENTS, 3), np.int8), [f"p{i}" for i in range(PATIENTS)])
    asked, _ = analysed(plan_of(["near", "empty"]), {"near": cases_of(20), "empty": nothing})
    assert [a.averaged for a in asked] == [list(LABELS)] * 2
    assert (asked[0].left_out, asked[1].verdict) == ({}, "not_estimable")
    assert None not in (asked[0].low, asked[0].p)


def test_what_is_averaged_can_be_asked_for() -> None:
    asked, _ = analysed(plan_of(["far"], averaged=["Pneumonia"]), {"far": cases_of(20)})
    assert asked[0].averaged == ["Pneumonia"]
    assert asked[0].left_out == {"Edema": "not asked for", "Fracture": "not asked for"}
    assert "fewer_labels" not in asked[0].flags
    strict, _ = analysed(plan_of(["far"], fewest_patients=21), {"far": cases_of(20)})
    assert "20 patients with it on far" in strict[0].left_out["Fracture"]


def test_without_any_label_nothing_is_estimated_and_that_is_said() -> None:
    asked, _ = analysed(plan_of(["far"], averaged=["Fracture"]), {"far": cases_of(1)})
    assert (asked[0].averaged, asked[0].verdict) == ([], "not_estimable")
    assert asked[0].left_out["Fracture"] == "1 patient with it on far"


def test_an_evaluation_of_ones_own_keeps_its_mean_too() -> None:
    cases = cases_of(1)
    names = np.array([f"s{i:02}" for i in range(PATIENTS)])
    ours, theirs = (
        Predictions(LABELS, names, names, cases.truth, scores_of(cases, arm, 0)) for arm in (0, 1)
    )
    found = judge(ours, theirs, {})
    assert found.labels == ("Edema", "Pneumonia")
    macro = next(row for row in found.rows if row.label == MACRO)
    assert None not in (macro.low, macro.high, macro.difference_low, macro.p)


def test_complementary_labels_are_found() -> None:
    cases = cases_of(20)
    truth = cases.truth.copy()
    truth[:, 2] = 1 - truth[:, 0]
    twice = Cases.of(LABELS, truth, [f"p{i}" for i in range(PATIENTS)])
    assert complements(twice, LABELS) == [("Edema", "Pneumonia")]
    assert complements(twice, ["Edema", "Fracture"]) == []
    assert complements(cases, LABELS) == []
    truth[0, 2] = -1
    other = Cases.of(LABELS, truth, [f"p{i}" for i in range(PATIENTS)])
    assert complements(other, LABELS) == []


def test_two_patients_give_an_interval_that_says_something() -> None:
    y = np.array([1, 1, *[0] * 24])
    s = np.array([30.0, 12.5, *range(24)])
    cases = Cases.of(["x"], y[:, None].astype(np.int8), [f"p{i}" for i in range(26)])
    found = auroc_inference(auroc(cases.by_label[0], s))
    assert found.nu is not None
    assert found.nu < 2
    assert found.low > 0.05
    assert found.high < 1 - 1e-6


def test_an_interval_that_holds_everything_is_none() -> None:
    y = np.array([1, 1, *[0] * 24])
    cases = Cases.of(["x"], y[:, None].astype(np.int8), [f"p{i}" for i in range(26)])
    first, second = (
        auroc(cases.by_label[0], np.array([a, b, *range(24)], float))
        for a, b in ((30.0, 2.5), (2.5, 30.0))
    )
    found = difference_inference(first - second)
    assert (found.low, found.high, found.p) == (None, None, None)


def test_a_share_with_one_image_a_patient_has_exact_limits() -> None:
    """Clopper and Pearson's for 2 of 26: .0095 to .2513."""
    made = share_of(Sample(np.arange(26), 26), np.arange(26) < 2, np.ones(26, bool))
    assert made.limits == pytest.approx((0.0095, 0.2513), abs=5e-5)
    doubled = Sample(np.repeat(np.arange(26), 2), 26)
    again = share_of(doubled, np.repeat(np.arange(26) < 2, 2), np.ones(52, bool))
    assert again.limits == pytest.approx(made.limits)
