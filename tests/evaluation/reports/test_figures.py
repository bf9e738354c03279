"""Figures hold a mark for every number there is, none for what is not, and no markup of others."""

import re
from collections.abc import Callable
from functools import cache
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from api_schemas.evaluation import MACRO, PlanPost
from services.evaluation.reports import figures
from services.evaluation.reports.facts import ArmCurves, Report
from services.evaluation.reports.figures.sheet import PAGE_PX, SCALE_PX, panel_px, room
from services.evaluation.statistics.curves import RATES, CalibrationBin, Curves, Roc
from tests.evaluation.reports.made import report_of

TESTS = ("internal", "external")
Drawn = Callable[[Report], str | None]
DRAWN: dict[str, Drawn] = {
    "dose": lambda r: figures.dose_response(r.plan, r.rows),
    "difference": lambda r: figures.differences(r.plan, r.rows),
    "label": lambda r: figures.labels(r.plan, r.rows),
    "group": lambda r: figures.groups(r.plan, r.groups),
    "gap": lambda r: figures.gaps(r.plan, r.metrics),
    "roc": lambda r: figures.roc(r.plan, r.curves),
    "calibration": lambda r: figures.calibration(r.plan, r.curves),
    "roc-1": lambda r: figures.roc_by_label(r.plan, r.curves, TESTS[1]),
    "calibration-1": lambda r: figures.calibration_by_label(r.plan, r.curves, TESTS[1]),
}


HOSTILE = '<b onload="x">&site'


@cache
def report() -> Report:
    return report_of(tests=TESTS)


@cache
def hostile_report() -> Report:
    return report_of(tests=("internal", HOSTILE))


def marks(svg: str, kind: str) -> list[ET.Element]:
    """The drawn elements of a kind: symbol, rule, line, area, rect."""
    found: list[ET.Element] = []
    for group in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}g"):  # noqa: S314 - our own
        if f"mark-{kind} role-mark" in group.get("class", ""):
            found += list(group)
    return found


