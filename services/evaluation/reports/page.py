"""One HTML page that stands alone: figures and images inside it, nothing loaded, no script."""

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from api_schemas.evaluation import MACRO, PlannedArm, PlanPost, ResultRow
from services.evaluation.reports import figures, words
from services.evaluation.reports.facts import Contact, Kind, Pixels, Report
from services.evaluation.reports.policy import STYLE, TEMPLATES

TESTS_A_TABLE = 3
"""Test sets side by side; more go into a further table, so that it fits on paper."""

BEGIN, END = "<!-- images -->", "<!-- /images -->"
TAKEN_OUT = "The images were taken out: their data has changed since, as when a patient withdraws."

KIND_NAMES: dict[Kind, str] = {
    "real": "Real",
    "phantom": "Phantom",
    "synthetic": "Synthetic",
    "unknown": "Source",
}


@dataclass(frozen=True)
class ArmLine:
    """An arm of the table with its macro row on each test set, in the plan's order."""

    arm: PlannedArm
    role: str
    rows: Sequence[ResultRow]


@dataclass(frozen=True)
class LabelLine:
    """A label with the reference's and the primary's row on each test set."""

    label: str
    pairs: Sequence[tuple[ResultRow, ResultRow]]


def environment() -> Environment:
    """What every page is rendered with: texts of others are escaped, the style is ours."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = Markup(STYLE)  # noqa: S704 - our own file
    made.globals.update(words=words, data_uri=data_uri, kind_names=KIND_NAMES, style=style)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return made


def render(report: Report) -> str:
    return (
        environment()
        .get_template("page.html")
        .render(
            report=report,
            plan=report.plan,
            figures=_figures(report),
            answers=report.comparisons,
            columns=[
                slice(i, i + TESTS_A_TABLE) for i in range(0, len(report.tests), TESTS_A_TABLE)
            ],
            arms=_arm_lines(report.plan, report.rows),
            labels=_label_lines(report.plan, report.rows),
            contact=report.contact if isinstance(report.contact, Contact) else None,
            by_doubling=words.trend_sentences(report),
            phantom=any(t.kind == "phantom" for t in report.tests),
            shown_flags=_shown_flags(report.rows),
        )
    )


def without_images(page: str) -> str:
    """A page as `render` made it, but for the images of its contact sheet.

    The markers are the template's own: text of others is escaped and cannot hold them.
    """
    return re.sub(f"{BEGIN}.*?{END}", f"<p>{TAKEN_OUT}</p>", page, flags=re.DOTALL)


def _figures(report: Report) -> dict[str, Markup]:
    """SVG from the renderer, which escapes every text it is given."""
    drawn = {
        "dose": figures.dose_response(report.plan, report.rows),
        "difference": figures.differences(report.plan, report.rows),
        "label": figures.labels(report.plan, report.rows),
    }
    return {name: Markup(svg) for name, svg in drawn.items()}  # noqa: S704 - see above


def _arm_lines(plan: PlanPost, rows: Sequence[ResultRow]) -> list[ArmLine]:
    macros = {(r.arm, r.test): r for r in rows if r.label == MACRO}
    roles = {plan.primary: "primary", plan.reference: "reference"}
    return [
        ArmLine(arm, roles.get(arm.name, ""), [macros[arm.name, t.name] for t in plan.tests])
        for arm in plan.arms
    ]


def _label_lines(plan: PlanPost, rows: Sequence[ResultRow]) -> list[LabelLine]:
    """One line a label that every test set has."""
    by_key = {(r.label, r.arm, r.test): r for r in rows if r.label != MACRO}
    labels = dict.fromkeys(label for label, _, _ in by_key)
    tests = [t.name for t in plan.tests]
    return [
        LabelLine(
            label,
            [(by_key[label, plan.reference, t], by_key[label, plan.primary, t]) for t in tests],
        )
        for label in labels
        if all((label, plan.primary, t) in by_key for t in tests)
    ]


def _shown_flags(rows: Sequence[ResultRow]) -> list[str]:
    present = {flag for row in rows for flag in row.flags}
    return [
        f"{flag.replace('_', ' ')}: {why}" for flag, why in words.FLAGS.items() if flag in present
    ]


def data_uri(pixels: Pixels) -> str:
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, format="PNG")
    return "data:image/png;base64," + base64.b64encode(sink.getvalue()).decode()
