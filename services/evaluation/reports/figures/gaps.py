"""Gaps between groups, of the primary arm beside the reference."""

from collections.abc import Sequence
from typing import Any

import altair as alt

from api_schemas.evaluation import MACRO, MetricRow, PlanPost
from services.evaluation.reports.figures.sheet import (
    INK,
    MUTED,
    SIGNED,
    Sheet,
    colours,
    first_of_row,
    hollow,
    in_rows,
    names_axis,
    padded,
    panel_px,
    room,
    svg,
    title,
)

ROW_PX = 26
ASIDE_PX = 5
"""The reference lies a little below the primary arm."""


def gaps(plan: PlanPost, rows: Sequence[MetricRow]) -> str | None:
    """Macro AUROC of each group minus the largest of its attribute, 95 % intervals, a panel a
    test set; None where there are no groups. Filled circles are the primary arm, hollow diamonds
    the reference.
    """
    shown = [
        r
        for r in rows
        if r.metric == "auroc_gap" and r.label == MACRO and r.arm in {plan.primary, plan.reference}
    ]
    order = list(dict.fromkeys(r.group or "" for r in shown))
    known = [r for r in shown if r.value is not None]
    if not order:
        return None
    bounds = [b for r in known for b in (r.low, r.value, r.high) if b is not None]
    domain = padded(min([*bounds, -0.01]), max([*bounds, 0.01]))
    sheet = Sheet()
    panels = [
        _panel(sheet, plan, [r for r in known if r.test == t.name], order, domain, i)
        for i, t in enumerate(plan.tests)
    ]
    return svg(sheet, in_rows(panels), "gap")


def _panel(
    sheet: Sheet,
    plan: PlanPost,
    rows: Sequence[MetricRow],
    order: list[str],
    domain: tuple[float, float],
    index: int,
) -> alt.LayerChart | alt.FacetChart:
    test = plan.tests[index].name
    colour = colours(plan)[test]
    y = alt.Y(
        "group:N",
        sort=order,
        title=None,
        scale=alt.Scale(domain=order),
        axis=names_axis(order, shown=first_of_row(index)),
    )
    x = alt.X(
        "value:Q",
        title="AUROC minus the largest group's",
        scale=alt.Scale(domain=list(domain), nice=False),
        axis=alt.Axis(labelExpr=SIGNED, tickCount=5, grid=False),
    )
    low = alt.X("low:Q")
    ours = sheet.chart([_mark(r) for r in rows if r.arm == plan.primary])
    theirs = sheet.chart([_mark(r) for r in rows if r.arm == plan.reference])
    up, down = -ASIDE_PX, ASIDE_PX
    return alt.layer(
        sheet.chart([{"at": 0}]).mark_rule(color=MUTED).encode(x="at:Q"),
        theirs.mark_rule(color=INK, yOffset=down).encode(y=y, x=low, x2="high:Q"),
        hollow(theirs, "diamond", INK, size=45, y_offset=down).encode(y=y, x=x),
        ours.mark_rule(color=colour, strokeWidth=2, yOffset=up).encode(y=y, x=low, x2="high:Q"),
        ours.mark_point(color=colour, fill=colour, size=40, opacity=1, yOffset=up).encode(y=y, x=x),
    ).properties(
        width=panel_px(len(plan.tests), room(order)), height={"step": ROW_PX}, title=title(test)
    )


def _mark(row: MetricRow) -> dict[str, Any]:
    """A bound that is not known is left out, and so is its line."""
    known = {n: v for n in ("value", "low", "high") if (v := getattr(row, n)) is not None}
    return {"group": row.group or "", **known}
