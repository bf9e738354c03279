"""ROC and calibration curves of the primary arm beside the reference.

The primary arm is a solid line or filled circles in the test set's colour; the reference a dashed
line, its band between dotted lines, or hollow diamonds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from api_schemas.evaluation import MACRO, PlanPost
from services.evaluation.reports.facts import ArmCurves
from services.evaluation.reports.figures.sheet import (
    GAP_PX,
    INK,
    MUTED,
    PAGE_PX,
    SCALE_PX,
    Sheet,
    colours,
    first_of_row,
    hollow,
    in_rows,
    panel_px,
    svg,
    title,
)
from services.evaluation.statistics.curves import RATES, CalibrationBin, Curves, Roc

LABELS_A_ROW = 4
LABEL_PX = int((PAGE_PX - SCALE_PX - GAP_PX * (LABELS_A_ROW - 1)) / LABELS_A_ROW)
TALLEST_PX = 300


@dataclass(frozen=True)
class Place:
    """Where a panel stands, and in which colour its primary arm is drawn."""

    name: str
    colour: str
    width_px: int
    first_of_row: bool


@dataclass(frozen=True)
class Kind:
    """A kind of curve: its name, where it is found, how a pair of them is drawn."""

    name: str
    of: Callable[[Curves], Mapping[str, Any]]
    draw: Callable[[Sheet, Any, Any, Place], alt.LayerChart | alt.FacetChart]


def roc(plan: PlanPost, found: Sequence[ArmCurves]) -> str | None:
    """The mean of the labels' ROC curves, a panel a test set; None if there is none."""
    return _by_test(ROC, plan, found)


def roc_by_label(plan: PlanPost, found: Sequence[ArmCurves], test: str) -> str | None:
    """A panel a label."""
    return _by_label(ROC, plan, found, test)


def calibration(plan: PlanPost, found: Sequence[ArmCurves]) -> str | None:
    """Observed over predicted frequencies, all labels together; None if there are none."""
    return _by_test(CALIBRATION, plan, found)


def calibration_by_label(plan: PlanPost, found: Sequence[ArmCurves], test: str) -> str | None:
    """A panel a label."""
    return _by_label(CALIBRATION, plan, found, test)


def _by_test(kind: Kind, plan: PlanPost, found: Sequence[ArmCurves]) -> str | None:
    sheet = Sheet()
    width = min(TALLEST_PX, panel_px(len(plan.tests), SCALE_PX))
    pairs = {
        t.name: pair
        for t in plan.tests
        if (pair := _pairs(kind, plan, found, t.name).get(MACRO)) is not None
    }
    panels = [
        kind.draw(sheet, ours, theirs, Place(test, colours(plan)[test], width, first_of_row(i)))
        for i, (test, (ours, theirs)) in enumerate(pairs.items())
    ]
    return svg(sheet, in_rows(panels), kind.name) if panels else None


def _by_label(kind: Kind, plan: PlanPost, found: Sequence[ArmCurves], test: str) -> str | None:
    sheet = Sheet()
    colour = colours(plan)[test]
    pairs = _pairs(kind, plan, found, test)
    pairs.pop(MACRO, None)
    panels = [
        kind.draw(sheet, ours, theirs, Place(label, colour, LABEL_PX, i % LABELS_A_ROW == 0))
        for i, (label, (ours, theirs)) in enumerate(pairs.items())
    ]
    index = [t.name for t in plan.tests].index(test)
    return svg(sheet, in_rows(panels, LABELS_A_ROW), f"{kind.name}-{index}") if panels else None


def _pairs(
    kind: Kind, plan: PlanPost, found: Sequence[ArmCurves], test: str
) -> dict[str, tuple[Any, Any]]:
    """By label the primary arm's curve and the reference's, where both have one."""
    of = {each.arm: kind.of(each.curves) for each in found if each.test == test}
    primary, reference = of.get(plan.primary, {}), of.get(plan.reference, {})
    return {label: (primary[label], reference[label]) for label in primary if label in reference}


