"""One HTML page that stands alone: figures and images inside it, nothing loaded, no script."""

import base64
import io
import re
from dataclasses import dataclass, replace

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from services.evaluation.reports import cautions, figures, words
from services.evaluation.reports.facts import Contact, Kind, Pixels, Report
from services.evaluation.reports.lines import (
    arm_lines,
    baseline_lines,
    gap_lines,
    label_lines,
    metric_lines,
    too_small,
    training_lines,
)
from services.evaluation.reports.methods import methods
from services.evaluation.reports.policy import STYLE, TEMPLATES
from services.evaluation.statistics.baseline import FEATURES
from services.evaluation.statistics.curves import BINS

TESTS_A_TABLE, TESTS_A_WIDE_TABLE = 3, 2
"""Test sets side by side; more go into a further table, so that it fits on paper."""

BEGIN, END = "<!-- images -->", "<!-- /images -->"
TAKEN_OUT = "The images were taken out: their data has changed since, as when a patient withdraws."

KIND_NAMES: dict[Kind, str] = {
    "real": "Real",
    "phantom": "Phantom",
    "synthetic": "Synthetic",
    "mixed": "Mixed",
    "unknown": "Source",
}


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
    left_out = too_small(report.groups, report.metrics)
    report = replace(
        report,
        groups=[r for r in report.groups if r.group not in left_out],
        metrics=[m for m in report.metrics if m.group not in left_out],
    )
    return (
        environment()
        .get_template("page.html")
        .render(
            report=report,
            plan=plan,
            grave=cautions.grave(report),
            minor=cautions.minor(report),
            methods=methods(report),
            figures=_figures(report),
            by_label=_by_label(report),
            bins=BINS,
            columns=_columns(report, TESTS_A_TABLE),
            wide_columns=_columns(report, TESTS_A_WIDE_TABLE),
            arms=arm_lines(plan, report.rows),
            training=training_lines(plan, report.predictions),
            labels=label_lines(plan, report.rows),
            baselines=baseline_lines(plan, report.baselines, report.rows),
            features=FEATURES,
            metrics=metric_lines(plan, report.metrics),
            gaps=gap_lines(plan, report.metrics),
            left_out=left_out,
            contact=report.contact if isinstance(report.contact, Contact) else None,
            by_doubling=words.trend_sentences(report),
            phantom=any(t.kind == "phantom" for t in report.tests),
            synthetic=any(t.kind in {"synthetic", "mixed"} for t in report.tests),
            shown_flags=_shown_flags(report),
        )
    )


def _columns(report: Report, tests: int) -> list[slice]:
    return [slice(i, i + tests) for i in range(0, len(report.tests), tests)]


def without_images(page: str) -> str:
    """A page as `render` made it, but for the images of its contact sheet.

    The markers are the template's own: text of others is escaped and cannot hold them.
    """
    return re.sub(f"{BEGIN}.*?{END}", f"<p>{TAKEN_OUT}</p>", page, flags=re.DOTALL)


def _figures(report: Report) -> dict[str, Markup | None]:
    plan, rows = report.plan, report.rows
    return {
        "dose": _trusted(figures.dose_response(plan, rows)),
        "difference": _trusted(figures.differences(plan, rows)),
        "label": _trusted(figures.labels(plan, rows)),
        "group": _trusted(figures.groups(plan, report.groups)),
        "gap": _trusted(figures.gaps(plan, report.metrics)),
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


def _shown_flags(report: Report) -> list[str]:
    lines = [*report.rows, *report.groups, *report.metrics, *report.answers]
    present = {flag for line in lines for flag in line.flags}
    return [
        f"{flag.replace('_', ' ')}: {why}" for flag, why in words.FLAGS.items() if flag in present
    ]


def data_uri(pixels: Pixels) -> str:
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, format="PNG")
    return "data:image/png;base64," + base64.b64encode(sink.getvalue()).decode()
