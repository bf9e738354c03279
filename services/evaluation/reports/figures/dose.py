"""AUROC over the amount of synthetic images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import altair as alt

from api_schemas.evaluation import MACRO, PlanPost, ResultRow
from services.evaluation.reports.figures.sheet import (
    INK,
    MUTED,
    SCALE_PX,
    Sheet,
    colours,
    first_of_row,
    hollow,
    in_rows,
    names_axis,
    padded,
    panel_px,
    room,
    stacked,
    svg,
    title,
)
from services.evaluation.statistics.contrasts import compared_with

PANEL_PX, ROW_PX = 200, 22
AurocAxis = Callable[[str], alt.Y]


def dose_response(plan: PlanPost, rows: Sequence[ResultRow]) -> str:
    """Macro AUROC over supplementation, one panel a test set, 95 % bands.

    Arms with a dose are joined by a line; the reference stands beside its dose as a diamond. Arms
    without a dose, or with one that is of another reference's images, are squares in panels of
    their own below, beside the reference.
    """
    macros = [r for r in rows if r.label == MACRO and r.auroc is not None]
    bounds = [b for r in macros for b in (r.low, r.auroc, r.high) if b is not None]
    domain = padded(min(bounds, default=0.4), max(bounds, default=1.0))
    dosed = _doses(plan)
    undosed = [a.name for a in plan.arms if a.name not in {*dosed, plan.reference}]
    order = [plan.reference, *undosed] if undosed else []
    left_px = max(SCALE_PX, room(order))
    sheet = Sheet()
    places = [
        Place(t.name, domain, panel_px(len(plan.tests), left_px), left_px, first_of_row(i))
        for i, t in enumerate(plan.tests)
    ]
    by_test = [(place, [r for r in macros if r.test == place.test]) for place in places]
    panels = [[_dose_panel(sheet, plan, rows, at) for at, rows in by_test]]
    if undosed:
        panels.append([_undosed_panel(sheet, plan, rows, order, at) for at, rows in by_test])
    in_line = [in_rows(each, bounds="flush") for each in panels]
    return svg(sheet, stacked(in_line, 18), "dose")


@dataclass(frozen=True)
class Place:
    """Where a panel stands. All share the scale `domain` and the room left of the first, so that
    the panels below stand in line; only the first of a row shows numbers and names.
    """

    test: str
    domain: tuple[float, float]
    width_px: int
    left_px: float
    first_of_row: bool


def _doses(plan: PlanPost) -> dict[str, float]:
    """Of the arms that are compared with the plan's reference, and of that itself."""
    along = {*compared_with(plan)[plan.reference], plan.reference}
    return {a.name: a.dose for a in plan.arms if a.dose is not None and a.name in along}


def _dose_panel(
    sheet: Sheet, plan: PlanPost, rows: Sequence[ResultRow], at: Place
) -> alt.LayerChart | alt.FacetChart:
    doses = _doses(plan)
    with_dose = [r for r in rows if r.arm in doses and r.arm != plan.reference]
    reference = [r for r in rows if r.arm == plan.reference]
    y = partial(_auroc_axis, at=at)
    level = sheet.rows(reference).mark_rule(strokeDash=[3, 3], color=MUTED).encode(y=y("auroc"))
    panel = alt.layer(level, *_dose_marks(sheet, plan, with_dose, reference, at.test, y))
    return panel.properties(width=at.width_px, height=PANEL_PX, title=title(at.test))


def _dose_marks(
    sheet: Sheet,
    plan: PlanPost,
    with_dose: Sequence[ResultRow],
    reference: Sequence[ResultRow],
    test: str,
    y: AurocAxis,
) -> list[alt.Chart]:
    """Band, line and points over the dose; the reference as a diamond left of its dose."""
    colour = colours(plan)[test]
    doses = {name: 100 * dose for name, dose in _doses(plan).items()}
    top = max([*doses.values(), 1.0])
    x = alt.X(
        "dose:Q",
        scale=alt.Scale(domain=[-0.09 * top, 1.04 * top], nice=False),
        axis=alt.Axis(
            values=sorted({round(d) for d in doses.values()}),
            labelExpr="datum.value + ' %'",
            labelOverlap=True,
        ),
        title="Synthetic images added (% of real)",
    )
    low, middle = y("low"), y("auroc")
    line = sheet.rows(with_dose, lambda r: {"dose": doses[r.arm]})
    at = doses.get(plan.reference, 0.0) - 0.045 * top
    control = sheet.rows(reference, lambda _: {"dose": at})
    return [
        line.mark_area(opacity=0.16, color=colour).encode(x=x, y=low, y2="high:Q"),
        line.mark_rule(color=colour, strokeWidth=1.5).encode(x=x, y=low, y2="high:Q"),
        line.mark_line(color=colour, strokeWidth=2.5).encode(x=x, y=middle),
        line.mark_point(color=colour, fill=colour, size=55, opacity=1).encode(x=x, y=middle),
        control.mark_rule(color=INK, strokeWidth=1.5).encode(x=x, y=low, y2="high:Q"),
        hollow(control, "diamond", INK).encode(x=x, y=middle),
    ]


def _undosed_panel(
    sheet: Sheet, plan: PlanPost, rows: Sequence[ResultRow], order: list[str], at: Place
) -> alt.LayerChart | alt.FacetChart:
    reference = sheet.rows([r for r in rows if r.arm == plan.reference])
    others = sheet.rows([r for r in rows if r.arm in order[1:]])
    y = alt.Y(
        "arm:N",
        sort=order,
        title=None,
        scale=alt.Scale(domain=order),
        axis=names_axis(order, shown=at.first_of_row),
    )
    x = alt.X(
        "auroc:Q",
        title="Mean AUROC over the labels",
        scale=alt.Scale(domain=list(at.domain), nice=False, zero=False),
        axis=alt.Axis(format=".2f", tickCount=5, grid=False),
    )
    low = alt.X("low:Q")
    panel = alt.layer(
        reference.mark_rule(strokeDash=[3, 3], color=MUTED).encode(x=x),
        reference.mark_rule(color=INK, strokeWidth=1.5).encode(y=y, x=low, x2="high:Q"),
        hollow(reference, "diamond", INK).encode(y=y, x=x),
        others.mark_rule(color=MUTED, strokeWidth=1.5).encode(y=y, x=low, x2="high:Q"),
        hollow(others, "square", MUTED).encode(y=y, x=x),
    )
    return panel.properties(width=at.width_px, height={"step": ROW_PX})


def _auroc_axis(field: str, *, at: Place) -> alt.Y:
    shown = at.first_of_row
    return alt.Y(
        f"{field}:Q",
        title="Mean AUROC over the labels" if shown else None,
        scale=alt.Scale(domain=list(at.domain), nice=False, zero=False),
        axis=alt.Axis(
            format=".2f",
            tickCount=6,
            labels=shown,
            ticks=shown,
            minExtent=at.left_px if shown else alt.Undefined,
            titleX=8 - SCALE_PX if shown else alt.Undefined,
        ),
    )