def _roc_panel(
    sheet: Sheet, primary: Roc, reference: Roc, place: Place
) -> alt.LayerChart | alt.FacetChart:
    x = alt.X("rate:Q", title="False positive rate", scale=_share(), axis=alt.Axis(tickCount=5))
    y = alt.Y(
        "sensitivity:Q",
        title="Sensitivity" if place.first_of_row else None,
        scale=_share(),
        axis=alt.Axis(tickCount=5),
    )
    chance = sheet.chart([{"rate": 0, "sensitivity": 0}, {"rate": 1, "sensitivity": 1}])
    ours, theirs = sheet.chart(_points(primary)), sheet.chart(_points(reference))
    low, high = alt.Y("low:Q"), alt.Y("high:Q")
    dots: Any = {"color": INK, "strokeWidth": 0.8, "strokeDash": [1, 2]}
    return alt.layer(
        chance.mark_line(color=MUTED, strokeWidth=0.8).encode(x=x, y=y),
        ours.mark_area(opacity=0.2, color=place.colour).encode(x=x, y=low, y2="high:Q"),
        theirs.mark_line(**dots).encode(x=x, y=low),
        theirs.mark_line(**dots).encode(x=x, y=high),
        theirs.mark_line(color=INK, strokeWidth=1.6, strokeDash=[5, 3]).encode(x=x, y=y),
        ours.mark_line(color=place.colour, strokeWidth=2.2).encode(x=x, y=y),
    ).properties(width=place.width_px, height=place.width_px, title=title(place.name))


def _points(curve: Roc) -> list[dict[str, float]]:
    """Rounded to what can be seen: figures stay small."""
    names: dict[str, Any] = {"rate": RATES, "sensitivity": curve.sensitivity}
    if curve.low is not None:
        names |= {"low": curve.low, "high": curve.high}
    return [
        {name: round(float(values[i]), 4) for name, values in names.items()}
        for i in range(len(RATES))
    ]


def _calibration_panel(
    sheet: Sheet,
    primary: Sequence[CalibrationBin],
    reference: Sequence[CalibrationBin],
    place: Place,
) -> alt.LayerChart | alt.FacetChart:
    both = [*primary, *reference]
    top = min(1.0, 1.04 * max(v for b in both for v in (b.predicted, b.observed, b.high or 0)))
    scale = alt.Scale(domain=[0, top], nice=False)
    x = alt.X("predicted:Q", title="Mean score", scale=scale, axis=alt.Axis(tickCount=4))
    y = alt.Y(
        "observed:Q",
        title="Share with the finding" if place.first_of_row else None,
        scale=scale,
        axis=alt.Axis(tickCount=4),
    )
    ideal = sheet.chart([{"predicted": 0, "observed": 0}, {"predicted": top, "observed": top}])
    ours, theirs = sheet.chart(_marks(primary)), sheet.chart(_marks(reference))
    low = alt.Y("low:Q")
    return alt.layer(
        ideal.mark_line(color=MUTED, strokeWidth=0.8).encode(x=x, y=y),
        theirs.mark_rule(color=INK).encode(x=x, y=low, y2="high:Q"),
        theirs.mark_line(color=INK, strokeWidth=1, strokeDash=[5, 3]).encode(x=x, y=y),
        hollow(theirs, "diamond", INK, size=55).encode(x=x, y=y),
        ours.mark_rule(color=place.colour, strokeWidth=1.5).encode(x=x, y=low, y2="high:Q"),
        ours.mark_line(color=place.colour, strokeWidth=1.5).encode(x=x, y=y),
        ours.mark_point(color=place.colour, fill=place.colour, size=40, opacity=1).encode(x=x, y=y),
    ).properties(width=place.width_px, height=place.width_px, title=title(place.name))


def _marks(bins: Sequence[CalibrationBin]) -> list[dict[str, float]]:
    return [
        {"predicted": b.predicted, "observed": b.observed}
        | {n: v for n, v in (("low", b.low), ("high", b.high)) if v is not None}
        for b in bins
    ]


def _share() -> alt.Scale:
    return alt.Scale(domain=[0, 1], nice=False)


ROC = Kind("roc", lambda found: found.roc, _roc_panel)
CALIBRATION = Kind("calibration", lambda found: found.calibration, _calibration_panel)
