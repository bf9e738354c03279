"""The report stands alone, says what must be said, and never shows what is not known."""

import base64
import hashlib
import io
import re
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from PIL import Image

from api_schemas.evaluation import MACRO, Question
from api_schemas.screening import Screening
from services.evaluation.reports import words
from services.evaluation.reports.facts import Report
from services.evaluation.reports.page import data_uri, render
from services.evaluation.reports.policy import CONTENT_SECURITY_POLICY
from services.evaluation.statistics.analysis import METHOD
from tests.evaluation.reports.made import report_of


@cache
def page_of(**kinds: Any) -> str:
    return render(report_of(**kinds))


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<(style|svg).*?</\1>|<[^>]+>", " ", html, flags=re.DOTALL))


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    html = page_of(tests=("internal", "external"))
    without_namespaces = re.sub(r'xmlns(:xlink)?="[^"]+"', "", html)
    assert not re.search(r"https?://|<script|<link|@import|url\((?!#)|\son\w+=", without_namespaces)
    assert re.findall(r'src="(?!data:image/png;base64,)', html) == []
    assert " style=" not in html


def test_the_style_is_the_one_that_the_policy_allows() -> None:
    style = re.search(r"<style>(.*?)</style>", page_of(), flags=re.DOTALL).group(1)
    allowed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{allowed}'" in CONTENT_SECURITY_POLICY


def test_ids_of_the_figures_are_unique_and_used() -> None:
    html = page_of(tests=("internal", "external"))
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", html)) <= set(ids)


def test_numbers_are_those_of_the_results() -> None:
    report = report_of()
    text = text_of(render(report))
    answer = report.comparisons[0]
    assert words.signed(answer.difference) in text
    assert words.interval(answer.low, answer.high, sign=True) in text
    shown = [r for r in report.rows if r.label == MACRO or r.arm == report.plan.primary]
    for row in shown:
        assert words.auroc(row.auroc) in text
        assert row.difference is None or words.signed(row.difference) in text
    assert "nan" not in text.lower().split()


def test_gaps_metrics_and_further_questions_are_in_tables() -> None:
    question = Question(arm="shuffled", reference="real", kind="noninferiority", margin=0.01)
    report = report_of(questions=(question,))
    text = text_of(render(report))
    (answer,) = report.answers
    assert "shuffled is not worse than real by 0.01 or more" in text
    assert words.interval(answer.low, answer.high, sign=True) in text
    assert words.ANSWERS[answer.verdict] in text
    assert "AUROC, minus sex: Male" in text
    macros = [m for m in report.metrics if m.label == MACRO and m.arm == report.plan.primary]
    assert {m.metric for m in macros} > {"average_precision", "brier", "auroc_gap"}
    for m in macros:
        show = words.signed if m.metric.endswith("_gap") else words.auroc
        if m.group is None or m.metric.endswith("_gap"):
            assert show(m.value) in text
            assert words.signed(m.difference) in text


def test_a_study_without_groups_has_no_section_of_them() -> None:
    html = render(replace(report_of(), groups=(), metrics=(), answers=(), curves=()))
    text = text_of(html)
    for heading in ("Groups", "More than AUROC", "Further registered", "Curves of every label"):
        assert heading not in text


def test_a_group_too_small_everywhere_is_named_once_and_takes_no_line() -> None:
    report = report_of()
    unknown = {"group": "race: Other"}
    nothing = dict.fromkeys(("auroc", "low", "high", "difference", "p"))
    few = [r.model_copy(update=unknown | nothing) for r in report.groups]
    gaps = [
        m.model_copy(update=unknown | dict.fromkeys(("value", "low", "high", "difference")))
        for m in report.metrics
        if m.group is not None
    ]
    more = replace(report, groups=[*report.groups, *few], metrics=[*report.metrics, *gaps])
    html = render(more)
    assert "left out here: race: Other." in text_of(html)
    assert html.count("race: Other") == 1
    assert "left out here" not in page_of()


def test_an_arm_that_was_not_evaluated_is_said_to_be() -> None:
    report = report_of(tests=("internal", "external"))
    rows = [r for r in report.rows if (r.arm, r.test) != ("shuffled", "external")]
    labels = [r for r in rows if (r.label, r.test) != ("Edema", "internal")]
    assert text_of(render(replace(report, rows=labels))).count("not evaluated") == 2


def test_the_scope_and_the_digests_are_always_there() -> None:
    text = text_of(page_of())
    assert words.SCOPE in text
    predictions = report_of().predictions
    assert len({each.digest for each in predictions}) == len(predictions)
    for digest in ("a" * 64, "b" * 64, "c" * 64, *(each.digest for each in predictions)):
        assert digest in text
    assert METHOD in text
    assert "exploratory" in text


def test_phantoms_are_called_phantoms() -> None:
    text = text_of(page_of(kind="phantom"))
    assert text.count("These are phantoms, not patients") == 2
    assert "Both are phantoms" in text
    assert "phantom" not in text_of(page_of()).replace("drawn phantoms", "")


def test_synthetic_images_say_whether_they_were_screened() -> None:
    report = report_of()
    assert "Synthetic, unscreened" in page_of()
    assert page_of().count("data:image/png;base64,") == 2
    for state, said in {
        "screened": "screened for near copies of whole training images; 3 of the cohort are",
        "uncalibrated": "too few real images",
    }.items():
        screening = Screening.model_validate({"state": state, "flagged": 3})
        html = render(replace(report, contact=replace(report.contact, screening=screening)))
        assert f"Synthetic, {state}" in html
        assert said in html
        assert "not screened" not in html


def test_a_missing_contact_sheet_is_said() -> None:
    html = render(replace(report_of(), contact="The cohort has been deleted."))
    assert "The cohort has been deleted." in html
    assert "data:image" not in html


def test_one_seed_concludes_nothing() -> None:
    assert "Inconclusive" in text_of(page_of(seeds=(0,)))


def test_an_answer_that_holm_took_back_says_so() -> None:
    told = "This test set alone would say more"
    report = report_of()
    alone = replace_first(report, verdict="inconclusive", p=0.03, p_holm=0.06)
    assert told in text_of(render(alone))
    assert told not in text_of(render(replace_first(report, verdict="inconclusive", p=0.3)))


def replace_first(report: Report, **changed: Any) -> Report:
    first, *others = report.comparisons
    return replace(report, comparisons=[first.model_copy(update=changed), *others])


def test_what_cannot_be_estimated_is_blank_and_said() -> None:
    report = report_of(one_class=True)
    text = text_of(render(report))
    assert "only one class of Lung Opacity" in text
    assert "None" not in text


def test_names_are_text_and_never_markup() -> None:
    hostile = '<script>alert("x")</script>'
    html = page_of(name=hostile, tests=("<b>&site",), waived=(hostile,))
    assert "<script" not in html
    assert "<b>&site" not in html
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize(
    ("value", "shown"), [(0.02, "+0.020"), (-0.02, "−0.020"), (-0.0001, "0.000"), (None, "–")]
)
def test_differences_are_printed_with_a_sign(value: float | None, shown: str) -> None:
    assert words.signed(value) == shown


@pytest.mark.parametrize(
    ("p", "shown"), [(0.0004, "< 0.001"), (0.0456, "0.046"), (1.0, "1.000"), (None, "–")]
)
def test_p_values_are_never_printed_as_zero(p: float | None, shown: str) -> None:
    assert words.p_value(p) == shown


def test_pixels_survive_the_page() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 9), dtype=np.uint8)
    content = base64.b64decode(data_uri(pixels).removeprefix("data:image/png;base64,"))
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), pixels)
