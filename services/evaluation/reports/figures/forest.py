"""Differences to the reference with their intervals, a line each."""

from collections.abc import Sequence

import altair as alt

from api_schemas.evaluation import MACRO, PlanPost, ResultRow
from services.evaluation.reports.figures.sheet import (
    MUTED,
    SIGNED,
    Sheet,
    colours,
    first_of_row,
    in_rows,
    names_axis,
    padded,
    panel_px,
    room,
    svg,
    title,
)
from services.evaluation.statistics.contrasts import reference_of

BAND = "#d5dce3"
ROW_PX = 22


def differences(plan: PlanPost, rows: Sequence[ResultRow]) -> str:
    """Macro AUROC of every supplemented arm minus its reference, 95 % intervals, per test set.

    The grey band is the registered margin: differences inside it do not matter.
    """
    supplemented = [
        a.name
        for a in plan.arms
        if (a.dose or a.name == plan.primary) and reference_of(plan, a) is not None
    ]
    shown = [r for r in rows if r.label == MACRO and r.arm in supplemented]
    return _forest(plan, shown, by="arm", order=supplemented, name="difference")


def labels(plan: PlanPost, rows: Sequence[ResultRow]) -> str:
    """AUROC of the primary arm minus the reference for every label, per test set."""
    shown = [r for r in rows if r.label != MACRO and r.arm == plan.primary]
    order = list(dict.fromkeys(r.label for r in shown))
    return _forest(plan, shown, by="label", order=order, name="label")


def groups(plan: PlanPost, rows: Sequence[ResultRow]) -> str | None:
    """Macro AUROC of the primary arm minus the reference inside each group; None without groups."""
    shown = [r for r in rows if r.label == MACRO and r.arm == plan.primary and r.group is not None]
    order = list(dict.fromkeys(r.group or "" for r in shown))
    return _forest(plan, shown, by="group", order=order, name="group") if order else None


def _forest(
    plan: PlanPost, rows: Sequence[ResultRow], *, by: str, order: list[str], name: str
) -> str:
    known = [r for r in rows if r.difference is not None]
    bounds = [
        b
        for r in known
        for b in (r.difference_low, r.difference, r.difference_high)
        if b is not None
    ]
    low, high = padded(min([*bounds, -plan.margin]), max([*bounds, plan.margin]))
    sheet = Sheet()
    panels = [
        _panel(
            sheet, plan, [r for r in known if r.test == t.name], t.name, by, order, (low, high), i
        )
        for i, t in enumerate(plan.tests)
    ]
    return svg(sheet, in_rows(panels), name)


def _panel(
    sheet: Sheet,
    plan: PlanPost,
    rows: Sequence[ResultRow],
    test: str,
    by: str,
    order: list[str],
    domain: tuple[float, float],
    index: int,
) -> alt.LayerChart | alt.FacetChart:
    colour = colours(plan)[test]
    y = alt.Y(
        f"{by}:N",
        sort=order,
        title=None,
        scale=alt.Scale(domain=order),
        axis=names_axis(order, shown=first_of_row(index)),
    )
    x = alt.X(
        "difference_low:Q",
        title="AUROC difference",
        scale=alt.Scale(domain=list(domain), nice=False),
        axis=alt.Axis(labelExpr=SIGNED, tickCount=5, grid=False),
    )
    data = sheet.rows(rows)
    margin = sheet.chart([{"low": -plan.margin, "high": plan.margin}])
    zero = sheet.chart([{"at": 0}])
    panel = alt.layer(
        margin.mark_rect(color=BAND).encode(x=alt.X("low:Q"), x2="high:Q"),
        zero.mark_rule(color=MUTED).encode(x="at:Q"),
        data.mark_rule(color=colour, strokeWidth=2).encode(y=y, x=x, x2="difference_high:Q"),
        data.mark_point(color=colour, fill=colour, size=45, opacity=1).encode(
            y=y, x="difference:Q"
        ),
    )
    return panel.properties(
        width=panel_px(len(plan.tests), room(order)), height={"step": ROW_PX}, title=title(test)
    )
