"""Figures as SVG text that can stand inside a page.

Colour marks the test set; what an arm is shows in its mark, so that nothing depends on colour.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import altair as alt
import vl_convert

from api_schemas.evaluation import MACRO, PlanPost, ResultRow

FONT = "Arial, 'Liberation Sans', Helvetica, sans-serif"
INK, MUTED, GRID = "#1b2733", "#5b6b7a", "#e3e8ed"
PALETTE = (
    # Okabe and Ito's colours, told apart by colour-blind readers; beyond eight, tableau20's
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a6a00", "#444444"),
    *("#9c755f", "#bab0ac", "#b6992d", "#499894", "#86bcb6", "#e15759", "#ff9d9a", "#79706e"),
    *("#d37295", "#b07aa1", "#d4a6c8", "#9d7660"),
)
AurocAxis = Callable[[str], alt.Y]
PANELS_A_ROW = 3
PANEL_PX = 200
BAND = "#d5dce3"
NUMBERS = ("auroc", "low", "high", "difference", "difference_low", "difference_high")
SIGNED = "datum.value == 0 ? '0' : format(datum.value, '+.3~f')"
"""A Vega expression: a difference of nothing has no sign."""


class Sheet:
    """The data of one figure by name; charts refer to it, for nested charts copy what they hold."""

    def __init__(self) -> None:
        self.datasets: dict[str, list[dict[str, Any]]] = {}

    def chart(self, values: list[dict[str, Any]]) -> alt.Chart:
        name = f"data-{len(self.datasets)}"
        self.datasets[name] = values
        return alt.Chart(alt.NamedData(name=name))

    def rows(
        self,
        rows: Sequence[ResultRow],
        also: Callable[[ResultRow], dict[str, float]] = lambda _: {},
    ) -> alt.Chart:
        """A chart of result lines; what is not known is left out, and so is its mark."""
        return self.chart(
            [
                {"arm": r.arm, "label": r.label}
                | {n: v for n in NUMBERS if (v := getattr(r, n)) is not None}
                | also(r)
                for r in rows
            ]
        )


def colours(plan: PlanPost) -> dict[str, str]:
    """Test set to colour, the same in every figure."""
    return {t.name: PALETTE[i % len(PALETTE)] for i, t in enumerate(plan.tests)}


def dose_response(plan: PlanPost, rows: Sequence[ResultRow]) -> str:
    """Macro AUROC over supplementation, one panel a test set, 95 % bands.

    Arms with a dose are joined by a line; the reference stands beside 0 % as a diamond, arms
    without a dose to the right as squares.
    """
    macros = [r for r in rows if r.label == MACRO and r.auroc is not None]
    bounds = [b for r in macros for b in (r.low, r.auroc, r.high) if b is not None]
    domain = _padded(min(bounds, default=0.4), max(bounds, default=1.0))
    sheet = Sheet()
    panels = [
        _dose_panel(sheet, plan, [r for r in macros if r.test == t.name], t.name, domain, index)
        for index, t in enumerate(plan.tests)
    ]
    return svg(sheet, _in_rows(panels), "dose")


def _dose_panel(
    sheet: Sheet,
    plan: PlanPost,
    rows: Sequence[ResultRow],
    test: str,
    domain: tuple[float, float],
    index: int,
) -> alt.HConcatChart:
    doses = {a.name: a.dose for a in plan.arms}
    with_dose = [r for r in rows if doses[r.arm] is not None and r.arm != plan.reference]
    without = [r for r in rows if doses[r.arm] is None and r.arm != plan.reference]
    reference = [r for r in rows if r.arm == plan.reference]
    first = index % PANELS_A_ROW == 0
    title_y = "Mean AUROC over the labels" if first else None
    y = partial(_auroc_axis, domain=domain, title=title_y)
    left = alt.layer(
        _level(sheet, reference, y), *_dose_marks(sheet, plan, with_dose, reference, test, y)
    )
    left = left.properties(width=_width(plan, {1: 440, 2: 290, 3: 212}), height=PANEL_PX)
    title = alt.TitleParams(test, color=INK, fontSize=13, anchor="start", offset=8)
    if not without:
        return alt.hconcat(left, title=title)
    bare = partial(_auroc_axis, domain=domain, labels=False)
    right = alt.layer(_level(sheet, reference, bare), *_beside_marks(sheet, without, bare))
    right = right.properties(width=27 * len(without), height=PANEL_PX)
    return alt.hconcat(left, right, title=title, spacing=10, bounds="flush")


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
    doses = {a.name: 100 * a.dose for a in plan.arms if a.dose is not None}
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
        _hollow(control, "diamond", INK).encode(x=x, y=middle),
    ]


def _level(sheet: Sheet, reference: Sequence[ResultRow], y: AurocAxis) -> alt.Chart:
    """The reference's AUROC as a dashed line through the panel."""
    data = sheet.rows(reference)
    return data.mark_rule(strokeDash=[3, 3], color=MUTED).encode(y=y("auroc"))


