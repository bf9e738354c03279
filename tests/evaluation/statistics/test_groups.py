"""Groups: who is in them, what they are held against, and AUROC inside them."""

import numpy as np
import polars as pl
import pytest

from api_schemas.evaluation import MACRO, MetricRow, ResultRow
from services.evaluation.statistics.analysis import (
    TestEstimates,
    estimate,
    group_rows,
    metric_rows,
)
from services.evaluation.statistics.cases import Cases
from services.evaluation.statistics.estimate import Estimate, over_seeds
from services.evaluation.statistics.groups import (
    Group,
    Grouping,
    attributes_of,
    groups_of,
)
from services.evaluation.statistics.inference import difference_inference, holm
from services.evaluation.statistics.influence import label_aurocs, macro
from tests.evaluation.statistics.test_analysis import cases_of, plan, scores_of

PLAN = plan(seeds=[0, 1])
ARMS = [arm.name for arm in PLAN.arms]


def manifest(**columns: list) -> pl.DataFrame:
    n = len(columns["sample_id"])
    unstated = dict.fromkeys(("sex", "age", "race", "ethnicity", "view"))
    stated = {**unstated, "site": "a"}
    return pl.DataFrame({name: [value] * n for name, value in stated.items()} | columns)


def test_attributes_follow_the_samples_and_not_the_manifest() -> None:
    rows = manifest(
        sample_id=["s1", "s2", "s3", "s4"],
        sex=["Female", "Male", None, "Female"],
        age=[39, 40, 79, 80],
        ethnicity=["Hispanic or Latino", None, "Not Hispanic or Latino", "Hispanic or Latino"],
    )
    found = attributes_of(rows, np.array(["s4", "s9", "s2", "s3", "s1"]))
    assert list(found["age"]) == ["80+", "", "40-59", "60-79", "0-39"]
    assert list(found["sex"]) == ["Female", "", "Male", "", "Female"]
    assert list(found["sex, age"]) == ["Female, 80+", "", "Male, 40-59", "", "Female, 0-39"]
    assert set(found["race"]) == {""}
    assert list(found["ethnicity"][1:4]) == ["", "", "Not Hispanic or Latino"]
    people = np.arange(5)
    told = groups_of({"a": Grouping({"ethnicity": found["ethnicity"]}, people)})["a"]
    assert [(g.name, g.members.sum()) for g in told] == [
        ("ethnicity: Hispanic or Latino", 2),
        ("ethnicity: Not Hispanic or Latino", 1),
    ]


def test_the_largest_group_over_all_test_sets_is_what_others_are_held_against() -> None:
    def grouping(sexes: str) -> Grouping:
        words = np.array([{"f": "Female", "m": "Male", "-": ""}[c] for c in sexes])
        return Grouping({"sex": words}, np.arange(len(sexes)))

    found = groups_of({"a": grouping("ffffm-"), "b": grouping("fmmm"), "c": grouping("ff-")})
    for test in ("a", "b"):  # five women and four men in all: the same direction on both
        assert [(g.name, g.against) for g in found[test]] == [
            ("sex: Female", None),
            ("sex: Male", "sex: Female"),
        ]
    assert list(found["a"][1].members) == [False, False, False, False, True, False]
    assert found["c"] == []  # one value parts nothing


def test_patients_are_counted_and_not_images() -> None:
    words = np.array(["Female"] * 3 + ["Male"] * 2)
    found = groups_of({"a": Grouping({"sex": words}, np.array([0, 0, 0, 1, 2]))})
    assert [g.against for g in found["a"]] == ["sex: Male", None]


@pytest.fixture(scope="module")
def halves() -> tuple[Cases, list[Group]]:
    cases = cases_of()
    female = np.random.default_rng(8).random(cases.G)[cases.patient] < 0.4
    few = np.isin(cases.patient, np.arange(3))
    return cases, [
        Group("sex: Female", "sex: Male", female),
        Group("sex: Male", None, ~female),
        Group("race: Asian", "race: White", few),
        Group("race: White", None, ~few),
    ]


@pytest.fixture(scope="module")
def analysed(halves) -> TestEstimates:
    cases, groups = halves
    return estimate(PLAN, "internal", cases, scores_of(cases), groups)


@pytest.fixture(scope="module")
def rows(analysed) -> list[ResultRow]:
    return group_rows(PLAN, [analysed])


@pytest.fixture(scope="module")
def metrics(analysed) -> list[MetricRow]:
    return metric_rows(PLAN, [analysed])


def by_hand(cases: Cases, members: np.ndarray, arm: str) -> Estimate:
    """Macro of a group from scratch, over the seeds."""
    scores, inside = scores_of(cases), cases.within(members)
    return over_seeds(
        [macro(inside, label_aurocs(inside, scores(arm, seed))) for seed in PLAN.seeds]
    )


