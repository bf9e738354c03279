"""What every figure is drawn on: colours, sizes, named data, and the way to SVG."""

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import altair as alt
import vl_convert

from api_schemas.evaluation import PlanPost, ResultRow

FONT = "Arial, 'Liberation Sans', Helvetica, sans-serif"
FONT_PX = 12
INK, MUTED, GRID = "#1b2733", "#5b6b7a", "#e3e8ed"
PALETTE = (
    # Okabe and Ito's colours, told apart by colour-blind readers; beyond eight, tableau20's
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a6a00", "#444444"),
    *("#9c755f", "#bab0ac", "#b6992d", "#499894", "#86bcb6", "#e15759", "#ff9d9a", "#79706e"),
    *("#d37295", "#b07aa1", "#d4a6c8", "#9d7660"),
)
PANELS_A_ROW = 3
PAGE_PX, GAP_PX, WIDEST_PX = 900, 26, 460
"""A figure is as wide as a page of A4 takes without its letters becoming unreadable."""
SCALE_PX = 52
"""Room for a title and numbers left of a panel."""
LETTER_PX, LONGEST_PX = 0.58 * FONT_PX, 230
NUMBERS = ("auroc", "low", "high", "difference", "difference_low", "difference_high")
SIGNED = "datum.value == 0 ? '0' : format(datum.value, '+.3~f')"
"""A Vega expression: a difference of nothing has no sign."""

Panel = alt.HConcatChart | alt.LayerChart | alt.FacetChart


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


def panel_px(panels: int, left_px: float) -> int:
    """The width of each of so many panels, `left_px` going to what stands left of the first."""
    side_by_side = min(panels, PANELS_A_ROW)
    free = PAGE_PX - left_px - GAP_PX * (side_by_side - 1)
    return min(WIDEST_PX, int(free / side_by_side))


def room(names: Sequence[str]) -> float:
    """The width of the longest name, guessed for any font: the renderer measures one of its own,
    and a reader whose font is wider would see names cut.
    """
    return min(float(LONGEST_PX), 14 + LETTER_PX * max(map(len, names), default=0))


def names_axis(names: Sequence[str], *, shown: bool) -> alt.Axis:
    """Names down the left of the first panel of a row; the others have only their lines."""
    return alt.Axis(
        labels=shown,
        ticks=False,
        domain=False,
        grid=True,
        labelLimit=LONGEST_PX,
        minExtent=room(names) if shown else alt.Undefined,
    )


def title(text: str) -> alt.TitleParams:
    return alt.TitleParams(text, color=INK, fontSize=13, anchor="start", frame="group", offset=8)


def first_of_row(index: int) -> bool:
    return index % PANELS_A_ROW == 0


def hollow(chart: alt.Chart, shape: str, colour: str, size: int = 80) -> alt.Chart:
    return chart.mark_point(
        shape=shape, color=colour, fill="white", size=size, strokeWidth=1.8, opacity=1
    )


def padded(low: float, high: float) -> tuple[float, float]:
    pad = 0.06 * max(high - low, 0.01)
    return low - pad, high + pad


def in_rows(
    panels: Sequence[Panel], a_row: int = PANELS_A_ROW, bounds: Literal["full", "flush"] = "full"
) -> alt.VConcatChart:
    """`flush` sets plots in line with those of other rows, whatever stands left of them."""
    rows = [panels[i : i + a_row] for i in range(0, len(panels), a_row)]
    return alt.vconcat(
        *(alt.hconcat(*row, spacing=GAP_PX, bounds=bounds) for row in rows), spacing=GAP_PX
    )


def svg(sheet: Sheet, chart: alt.VConcatChart, name: str, *, alone: bool = False) -> str:
    """SVG with ids that are unique in a page: the renderer's own count up in every figure.

    A figure that stands `alone` tells a screen reader of every mark; inside a page, which says
    what it shows and has the numbers in a table, that would only double its size.
    """
    styled = (
        chart.configure(font=FONT, background="white", aria=alone)
        .configure_axis(
            labelColor=INK,
            titleColor=MUTED,
            titleFontWeight="normal",
            gridColor=GRID,
            domainColor=MUTED,
            tickColor=MUTED,
            labelFontSize=FONT_PX,
            titleFontSize=FONT_PX,
        )
        .configure_view(stroke=None)
    )
    svg = vl_convert.vegalite_to_svg({**styled.to_dict(), "datasets": sheet.datasets})
    return re.sub(r'(id="|url\(#|href="#)(\w+)', rf"\1{name}-\2", svg)
