"""Non-inferiority, equivalence and superiority: what is shown, and how sure one must be."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from api_schemas.evaluation import Answer, PlanPost, Question
from services.evaluation.statistics.estimate import Estimate
from services.evaluation.statistics.inference import holm, is_equivalent, margin_inference
from services.evaluation.statistics.questions import answers
from tests.evaluation.statistics.test_analysis import EFFECT, analysed, cases_of, plan


def asked(kind: str, margin: float | None = None, arm: str = "real+100%") -> Question:
    return Question(arm=arm, reference="real_equal_steps", kind=kind, margin=margin)


def answered(questions: list[Question], effect: float = 1.0, **changes: Any) -> list[Answer]:
    plan_: PlanPost = plan(questions=questions, **changes)
    found = analysed(plan_, cases_of(), effect=EFFECT | {"real+100%": effect})
    return answers(plan_, found)


def estimate(value: float, together: int = 500) -> Estimate:
    return Estimate.of_run(value, np.full(64, 0.001), 50, together)


def test_the_p_of_a_margin_is_the_one_sided_test_and_fits_the_90_percent_interval() -> None:
    for value in (-0.012, -0.002, 0.0, 0.004, 0.02):
        D, se = estimate(value), 0.008
        above = stats.t.sf((value + 0.015) / se, 63)
        below = stats.t.sf((0.015 - value) / se, 63)
        one, two = (margin_inference(D, 0.015, two_sided=both) for both in (False, True))
        assert one.p == pytest.approx(above)
        assert two.p == pytest.approx(max(above, below))
        assert (two.p < 0.05) == is_equivalent(D, 0.015)
        assert two.high - two.low == pytest.approx(2 * stats.t.ppf(0.95, 63) * se)


def test_few_patients_get_no_p() -> None:
    found = margin_inference(estimate(0.0, together=4), 0.5, two_sided=True)
    assert (found.p, found.low is None) == (None, False)


@pytest.mark.parametrize(
    ("question", "effect", "verdict"),
    [
        (asked("noninferiority", 0.05), 1.0, "shown"),
        (asked("noninferiority", 0.05), 0.5, "not_shown"),
        (asked("noninferiority", 0.05), 2.0, "shown"),
        (asked("equivalence", 0.05), 1.0, "shown"),
        (asked("equivalence", 0.05), 2.0, "not_shown"),
        (asked("superiority"), 2.0, "shown"),
        (asked("superiority"), 0.5, "not_shown"),
    ],
)
def test_what_is_shown(question: Question, effect: float, verdict: str) -> None:
    for answer in answered([question], effect):
        assert answer.verdict == verdict
        assert "registered" in answer.flags
        assert answer.level == (0.95 if question.kind == "superiority" else 0.9)


def test_all_questions_on_all_test_sets_are_one_family() -> None:
    questions = [asked("noninferiority", 0.01), asked("equivalence", 0.01), asked("superiority")]
    found = answered(questions, effect=1.02)
    assert [(a.kind, a.test) for a in found] == [
        (q.kind, test) for q in questions for test in ("internal", "external")
    ]
    assert [a.p_holm for a in found] == holm([a.p for a in found])
    assert len({a.p for a in found}) == 3


def test_one_training_seed_shows_nothing() -> None:
    found = answered([asked("superiority")], 2.0, seeds=[3])
    assert {a.verdict for a in found} == {"not_shown"}
    assert {a.seed_sd for a in found} == {None}


def test_no_questions_no_answers() -> None:
    assert answered([]) == []
