"""The tables hold the numbers of the results, and nothing that a reader's program would run."""

import csv
import io
import re
from functools import cache

import pytest

from api_schemas.evaluation import MACRO, Question
from services.evaluation.reports import words
from services.evaluation.reports.facts import Report
from services.evaluation.reports.page import render
from services.evaluation.reports.tables import COLUMNS, Study, cell, escaped, table_csv, table_tex
from tests.evaluation.reports.made import EFFECT, report_of

TESTS = ("internal", "ext_1 & 50%")


@cache
def report() -> Report:
    return report_of(tests=TESTS, kind="phantom", waived=("leakage: of tests.0_a",))


def study_of(made: Report) -> Study:
    return Study(
        made.plan,
        made.plan_digest,
        made.method,
        made.inputs_digest,
        made.rows,
        made.comparisons,
    )


def test_csv_is_the_results_arm_by_arm() -> None:
    lines = list(csv.DictReader(io.StringIO(table_csv(study_of(report())))))
    macros = [r for r in report().rows if r.label == MACRO]
    assert [(line["test"], line["arm"]) for line in lines] == [(r.test, r.arm) for r in macros]
    for line, row in zip(lines, macros, strict=True):
        for name, value in row.model_dump(mode="json").items():
            if name not in COLUMNS:
                continue
            if isinstance(value, float):
                assert float(line[name]) == value  # every digit
            else:
                shown = ";".join(value) if isinstance(value, list) else value
                assert line[name] == ("" if shown is None else str(shown))
    primary = [line for line in lines if line["role"] == "primary"]
    assert [p["verdict"] for p in primary] == [c.verdict for c in report().comparisons]
    assert {p["dose"] for p in primary} == {"3.0"}
    assert all(line["verdict"] == "" for line in lines if line["role"] != "primary")


def test_every_arm_is_beside_its_own_reference_everywhere() -> None:
    own = {"real": "real", "shuffled": "real"}
    question = Question(arm="shuffled", reference="real", kind="superiority")
    made = report_of(references=own, questions=(question,))
    lines = {line["arm"]: line for line in csv.DictReader(io.StringIO(table_csv(study_of(made))))}
    assert (lines["shuffled"]["reference"], lines["real+100%"]["reference"]) == (
        "real",
        "real_equal_steps",
    )
    assert [lines[arm]["role"] for arm in ("real", "real_equal_steps")] == ["reference"] * 2
    said = "Differences are to real_equal_steps; of shuffled to real."
    tex, page = table_tex(study_of(made)), render(made)
    assert said.replace("_", r"\_") in tex
    assert "1 further question registered too" in tex
    assert page.count(said) == 3  # of the figure, of the table, in the methods
    assert page.count("minus real<") == 1


def test_rows_of_groups_are_not_in_it() -> None:
    extra = [r.model_copy(update={"group": "sex: Female"}) for r in report().rows]
    study = study_of(report())
    more = Study(**{**vars(study), "rows": [*study.rows, *extra]})
    assert table_csv(more) == table_csv(study)


def test_no_cell_is_a_formula() -> None:
    for text in ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"):
        assert cell(text).startswith("'")
    assert (cell("real+100%"), cell(-0.5), cell(None)) == ("real+100%", "-0.5", "")


def balanced(tex: str) -> bool:
    """Every brace closes and every environment ends in the order in which it began."""
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", tex):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    open_: list[str] = []
    for which, name in re.findall(r"\\(begin|end)\{(\w+)\}", tex):
        if which == "begin":
            open_.append(name)
        elif not open_ or open_.pop() != name:
            return False
    return depth == 0 and not open_


def body_of(tex: str) -> list[str]:
    return [line.strip() for line in tex.splitlines() if line.strip().endswith(r"\\")]


def test_latex_is_balanced_and_has_as_many_cells_in_every_row() -> None:
    tex = table_tex(study_of(report()))
    assert balanced(tex)
    lines = body_of(tex)
    assert len(lines) == len(TESTS) * (1 + len(EFFECT))
    for line in lines:
        assert len(re.findall(r"(?<!\\)&", line)) == 3
    for line in tex.splitlines():
        assert re.search(r"(?<!\\)[#_^~]", line.split("%", maxsplit=1)[0]) is None, line


def test_latex_has_the_numbers_of_the_page() -> None:
    tex = table_tex(study_of(report()))
    for row in (r for r in report().rows if r.label == MACRO):
        assert f"{words.auroc(row.auroc)} ({words.interval(row.low, row.high)})" in tex
        if row.difference is not None:
            assert escaped(words.signed(row.difference)) in tex
    for word in ("a" * 64, "b" * 64, "Drawn phantoms", "Waived guard: leakage", "better"):
        assert word in tex


def test_what_is_not_estimable_is_a_dash() -> None:
    tex = table_tex(study_of(report_of(nothing_known=True)))
    assert balanced(tex)
    lines = [line for line in body_of(tex) if not line.startswith("Arm &")]
    assert all(" & -- & " in line for line in lines)
    assert "None" not in tex
    assert "nan" not in tex


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("a_b", r"a\_b"),
        ("50% & {x}", r"50\% \& \{x\}"),
        (r"\input{/etc/passwd}", r"\textbackslash{}input\{/etc/passwd\}"),
        ("a\n\\end{table}", r"a \textbackslash{}end\{table\}"),
        ("^~#$", r"\textasciicircum{}\textasciitilde{}\#\$"),
        ("\N{MINUS SIGN}0.010", "$-$0.010"),
        ("p < 0.001", "p $<$ 0.001"),
    ],
)
def test_text_of_others_is_printed_and_does_nothing(text: str, printed: str) -> None:
    assert escaped(text) == printed