def _beside_marks(sheet: Sheet, rows: Sequence[ResultRow], y: AurocAxis) -> list[alt.Chart]:
    data = sheet.rows(rows)
    x = alt.X(
        "arm:N",
        title=None,
        sort=None,
        axis=alt.Axis(labelAngle=-90, labelLimit=120, domain=False, ticks=False, grid=False),
    )
    return [
        data.mark_rule(color=MUTED, strokeWidth=1.5).encode(x=x, y=y("low"), y2="high:Q"),
        _hollow(data, "square", MUTED).encode(x=x, y=y("auroc")),
    ]


def _hollow(chart: alt.Chart, shape: str, colour: str) -> alt.Chart:
    return chart.mark_point(
        shape=shape, color=colour, fill="white", size=80, strokeWidth=1.8, opacity=1
    )


def differences(plan: PlanPost, rows: Sequence[ResultRow]) -> str:
    """Macro AUROC of every supplemented arm minus the reference, 95 % intervals, per test set.

    The grey band is the registered margin: differences inside it do not matter.
    """
    supplemented = [a.name for a in plan.arms if a.dose or a.name == plan.primary]
    shown = [
        r for r in rows if r.label == MACRO and r.arm in supplemented and r.arm != plan.reference
    ]
    return _forest(plan, shown, by="arm", order=supplemented, name="difference")


def labels(plan: PlanPost, rows: Sequence[ResultRow]) -> str:
    """AUROC of the primary arm minus the reference for every label, per test set."""
    shown = [r for r in rows if r.label != MACRO and r.arm == plan.primary]
    order = list(dict.fromkeys(r.label for r in shown))
    return _forest(plan, shown, by="label", order=order, name="label")


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
    low, high = _padded(min([*bounds, -plan.margin]), max([*bounds, plan.margin]))
    sheet = Sheet()
    panels = [
        _forest_panel(
            sheet, plan, [r for r in known if r.test == t.name], t.name, by, order, (low, high), i
        )
        for i, t in enumerate(plan.tests)
    ]
    return svg(sheet, _in_rows(panels), name)


def _forest_panel(
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
        axis=alt.Axis(
            labels=index % PANELS_A_ROW == 0, ticks=False, domain=False, labelLimit=190, grid=True
        ),
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
        width=_width(plan, {1: 520, 2: 320, 3: 250}),
        height={"step": 22},
        title=alt.TitleParams(test, color=INK, fontSize=13, anchor="start", offset=8),
    )


def _auroc_axis(
    field: str, *, domain: tuple[float, float], title: str | None = None, labels: bool = True
) -> alt.Y:
    return alt.Y(
        f"{field}:Q",
        title=title,
        scale=alt.Scale(domain=list(domain), nice=False, zero=False),
        axis=alt.Axis(format=".2f", labels=labels, ticks=labels, domain=labels, tickCount=6),
    )


def _width(plan: PlanPost, by_panels: dict[int, int]) -> int:
    return by_panels[min(len(plan.tests), PANELS_A_ROW)]


def _padded(low: float, high: float) -> tuple[float, float]:
    pad = 0.06 * max(high - low, 0.01)
    return low - pad, high + pad


def _in_rows(
    panels: Sequence[alt.HConcatChart | alt.LayerChart | alt.FacetChart],
) -> alt.VConcatChart:
    rows = [panels[i : i + PANELS_A_ROW] for i in range(0, len(panels), PANELS_A_ROW)]
    return alt.vconcat(*(alt.hconcat(*row, spacing=26) for row in rows), spacing=26)


def svg(sheet: Sheet, chart: alt.VConcatChart, name: str) -> str:
    """SVG with ids that are unique in a page: the renderer's own count up in every figure."""
    styled = (
        chart.configure(font=FONT, background="white")
        .configure_axis(
            labelColor=INK,
            titleColor=MUTED,
            titleFontWeight="normal",
            gridColor=GRID,
            domainColor=MUTED,
            tickColor=MUTED,
            labelFontSize=11,
            titleFontSize=11,
        )
        .configure_view(stroke=None)
    )
    svg = vl_convert.vegalite_to_svg({**styled.to_dict(), "datasets": sheet.datasets})
    return re.sub(r'(id="|url\(#|href="#)(\w+)', rf"\1{name}-\2", svg)
