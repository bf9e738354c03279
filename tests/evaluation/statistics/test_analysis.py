"""The registered analysis: what is compared with what, what is flagged, what is withheld."""

import math
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from api_schemas.base import DatasetRef
from api_schemas.evaluation import MACRO, PlannedArm, PlannedTest, PlanPost, ResultRow
from services.evaluation.statistics.analysis import (
    Scores,
    TestEstimates,
    comparisons,
    difference,
    estimate,
    metric_rows,
    result_rows,
    trends,
)
from services.evaluation.statistics.cases import UNKNOWN, Cases
from services.evaluation.statistics.inference import difference_inference, holm

EXPERIMENT = UUID(int=1)
EFFECT = {"real": 0.9, "real_equal_steps": 1.0, "real+100%": 1.3, "real+300%": 1.7, "shuffled": 0.1}


def plan(**changes: Any) -> PlanPost:
    test = PlannedTest(name="internal", data=DatasetRef(dataset=UUID(int=2)), split="test")
    doses = {"real": 0.0, "real+100%": 1.0, "real+300%": 3.0}
    given = {
        "experiment": EXPERIMENT,
        "name": "does it help?",
        "arms": [PlannedArm(name=name, dose=doses.get(name)) for name in EFFECT],
        "seeds": [0, 1, 2, 3, 4],
        "tests": [test, test.model_copy(update={"name": "external"})],
        "reference": "real_equal_steps",
        "primary": "real+300%",
        "margin": 0.005,
    }
    return PlanPost(**(given | changes))


def cases_of() -> Cases:
    rng, patients, labels = np.random.default_rng(0), 200, ("Edema", "Fracture")
    patient = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    truth = (rng.random((patients, len(labels))) < 0.3)[patient].astype(np.int8)
    return Cases(labels, truth, patient, patients)


def scores_of(cases: Cases, effect: dict[str, float] = EFFECT, seed_noise: float = 0.1) -> Scores:
    noise = np.random.default_rng(99).normal(size=cases.truth.shape)

    def scores(arm: str, seed: int) -> np.ndarray:
        rng = np.random.default_rng([list(EFFECT).index(arm), seed])
        return effect[arm] * (cases.truth == 1) + noise + seed_noise * rng.normal(size=noise.shape)

    return scores


def analysed(plan_: PlanPost, cases: Cases, **kinds: Any) -> list[TestEstimates]:
    return [estimate(plan_, t.name, cases, scores_of(cases, **kinds)) for t in plan_.tests]


def row_of(
    rows: list[ResultRow], arm: str, label: str = MACRO, test: str = "internal"
) -> ResultRow:
    return next(r for r in rows if (r.arm, r.label, r.test) == (arm, label, test))


def test_rows_are_every_test_arm_and_label_in_the_plans_order() -> None:
    plan_, cases = plan(), cases_of()
    rows = result_rows(plan_, analysed(plan_, cases))
    assert [(r.test, r.arm, r.label) for r in rows] == [
        (test, arm, label)
        for test in ("internal", "external")
        for arm in EFFECT
        for label in (MACRO, "Edema", "Fracture")
    ]
    assert all(math.isfinite(v) for r in rows for v in r.model_dump().values() if type(v) is float)


def test_a_row_holds_the_paired_difference_to_the_reference() -> None:
    plan_, cases = plan(), cases_of()
    of = analysed(plan_, cases)
    row = row_of(result_rows(plan_, of), "real+100%", "Edema")
    said = difference_inference(difference(of[0], "real+100%", "real_equal_steps", "Edema"))
    assert (row.difference, row.difference_low, row.p, row.dof) == (
        said.value,
        said.low,
        said.p,
        said.nu,
    )
    labels = [row_of(result_rows(plan_, of), "real+100%", name).p for name in cases.labels]
    assert row.p_holm == pytest.approx(holm(labels)[0])
    assert row.flags == ["exploratory"]
    assert (row.seeds, row.patients, row.images) == (5, cases.G, len(cases.patient))
    assert row.positives == np.count_nonzero(cases.truth[:, 0])


def test_the_reference_is_compared_with_nothing() -> None:
    plan_, cases = plan(), cases_of()
    row = row_of(result_rows(plan_, analysed(plan_, cases)), "real_equal_steps")
    assert (row.reference, row.difference, row.p) == (None, None, None)
    assert row.low < row.auroc < row.high
    assert row.flags == []


def test_the_primary_question_is_adjusted_over_test_sets_only() -> None:
    plan_, cases = plan(), cases_of()
    of = analysed(plan_, cases)
    found = comparisons(plan_, of)
    assert [c.test for c in found] == ["internal", "external"]
    assert all(c.p_holm == pytest.approx(2 * c.p) for c in found)  # both alike here
    assert [c.verdict for c in found] == ["better", "better"]
    row = row_of(result_rows(plan_, of), "real+300%")
    assert (row.p, row.p_holm, row.flags) == (found[0].p, found[0].p_holm, ["primary"])


