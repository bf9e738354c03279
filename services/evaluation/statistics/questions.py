"""The further registered questions of a plan, and their answers: one family of tests."""

from collections.abc import Sequence

from api_schemas.evaluation import MACRO, Answer, Answered, PlanPost, Question
from services.evaluation.statistics.analysis import (
    ALPHA,
    NOTHING_SAID,
    Shown,
    TestEstimates,
    circumstances,
    difference,
)
from services.evaluation.statistics.estimate import Estimate
from services.evaluation.statistics.inference import (
    LEVEL,
    MARGIN_LEVEL,
    Inference,
    difference_inference,
    holm,
    margin_inference,
)


def answers(
    plan: PlanPost,
    tests: Sequence[TestEstimates],
    shown: Shown = NOTHING_SAID,
) -> list[Answer]:
    """Every question on every test set, with Holm's p over all of them."""
    asked = [(question, of) for question in plan.questions for of in tests]
    differences = [difference(of, q.arm, q.reference, MACRO) for q, of in asked]
    said = [D and _said(q, D) for (q, _), D in zip(asked, differences, strict=True)]
    adjusted = holm([a and a.p for a in said])
    return [
        Answer(
            experiment=plan.experiment,
            test=of.test,
            **question.model_dump(),
            difference=a and a.value,
            low=a and a.low,
            high=a and a.high,
            level=LEVEL if question.kind == "superiority" else MARGIN_LEVEL,
            p=a and a.p,
            p_holm=p_holm,
            dof=a and a.nu,
            test_sd=a and a.test_sd,
            seed_sd=a and a.seed_sd,
            verdict=_verdict(question, D, p_holm),
            seeds=len(plan.seeds),
            flags=circumstances(plan, of, shown).question(
                D, a, "registered", [question.arm, question.reference]
            ),
        )
        for (question, of), D, a, p_holm in zip(asked, differences, said, adjusted, strict=True)
    ]


def _said(question: Question, D: Estimate) -> Inference:
    if question.margin is None:
        return difference_inference(D)
    return margin_inference(D, question.margin, two_sided=question.kind == "equivalence")


def _verdict(question: Question, D: Estimate | None, p_holm: float | None) -> Answered:
    """One training seed shows nothing of a method."""
    if D is None:
        return "not_estimable"
    if p_holm is None or D.R == 1 or p_holm >= ALPHA:
        return "not_shown"
    return "shown" if question.kind != "superiority" or D.value > 0 else "not_shown"