def test_a_groups_line_is_the_auroc_inside_it(halves, rows) -> None:
    cases, groups = halves
    found = {(r.group, r.arm, r.label): r for r in rows}
    for group in groups[:2]:
        A = by_hand(cases, group.members, "real+100%")
        R = by_hand(cases, group.members, "real_equal_steps")
        said, row = difference_inference(A - R), found[group.name, "real+100%", MACRO]
        assert (row.auroc, row.difference, row.p, row.dof) == (A.value, said.value, said.p, said.nu)
        assert row.patients == len(np.unique(cases.patient[group.members]))
        assert row.images == np.count_nonzero(group.members)
        assert "exploratory" in row.flags


def test_a_gap_and_how_an_arm_changes_it(halves, metrics) -> None:
    cases, (female, male, *_) = halves
    gap = {
        arm: by_hand(cases, female.members, arm) - by_hand(cases, male.members, arm)
        for arm in ("real+100%", "real_equal_steps")
    }
    row = next(
        r for r in metrics if (r.metric, r.arm, r.group) == ("auroc_gap", "real+100%", female.name)
    )
    own = difference_inference(gap["real+100%"])
    changed = difference_inference(gap["real+100%"] - gap["real_equal_steps"])
    assert (row.value, row.low, row.high) == pytest.approx((own.value, own.low, own.high))
    assert (row.difference, row.p) == pytest.approx((changed.value, changed.p))
    assert (row.against, row.label, row.reference) == (male.name, MACRO, "real_equal_steps")


def test_the_largest_group_has_no_gap(metrics) -> None:
    gaps = {r.group for r in metrics if r.metric == "auroc_gap"}
    assert gaps == {"sex: Female", "race: Asian"}


def test_a_groups_mean_is_over_the_labels_of_all_images_or_none(halves) -> None:
    """Over fewer it could not be held against another group's."""
    cases, (female, male, *_) = halves
    truth = cases.truth.copy()
    truth[female.members & (truth[:, 1] == 1), 1] = 0
    lacking = Cases(cases.labels, truth, cases.patient, cases.G)
    of = estimate(PLAN, "internal", lacking, scores_of(lacking), [female, male])
    macros = {r.group: r for r in group_rows(PLAN, [of]) if r.arm == "real" and r.label == MACRO}
    assert (macros[female.name].auroc, macros[male.name].auroc is None) == (None, False)
    gap = next(r for r in metric_rows(PLAN, [of]) if r.metric == "auroc_gap")
    assert (gap.value, "not_estimable" in gap.flags) == (None, True)

    truth[:, 1] = 0  # nobody has it: the means are over the other label, everywhere
    nobody = Cases(cases.labels, truth, cases.patient, cases.G)
    of = estimate(PLAN, "internal", nobody, scores_of(nobody), [female, male])
    for row in [*group_rows(PLAN, [of]), *metric_rows(PLAN, [of])]:
        if row.label == MACRO and "not_probabilities" not in row.flags:
            assert "fewer_labels" in row.flags
            assert "not_estimable" not in row.flags


def test_without_the_largest_group_there_are_groups_and_no_gaps(halves) -> None:
    cases, (female, *_) = halves
    of = estimate(PLAN, "internal", cases, scores_of(cases), [female])
    assert {r.group for r in group_rows(PLAN, [of])} == {female.name}
    assert not [r for r in metric_rows(PLAN, [of]) if r.metric.endswith("_gap")]


def test_a_group_too_small_says_so(rows, metrics) -> None:
    small = [r for r in rows if r.group == "race: Asian"]
    assert {r.label for r in small} == {MACRO}  # no label of it has five patients
    for row in [*small, *(r for r in metrics if r.group == "race: Asian")]:
        assert {"not_estimable", "few_patients"} & set(row.flags)
        assert row.p is None


def test_groups_of_an_arm_are_one_family(rows) -> None:
    of_arm = [r for r in rows if r.arm == "real+100%" and r.label == MACRO]
    of_arm = [r for r in of_arm if r.difference is not None]
    assert [r.p_holm for r in of_arm] == holm([r.p for r in of_arm])
    assert len(of_arm) >= 3


def test_rows_follow_the_plans_arms(rows, metrics) -> None:
    for lines in (rows, metrics):
        assert list(dict.fromkeys(r.arm for r in lines)) == ARMS


def test_the_reference_has_levels_and_no_differences(rows, metrics) -> None:
    for row in [*rows, *metrics]:
        if row.arm == "real_equal_steps":
            assert (row.reference, row.difference, row.p_holm) == (None, None, None)


def test_a_patient_of_both_groups_is_one_patient() -> None:
    """Both views of everybody: the gap is paired, not a difference of strangers."""
    cases = cases_of()
    scores = scores_of(cases)("real", 0)
    ap = np.random.default_rng(1).random(len(cases.patient)) < 0.5
    inside, outside = (
        macro(part, label_aurocs(part, scores)) for part in (cases.within(ap), cases.within(~ap))
    )
    covariance = float(inside.Phi @ outside.Phi)
    assert covariance > 0
    np.testing.assert_allclose((inside - outside).V, inside.V + outside.V - 2 * covariance)
