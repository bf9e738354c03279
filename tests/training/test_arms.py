"""Arms on paper: presets, names, doses, and the arithmetic of steps."""

import math
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_schemas import training
from api_schemas.arms import (
    Arm,
    MixSitesPreset,
    PretrainFinetunePreset,
    Source,
    Stage,
    SupplementPreset,
    SyntheticOnlyPreset,
)
from api_schemas.base import DataRef, DatasetRef, GenerationRef
from api_schemas.evaluation import Question
from api_schemas.selection import Filter
from api_schemas.training import (
    ClassifierSettings,
    EvaluationSet,
    ExperimentRequest,
    PlanRequest,
)
from services.training.service.arms import (
    ArmUnknown,
    QuestionInconsistent,
    StepsDisagree,
    contrasts_of,
    expand,
    planned_arms,
    primary_of,
    questions_of,
    reference_of,
    steps_by_arm,
    yardstick,
)

REAL = DatasetRef(dataset=UUID(int=1))
OTHER = DatasetRef(dataset=UUID(int=2))
COHORT = GenerationRef(generation=UUID(int=3))
SETTINGS = ClassifierSettings(epochs=10, batch_size=32)


def asked(**more: Any) -> ExperimentRequest:
    values = {
        "name": "test",
        "preset": [SupplementPreset(real=REAL, synthetic=COHORT, ratios=[1, 3])],
        "validation": EvaluationSet(data=REAL, split="validation"),
        "tests": [training.TestSet(name="internal", data=REAL)],
    }
    return ExperimentRequest(**{**values, **more})


def arm(name: str, *stages: Stage, **more: Any) -> Arm:
    return Arm(name=name, stages=list(stages), **more)


def stage(*data: DataRef, **length: Any) -> Stage:
    return Stage(sources=[Source(data=d) for d in data], **length)


def doses(request: ExperimentRequest) -> dict[str, float | None]:
    arms = expand(request)
    planned = planned_arms(arms, contrasts_of(request, arms), primary_of(request, arms))
    return {arm.name: arm.dose for arm in planned}


def test_doses_are_what_was_added_to_real_images() -> None:
    assert doses(asked()) == {
        "real": 0,
        "real_equal_steps": 0,
        "real+100%": 1,
        "real+300%": 3,
        "synthetic_only": None,
        "shuffled": None,
    }


def test_a_dose_is_of_the_same_images_added_to_the_same() -> None:
    base, more = Source(data=REAL), Source(data=COHORT, multiple=2)

    def plus(name: str, added: dict[str, Any], **real: Any) -> Arm:
        sources = [base.model_copy(update=real), more.model_copy(update=added)]
        return Arm(name=name, stages=[Stage(sources=sources)])

    arms = [
        Arm(name="reference", stages=[Stage(sources=[base])]),
        plus("primary", {}),
        plus("half", {"multiple": 0.5}),
        plus("fewer-patients", {}, fraction=0.1),
        plus("other-site", {}, data=OTHER),
        plus("women", {"where": Filter(sex=["Female"])}),
        plus("other-cohort", {"data": GenerationRef(generation=UUID(int=9))}),
        plus("dealt", {"shuffled": True}),
        Arm(name="in-turn", stages=[Stage(sources=[more]), Stage(sources=[base])]),
    ]
    contrasts = {arm.name: "reference" for arm in arms} | {"reference": None}
    found = [arm.dose for arm in planned_arms(arms, contrasts, "primary")]
    assert found == [0, 2, 0.5, *[None] * 6]


def test_the_primary_arm_is_the_largest_ratio() -> None:
    request = asked(preset=[SupplementPreset(real=REAL, synthetic=COHORT, ratios=[3, 0.5, 1])])
    assert primary_of(request, expand(request)) == "real+300%"


@pytest.mark.parametrize(
    ("plan", "field"),
    [
        (PlanRequest(reference="nobody"), "plan.reference"),
        (PlanRequest(primary="nobody"), "plan.primary"),
        (PlanRequest(primary="real_equal_steps"), "plan.primary"),
    ],
)
def test_a_plan_names_arms_that_are_there(plan, field) -> None:
    request = asked(plan=plan)
    with pytest.raises(ArmUnknown) as refused:
        primary_of(request, expand(request))
    assert refused.value.problem.field == field
    assert "real+100%" in refused.value.problem.accepted


FRACTIONS: dict[str, Any] = {"real": REAL, "synthetic": COHORT, "real_fractions": [0.1, 0.3, 1]}