def texts(svg: str) -> list[str]:
    root = ET.fromstring(svg)  # noqa: S314 - our own
    return [t.text or "" for t in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_is_well_formed_and_without_holes(name: str) -> None:
    svg = DRAWN[name](report())
    assert svg is not None
    ET.fromstring(svg)  # noqa: S314 - our own
    assert not re.search(r"NaN|undefined|Infinity|null", svg)
    assert set(re.findall(r'\sid="(\w+)-', svg)) <= {name.split("-", 1)[0]}


@pytest.mark.parametrize("name", DRAWN)
def test_names_are_text(name: str) -> None:
    made = hostile_report()
    if name.endswith("-1"):
        draw = {"roc": figures.roc_by_label, "calibration": figures.calibration_by_label}
        svg = draw[name.split("-", maxsplit=1)[0]](made.plan, made.curves, HOSTILE)
    else:
        svg = DRAWN[name](made)
    assert svg is not None
    ET.fromstring(svg)  # noqa: S314 - our own
    assert "<b " not in svg


def test_every_arm_has_its_mark() -> None:
    """Three doses; the reference in both rows of panels; one arm without a dose."""
    svg = DRAWN["dose"](report())
    assert len(marks(svg, "symbol")) == 2 * (3 + 1 + 2)
    assert len(marks(svg, "area")) == 2
    assert {"real_equal_steps", "shuffled", *TESTS} <= set(texts(svg))


def test_names_lie_flat_and_have_room_for_wider_letters() -> None:
    svg = DRAWN["dose"](report())
    rotated = re.findall(r"<text[^>]*rotate[^>]*>([^<]*)", svg)
    assert rotated == ["Mean AUROC over the labels"]
    assert room(["real_equal_steps"]) > 16 * 6.6  # a wide font at 12 px, as DejaVu Sans


def test_panels_fit_on_a_page() -> None:
    for panels in (1, 2, 3, 7):
        side_by_side = min(panels, 3)
        assert SCALE_PX + side_by_side * panel_px(panels, SCALE_PX) <= PAGE_PX


def test_a_forest_has_a_line_for_every_difference() -> None:
    assert len(marks(DRAWN["difference"](report()), "symbol")) == 2 * 2  # supplemented arms
    assert len(marks(DRAWN["label"](report()), "symbol")) == 2 * 2  # labels
    assert len(marks(DRAWN["label"](report()), "rect")) == 2  # the margin


def test_groups_have_a_line_each_and_gaps_one_of_both_arms() -> None:
    assert len(marks(DRAWN["group"](report()), "symbol")) == 2 * 2  # women and men
    gaps = marks(DRAWN["gap"](report()), "symbol")
    assert len(gaps) == 2 * 2  # women minus men, of both arms
    assert [m.get("fill") for m in gaps].count("white") == 2
    assert len(marks(DRAWN["gap"](report()), "rule")) == 2 * (1 + 2)


def test_a_gap_without_an_interval_is_a_mark_alone() -> None:
    bare = [m.model_copy(update={"low": None, "high": None}) for m in report().metrics]
    svg = figures.gaps(report().plan, bare)
    assert len(marks(svg, "symbol")) == 2 * 2
    assert not re.search(r"NaN|undefined|Infinity", svg)


def test_without_groups_there_is_no_figure_of_them() -> None:
    assert figures.groups(report().plan, []) is None
    assert figures.gaps(report().plan, []) is None


def test_what_is_not_known_has_no_mark() -> None:
    made = report_of(tests=TESTS, one_class=True)
    nothing = report_of(tests=TESTS, nothing_known=True)
    assert marks(DRAWN["dose"](nothing), "symbol") == []
    assert len(marks(DRAWN["label"](made), "symbol")) == 2  # one label of two
    assert len(marks(DRAWN["roc"](made), "area")) == 2  # the mean is over the other label
    assert DRAWN["roc"](nothing) is None
    assert DRAWN["calibration"](nothing) is None
    assert len(marks(DRAWN["roc-1"](made), "area")) == 1


def test_an_arm_without_rows_leaves_its_place_empty() -> None:
    rows = [r for r in report().rows if r.arm != "shuffled"]
    assert len(marks(figures.dose_response(report().plan, rows), "symbol")) == 2 * (3 + 1 + 1)


def curve_of(plan: PlanPost, *, band: bool = True) -> list[ArmCurves]:
    """Both arms on the first test set: a straight ROC curve, three bins."""
    limits = (RATES * 0.9, np.minimum(1.0, RATES * 1.1)) if band else (None, None)
    bins = [CalibrationBin(p, p / 2, None if p == 0.1 else 0.0, 0.9, 9) for p in (0.1, 0.3, 0.8)]
    found = Curves({MACRO: Roc(RATES, *limits)}, {MACRO: bins})
    return [ArmCurves(plan.tests[0].name, arm, found) for arm in (plan.primary, plan.reference)]


def test_curves_are_drawn_as_they_are() -> None:
    plan = report().plan
    svg = figures.roc(plan, curve_of(plan))
    (area,) = marks(svg, "area")
    assert area.get("d", "").count("L") == 2 * len(RATES) - 1
    lines = marks(svg, "line")
    assert len(lines) == 1 + 2 + 2  # chance, the reference's limits, both curves
    dashes = {line.get("stroke-dasharray") for line in lines}
    assert dashes == {None, "5,3", "1,2"}  # told apart without colour


def test_bins_are_marks_with_intervals() -> None:
    plan = report().plan
    svg = figures.calibration(plan, curve_of(plan))
    assert len(marks(svg, "symbol")) == 2 * 3
    upright = [r for r in marks(svg, "rule") if float(r.get("y2", 0)) != 0]
    assert len(upright) == 2 * 2
    assert {m.get("fill") for m in marks(svg, "symbol")} == {"white", "#0072b2"}


def test_a_curve_without_a_band_is_a_line() -> None:
    plan = report().plan
    svg = figures.roc(plan, curve_of(plan, band=False))
    ET.fromstring(svg)  # noqa: S314 - our own
    assert not re.search(r"NaN|undefined|Infinity", svg)


def test_one_arm_alone_is_not_compared() -> None:
    plan = report().plan
    assert figures.roc(plan, curve_of(plan)[:1]) is None
    assert figures.roc(plan, []) is None
