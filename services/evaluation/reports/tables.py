"""A study's table for a spreadsheet and for a paper: one row for each arm on each test set.

CSV holds every digit, LaTeX the numbers as the page prints them.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from api_schemas.evaluation import MACRO, Comparison, PlannedTest, PlanPost, ResultRow
from services.evaluation.reports import words
from services.evaluation.reports.lines import roles_of

COLUMNS = (
    *("experiment", "test", "arm", "role", "dose", "images", "patients", "seeds"),
    *("auroc", "low", "high", "reference", "difference", "difference_low", "difference_high"),
    *("p", "p_holm", "dof", "verdict", "flags"),
)


@dataclass(frozen=True)
class Study:
    """What the tables are made of; `rows` may hold labels and groups too, which are left out."""

    plan: PlanPost
    plan_digest: str
    method: str
    inputs_digest: str
    rows: Sequence[ResultRow]
    comparisons: Sequence[Comparison]

    def lines(self, test: str) -> Iterator[tuple[str, ResultRow, str]]:
        """Role, result and verdict of every arm that was scored on the test set."""
        verdicts = {c.test: c.verdict for c in self.comparisons}
        roles = roles_of(self.plan)
        for row in self.rows:
            if row.test == test and row.label == MACRO and row.group is None:
                role = roles.get(row.arm, "")
                yield role, row, verdicts.get(test, "") if role == "primary" else ""


def table_csv(study: Study) -> str:
    """An empty cell is a number that cannot honestly be given."""
    doses = {a.name: a.dose for a in study.plan.arms}
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(COLUMNS)
    for test in study.plan.tests:
        for role, row, verdict in study.lines(test.name):
            said = {"role": role, "dose": doses.get(row.arm), "verdict": verdict}
            values = row.model_dump(mode="json") | said
            writer.writerow([cell(values[name]) for name in COLUMNS])
    return sink.getvalue()


def cell(value: Any) -> str:
    """A value as CSV. Numbers as JSON writes them; a text that a spreadsheet would compute gets
    an apostrophe in front.
    """
    if value is None:
        return ""
    if isinstance(value, list):
        return ";".join(value)
    if isinstance(value, str):
        return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else value
    return repr(value)


def table_tex(study: Study) -> str:
    """One table a test set, for `booktabs`."""
    plan = study.plan
    return "\n".join(
        [
            "% \\usepackage{booktabs}",
            f"% Synthorax, experiment {plan.experiment}, method {study.method}",
            f"% plan SHA-256 {study.plan_digest}",
            f"% predictions SHA-256 {study.inputs_digest}",
            *(line for test in plan.tests for line in _table(study, test)),
            "",
        ]
    )


def _table(study: Study, test: PlannedTest) -> list[str]:
    lines = list(study.lines(test.name))
    return [
        "",
        r"\begin{table}",
        r"  \centering",
        f"  \\caption{{{_caption(study, test, [row for _, row, _ in lines])}}}",
        r"  \begin{tabular}{lccc}",
        r"    \toprule",
        r"    Arm & AUROC (95\,\% CI) & Difference (95\,\% CI) & $p$ \\",
        r"    \midrule",
        *(f"    {_line(role, row)} \\\\" for role, row, _ in lines),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]


def _line(role: str, row: ResultRow) -> str:
    name = escaped(row.arm) + (f" ({role})" if role else "")
    auroc = _with_interval(words.auroc(row.auroc), words.interval(row.low, row.high))
    if row.reference is None:
        return f"{name} & {auroc} & & "
    bounds = words.interval(row.difference_low, row.difference_high, sign=True)
    p = words.p_value(row.p)
    if row.p_holm is not None:
        p += f" (Holm {words.p_value(row.p_holm)})"
    difference = _with_interval(words.signed(row.difference), bounds)
    return f"{name} & {auroc} & {difference} & {escaped(p)}"


def _with_interval(value: str, bounds: str) -> str:
    return escaped(value if value == words.NOTHING else f"{value} ({bounds})")


def _caption(study: Study, test: PlannedTest, rows: Sequence[ResultRow]) -> str:
    """The table must be able to stand without the report: it says what was waived too."""
    plan = study.plan
    counts = [
        f"{words.counted(r.images, 'image')} of {words.counted(r.patients, 'patient')},"
        f" {words.counted(r.seeds, 'training seed')}"
        for r in rows[:1]
    ]
    verdict = [
        f"The registered question, {plan.primary} minus {plan.reference}:"
        f" {words.HEADLINES[c.verdict].lower()}."
        for c in study.comparisons
        if c.test == test.name
    ]
    phantom = any("phantom" in r.flags for r in rows)
    synthetic = any("synthetic" in r.flags for r in rows)
    said = [
        f"Mean AUROC over the labels on {test.name} ({', '.join(counts)}).",
        words.compared(plan),
        *verdict,
        *_further(study),
        "All other comparisons are exploratory.",
        *(["Drawn phantoms, not patients."] if phantom else []),
        *(["The test set holds synthetic images."] if synthetic else []),
        *(f"Waived guard: {reason}." for reason in plan.waived),
    ]
    return escaped(" ".join(said))


def _further(study: Study) -> list[str]:
    count = len(study.plan.questions)
    if not count:
        return []
    return [f"{words.counted(count, 'further question')} registered too; the report answers them."]


_TEX = {
    "\\": r"\textbackslash{}",
    **{c: f"\\{c}" for c in "{}$&#_%"},
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": "$<$",
    ">": "$>$",
    words.MINUS: "$-$",
    words.NOTHING: "--",
}


def escaped(text: str) -> str:
    """Text of others as LaTeX that prints it and does nothing else."""
    on_one_line = re.sub(r"[\x00-\x1f\x7f]+", " ", text)
    return "".join(_TEX.get(c, c) for c in on_one_line)