def contrasts(*given: Any, **plan: Any) -> dict[str, str | None]:
    request = asked(preset=list(given), plan=PlanRequest(**plan))
    return contrasts_of(request, expand(request))


def test_every_arm_goes_with_the_equal_steps_control_of_its_own_share_of_the_patients() -> None:
    found = contrasts(SupplementPreset(**FRACTIONS, ratios=[1, 3]))
    for share in ("", "30%-", "10%-"):
        control = f"{share}real_equal_steps"
        assert found.pop(control) is None
        for name in ("real", "real+100%", "real+300%"):
            assert found.pop(share + name) == control
    assert found == dict.fromkeys(("synthetic_only", "shuffled"), "real_equal_steps")


def test_every_arm_goes_with_the_control_of_its_own_site() -> None:
    found = contrasts(
        SupplementPreset(real=REAL, synthetic=COHORT),
        MixSitesPreset(real=OTHER, synthetic=COHORT, real_fractions=[0.5, 1]),
        PretrainFinetunePreset(real=OTHER, synthetic=COHORT, controls=["shuffled"]),
    )
    assert found["mixed+100%"] == found["mixed_real"] == "mixed_real_equal_steps"
    assert found["50%-mixed+100%"] == "50%-mixed_real_equal_steps"
    assert found["pretrained_100%"] == "mixed_real_equal_steps"
    assert found["real+100%"] == "real_equal_steps"


def test_a_synthetic_arm_goes_with_what_its_preset_calls_real() -> None:
    presets = [
        SupplementPreset(real=REAL, synthetic=COHORT),
        MixSitesPreset(real=OTHER, synthetic=COHORT),
        SyntheticOnlyPreset(real=OTHER, synthetic=COHORT, controls=[]),
    ]
    request = asked(preset=presets)
    arms = expand(request)
    found = contrasts_of(request, arms)
    assert found["synthetic_only"] == "real_equal_steps"
    assert found["synthetic_100%"] == "mixed_real_equal_steps"
    counted_in = {a.name: yardstick(a, arms, found[a.name]) for a in arms}
    assert (counted_in["synthetic_only"], counted_in["synthetic_100%"]) == (REAL, OTHER)


def test_a_primary_arm_brings_the_control_of_its_own() -> None:
    preset = SupplementPreset(**FRACTIONS)
    request = asked(preset=[preset], plan=PlanRequest(primary="10%-real+100%"))
    assert reference_of(request) == "10%-real_equal_steps"
    assert contrasts_of(request, expand(request))["real+100%"] == "real_equal_steps"


def test_another_reference_is_that_of_its_kind_for_every_share_of_the_patients() -> None:
    found = contrasts(SupplementPreset(**FRACTIONS), reference="real")
    assert (found["real+100%"], found["10%-real+100%"]) == ("real", "10%-real")
    assert (found["real"], found["10%-real"]) == (None, None)
    assert found["10%-real_equal_steps"] == "10%-real"


def test_an_arm_may_name_another_reference_or_none() -> None:
    named = {"shuffled": "synthetic_only", "real": "real"}
    found = contrasts(SupplementPreset(**FRACTIONS), references=named)
    assert (found["shuffled"], found["real"]) == ("synthetic_only", None)
    assert found["10%-real"] == "10%-real_equal_steps"


@pytest.mark.parametrize(
    ("references", "field"),
    [
        ({"shuffled": "nobody"}, "plan.references.shuffled"),
        ({"nobody": "real"}, "plan.references.nobody"),
        ({"real+100%": "real"}, "plan.references.real+100%"),
        ({"real_equal_steps": "real+100%"}, "plan.references.real_equal_steps"),
        ({"real": "shuffled", "shuffled": "real"}, "plan.references.real"),
    ],
)
def test_references_that_are_nobody_or_lead_back_are_refused(references, field) -> None:
    with pytest.raises(ArmUnknown) as refused:
        contrasts(SupplementPreset(real=REAL, synthetic=COHORT), references=references)
    assert refused.value.problem.field == field


def test_doses_are_counted_at_every_share_of_the_patients() -> None:
    found = doses(asked(preset=[SupplementPreset(**FRACTIONS, ratios=[1, 3])]))
    for share in ("", "30%-", "10%-"):
        names = ("real", "real_equal_steps", "real+100%", "real+300%")
        assert [found[share + name] for name in names] == [0, 0, 1, 3]