@pytest.mark.parametrize(
    ("effect", "margin", "verdict"),
    [(0.5, 0.005, "worse"), (1.0, 0.05, "equivalent"), (1.0, 0.0001, "inconclusive")],
)
def test_verdicts(effect: float, margin: float, verdict: str) -> None:
    plan_, cases = plan(margin=margin), cases_of()
    of = analysed(plan_, cases, effect=EFFECT | {"real+300%": effect})
    assert comparisons(plan_, of)[0].verdict == verdict


def test_a_detectable_difference_inside_the_margin_is_equivalent() -> None:
    plan_, cases = plan(margin=0.4), cases_of()
    found = comparisons(plan_, analysed(plan_, cases))[0]
    assert found.p_holm < 0.05
    assert found.verdict == "equivalent"


def test_one_training_seed_decides_nothing() -> None:
    plan_, cases = plan(seeds=[7]), cases_of()
    found = comparisons(plan_, analysed(plan_, cases))[0]
    assert found.p < 0.05
    assert (found.verdict, found.flags) == ("inconclusive", ["few_seeds", "primary"])


def test_seed_variance_widens_the_interval() -> None:
    plan_, cases = plan(), cases_of()
    quiet = comparisons(plan_, analysed(plan_, cases, seed_noise=0.01))[0]
    noisy = comparisons(plan_, analysed(plan_, cases, seed_noise=1.0))[0]
    assert noisy.high - noisy.low > 1.5 * (quiet.high - quiet.low)
    assert noisy.dof < quiet.dof


def test_a_label_without_both_classes_is_null_and_the_macro_is_of_the_others() -> None:
    plan_, cases = plan(), cases_of()
    cases.truth[cases.truth[:, 1] == 1, 1] = UNKNOWN
    rows = result_rows(plan_, analysed(plan_, cases))
    row = row_of(rows, "real+300%", "Fracture")
    assert (row.auroc, row.low, row.difference, row.p) == (None, None, None, None)
    assert "not_estimable" in row.flags
    others = [r.auroc for r in rows if (r.arm, r.label) == ("real+300%", "Edema")]
    assert row_of(rows, "real+300%").auroc == pytest.approx(np.mean(others))
    assert "fewer_labels" in row_of(rows, "real+300%").flags
    assert "fewer_labels" in comparisons(plan_, analysed(plan_, cases))[0].flags
    nothing = cases_of()
    nothing.truth[:] = UNKNOWN
    assert comparisons(plan_, analysed(plan_, nothing))[0].verdict == "not_estimable"


def test_a_rare_label_has_no_p_and_says_so() -> None:
    plan_, cases = plan(), cases_of()
    few = np.isin(cases.patient, np.unique(cases.patient[cases.truth[:, 1] == 1])[:3])
    cases.truth[:, 1] = np.where(few, cases.truth[:, 1], 0)
    rows = result_rows(plan_, analysed(plan_, cases))
    rare = row_of(rows, "real+100%", "Fracture")
    assert (rare.p, "few_patients" in rare.flags) == (None, True)
    assert rare.difference_low is not None
    of_both = row_of(rows, "real+100%")
    assert (of_both.p is None, "few_patients" in of_both.flags) == (False, True)


def test_few_degrees_of_freedom_are_flagged() -> None:
    plan_, cases = plan(seeds=[0, 1]), cases_of()
    row = row_of(result_rows(plan_, analysed(plan_, cases, seed_noise=3.0)), "real+100%")
    assert row.dof < 10
    assert row.flags == ["few_degrees_of_freedom", "few_seeds", "exploratory"]


def test_constant_scores_are_named() -> None:
    plan_, cases = plan(), cases_of()
    nothing = analysed(plan_, cases, effect=EFFECT, seed_noise=0.0)
    constant = estimate(plan_, "internal", cases, lambda *_: np.zeros(cases.truth.shape))
    for row in result_rows(plan_, [constant]):
        assert (row.auroc, row.low, row.p) == (0.5, None, None)
        assert "no_variation" in row.flags
    assert all("no_variation" not in r.flags for r in result_rows(plan_, nothing))


def test_a_single_patient_gives_a_value_and_no_more() -> None:
    truth = np.array([[1, 0], [0, 1], [1, 0], [0, 1]], dtype=np.int8)
    alone = Cases(("Edema", "Fracture"), truth, np.zeros(4, np.int64), 1)
    noise = np.random.default_rng(0)
    found = estimate(plan(), "internal", alone, lambda *_: noise.normal(size=(4, 2)))
    for row in [*result_rows(plan(), [found]), *metric_rows(plan(), [found])]:
        assert (row.low, row.high, row.difference_low, row.p) == (None, None, None, None)
        assert {"few_patients", "not_estimable"} & set(row.flags)


