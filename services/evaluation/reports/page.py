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
from services.evaluation.reports import cautions, figures, words
from services.evaluation.reports.facts import Contact, Kind, Pixels, Report
from services.evaluation.reports.methods import methods
from services.evaluation.reports.policy import STYLE, TEMPLATES
from services.evaluation.statistics.curves import BINS

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
    """An arm of the table with its macro row on each test set, in the plan's order; None where
    it has none.
    """

    arm: PlannedArm
    role: str
    rows: Sequence[ResultRow | None]


@dataclass(frozen=True)
class LabelLine:
    """A label with the reference's and the primary's row on each test set that has it."""

    label: str
    pairs: Sequence[tuple[ResultRow, ResultRow] | None]


@dataclass(frozen=True)
class ByLabel:
    """The curves of every label on one test set."""

    test: str
    roc: Markup | None
    calibration: Markup | None


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
    plan = report.plan
    overall = [r for r in report.rows if r.group is None]
    return (
        environment()
        .get_template("page.html")
        .render(
            report=report,
            plan=plan,
            grave=cautions.grave(report),
            minor=cautions.minor(report),
            methods=methods(report),
            figures=_figures(report, overall),
            by_label=_by_label(report),
            bins=BINS,
            answers=report.comparisons,
            columns=[
                slice(i, i + TESTS_A_TABLE) for i in range(0, len(report.tests), TESTS_A_TABLE)
            ],
            arms=_arm_lines(plan, overall),
            labels=_label_lines(plan, overall),
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


def _figures(report: Report, overall: Sequence[ResultRow]) -> dict[str, Markup | None]:
    plan = report.plan
    return {
        "dose": _trusted(figures.dose_response(plan, overall)),
        "difference": _trusted(figures.differences(plan, overall)),
        "label": _trusted(figures.labels(plan, overall)),
        "roc": _trusted(figures.roc(plan, report.curves)),
        "calibration": _trusted(figures.calibration(plan, report.curves)),
    }


def _by_label(report: Report) -> list[ByLabel]:
    found = [
        ByLabel(
            t.name,
            _trusted(figures.roc_by_label(report.plan, report.curves, t.name)),
            _trusted(figures.calibration_by_label(report.plan, report.curves, t.name)),
        )
        for t in report.plan.tests
    ]
    return [each for each in found if each.roc or each.calibration]


def _trusted(svg: str | None) -> Markup | None:
    """SVG from the renderer, which escapes every text it is given."""
    return None if svg is None else Markup(svg)  # noqa: S704 - see above


def _arm_lines(plan: PlanPost, rows: Sequence[ResultRow]) -> list[ArmLine]:
    macros = {(r.arm, r.test): r for r in rows if r.label == MACRO}
    roles = {plan.primary: "primary", plan.reference: "reference"}
    return [
        ArmLine(arm, roles.get(arm.name, ""), [macros.get((arm.name, t.name)) for t in plan.tests])
        for arm in plan.arms
    ]


def _label_lines(plan: PlanPost, rows: Sequence[ResultRow]) -> list[LabelLine]:
    """One line a label that any test set has."""
    by_key = {(r.label, r.arm, r.test): r for r in rows if r.label != MACRO}

    def pair(label: str, test: str) -> tuple[ResultRow, ResultRow] | None:
        reference = by_key.get((label, plan.reference, test))
        primary = by_key.get((label, plan.primary, test))
        return None if reference is None or primary is None else (reference, primary)

    labels = dict.fromkeys(label for label, _, _ in by_key)
    return [LabelLine(label, [pair(label, t.name) for t in plan.tests]) for label in labels]


def _shown_flags(rows: Sequence[ResultRow]) -> list[str]:
    present = {flag for row in rows for flag in row.flags}
    return [
        f"{flag.replace('_', ' ')}: {why}" for flag, why in words.FLAGS.items() if flag in present
    ]


def data_uri(pixels: Pixels) -> str:
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, format="PNG")
    return "data:image/png;base64," + base64.b64encode(sink.getvalue()).decode()