@pytest.mark.parametrize(
    ("question", "field"),
    [
        ({"arm": "nobody"}, "arm"),
        ({"reference": "nobody"}, "reference"),
        ({"arm": "real"}, "arm"),
        ({"margin": None}, "margin"),
        ({"margin": 1}, "margin"),
        ({"kind": "superiority"}, "margin"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused(question, field) -> None:
    usual = {"arm": "synthetic_only", "reference": "real", "kind": "noninferiority", "margin": 0.01}
    request = asked(plan=PlanRequest(questions=[Question(**(usual | question))]))
    with pytest.raises(QuestionInconsistent) as refused:
        questions_of(request, expand(request))
    assert refused.value.problem.field == f"plan.questions.0.{field}"


def test_arms_given_one_by_one_name_their_primary() -> None:
    arms = [arm("a", stage(REAL)), arm("b", stage(REAL, COHORT))]
    request = asked(preset=None, arms=arms, plan=PlanRequest(reference="a"))
    with pytest.raises(ArmUnknown) as refused:
        primary_of(request, expand(request))
    assert refused.value.problem.accepted == ["b"]


def test_a_multiple_counts_in_the_reference_arms_first_dataset() -> None:
    arms = [arm("a", stage(COHORT, OTHER)), arm("b", stage(REAL))]
    for reference, expected in (("a", OTHER), ("b", REAL)):
        assert yardstick(arm("c", stage(COHORT)), arms, reference) == expected
    assert yardstick(arms[1], arms, "a") == REAL  # the arm's own comes first
    synthetic = [arm("a", stage(COHORT))]
    assert yardstick(synthetic[0], synthetic, "a") == COHORT


# ---------------------------------------------------------------- steps


def test_every_arm_but_real_trains_the_primary_arms_steps() -> None:
    arms = expand(asked())
    images = {a.name: [int(100 * sum(s.multiple for s in a.stages[0].sources))] for a in arms}
    steps = steps_by_arm(arms, "real+300%", images, SETTINGS)
    assert steps.pop("real") == [math.ceil(10 * 100 / 32)]
    assert set(map(tuple, steps.values())) == {(math.ceil(10 * 400 / 32),)}


def test_explicit_steps_of_the_primary_arm_count() -> None:
    arms = [arm("a", stage(REAL)), arm("b", stage(COHORT, steps=70), stage(REAL, steps=30))]
    steps = steps_by_arm(arms, "b", {"a": [10], "b": [10, 10]}, SETTINGS)
    assert steps == {"a": [100], "b": [70, 30]}


def test_open_stages_share_what_explicit_ones_leave() -> None:
    arms = [
        arm("primary", stage(REAL, steps=100)),
        arm("mixed", stage(REAL, steps=40), stage(COHORT), stage(REAL)),
    ]
    images = {"primary": [10], "mixed": [10, 300, 100]}
    steps = steps_by_arm(arms, "primary", images, SETTINGS)
    assert steps["mixed"][0] == 40
    assert sum(steps["mixed"]) == 100
    assert steps["mixed"][1] == pytest.approx(3 * steps["mixed"][2], abs=3)


@pytest.mark.parametrize("said", [99, 101])
def test_explicit_steps_that_do_not_add_up_are_refused(said) -> None:
    arms = [arm("primary", stage(REAL, steps=100)), arm("other", stage(REAL, steps=said))]
    images = {"primary": [10], "other": [10]}
    with pytest.raises(StepsDisagree, match=str(said)):
        steps_by_arm(arms, "primary", images, SETTINGS)
    own = [arms[0], arms[1].model_copy(update={"schedule": "own"})]
    assert steps_by_arm(own, "primary", images, SETTINGS)["other"] == [said]


def test_shares_divide_an_arms_steps() -> None:
    arms = [
        arm("primary", stage(COHORT, share=0.7), stage(REAL, share=0.3)),
        arm("other", stage(COHORT, share=0.2), stage(REAL, share=0.8)),
    ]
    images = {"primary": [300, 20], "other": [1, 1]}
    steps = steps_by_arm(arms, "primary", images, SETTINGS)
    assert steps["primary"] == [70, 30]
    assert sum(steps["other"]) == 100
    assert steps["other"][0] == pytest.approx(20, abs=1)  # no stage is without a step


@given(
    st.integers(4, 5000),
    st.lists(st.integers(1, 10**6), min_size=1, max_size=4),
)
def test_stages_always_add_up(total, weights) -> None:
    arms = [arm("primary", stage(REAL, steps=total)), arm("other", *[stage(REAL)] * len(weights))]
    images = {"primary": [1], "other": weights}
    shared = steps_by_arm(arms, "primary", images, SETTINGS)["other"]
    assert sum(shared) == total
    assert min(shared) >= 1