def test_a_perfect_arm_is_exact() -> None:
    plan_, cases = plan(), cases_of()
    perfect = analysed(plan_, cases, effect=EFFECT | {"real_equal_steps": 50.0})
    row = row_of(result_rows(plan_, perfect), "real_equal_steps", "Edema")
    assert (row.auroc, row.high, row.p) == (1.0, 1.0, None)
    assert row.flags == ["exact", "exploratory"]


def test_waived_guards_and_phantoms_follow_every_line() -> None:
    plan_, cases = plan(waived=["leakage"]), cases_of()
    of = analysed(plan_, cases)
    for test, phantom in (("internal", True), ("external", False)):
        row = row_of(result_rows(plan_, of, shown={"internal": ["phantom"]}), "real", test=test)
        assert "leakage_waived" in row.flags
        assert ("phantom" in row.flags) == phantom


def test_a_question_asked_after_results_were_seen_is_exploratory() -> None:
    plan_, cases = plan(waived=["extended: seeds were added after results were seen"]), cases_of()
    of = analysed(plan_, cases)
    assert {tuple(c.flags) for c in comparisons(plan_, of)} == {("exploratory",)}
    assert row_of(result_rows(plan_, of), plan_.primary).flags == ["exploratory"]


def test_the_trend_is_one_contrast_from_the_equal_steps_control_upwards() -> None:
    plan_, cases = plan(), cases_of()
    of = analysed(plan_, cases)
    found = trends(plan_, of)[0]
    assert found.doses == (0.0, 1.0, 3.0)
    aurocs = [of[0].arms[a][MACRO].value for a in ("real_equal_steps", "real+100%", "real+300%")]
    assert found.slope.value == pytest.approx(np.polyfit([0, 1, 2], aurocs, 1)[0])
    assert found.slope.p < 0.05


REGIMES = {
    "real_equal_steps": "real_equal_steps",
    "real+300%": "real_equal_steps",
    "real": "real",
    "real+100%": "real",
    "shuffled": "real",
}
"""Arms of two regimes with their references."""


def test_every_arm_is_held_against_its_own_reference() -> None:
    arms = [PlannedArm(name=arm, reference=own) for arm, own in REGIMES.items()]
    plan_, cases = plan(arms=arms), cases_of()
    of = analysed(plan_, cases)
    found = result_rows(plan_, of)
    for arm, reference in REGIMES.items():
        row = row_of(found, arm)
        D = None if arm == reference else difference(of[0], arm, reference, MACRO)
        assert (row.reference, row.difference) == (D and reference, D and D.value)
    both = [row_of(found, arm) for arm in ("real+100%", "shuffled")]
    assert [r.p_holm for r in both] == holm([r.p for r in both])
    assert row_of(found, "real+300%").p_holm == comparisons(plan_, of)[0].p_holm
    of_group = {m.reference for m in metric_rows(plan_, of) if m.arm == "shuffled"}
    assert of_group == {"real"}


def test_an_arm_whose_reference_was_not_evaluated_has_no_difference_and_says_so() -> None:
    arms = [PlannedArm(name=arm, reference=own) for arm, own in REGIMES.items() if arm != "real"]
    plan_, cases = plan(arms=arms), cases_of()
    row = row_of(result_rows(plan_, analysed(plan_, cases)), "shuffled")
    assert (row.reference, row.difference, row.p, row.p_holm) == ("real", None, None, None)
    assert row.auroc is not None
    assert row.flags == ["exploratory", "runs_missing"]


def test_there_is_a_trend_over_the_doses_of_each_reference() -> None:
    arms = [
        PlannedArm(name="real_equal_steps", dose=0.0),
        PlannedArm(name="real+300%", dose=1.0),
        PlannedArm(name="shuffled", dose=3.0),
        PlannedArm(name="real", dose=0.0, reference="real"),
        PlannedArm(name="real+100%", dose=1.0, reference="real"),
    ]
    plan_, cases = plan(arms=arms), cases_of()
    of = analysed(plan_, cases)
    found = trends(plan_, of)
    assert {(t.reference, t.doses) for t in found} == {("real_equal_steps", (0.0, 1.0, 3.0))}
    aurocs = [of[0].arms[a][MACRO].value for a in ("real_equal_steps", "real+300%", "shuffled")]
    assert found[0].slope.value == pytest.approx(np.polyfit([0, 1, 2], aurocs, 1)[0])


def test_no_trend_from_two_doses() -> None:
    arms = [PlannedArm(name="real_equal_steps"), PlannedArm(name="real+300%", dose=3.0)]
    plan_, cases = plan(arms=arms), cases_of()
    assert trends(plan_, analysed(plan_, cases)) == []
