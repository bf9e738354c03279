"""The learning curves of an experiment: loss in training and validation, and validation AUROC.

One line a run, one colour and one marker an arm, so that they can be told apart without colours.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import vl_convert

from api_schemas.training import CurvePoint

FONT = "Arial, 'Liberation Sans', Helvetica, sans-serif"
INK, GRID = "#1b2733", "#e3e8ed"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's, which most eyes tell apart."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-left")
WIDTH_PX, HEIGHT_PX = 300, 220
SCALE = 2.0
"""Pixels of the PNG a point of the figure."""

PANELS = (
    ("loss", "training loss"),
    ("validation_loss", "validation loss"),
    ("auroc", "validation macro AUROC"),
)

Curves = Mapping[tuple[str, int], Sequence[CurvePoint]]
"""Points by arm and seed."""


def learning_curves(title: str, curves: Curves) -> str:
    """SVG text, beside each other the panels of which there are points."""
    return vl_convert.vegalite_to_svg(_chart(title, curves))


def learning_curves_png(title: str, curves: Curves) -> bytes:
    return vl_convert.vegalite_to_png(_chart(title, curves), scale=SCALE)


def _chart(title: str, curves: Curves) -> dict[str, Any]:
    values = [
        {"run": f"{arm}, seed {seed}", "arm": arm, "step": point.step, **_shown(point)}
        for (arm, seed), points in curves.items()
        for point in points
    ]
    arms = list(dict.fromkeys(arm for arm, _ in curves))
    measured = [p for p in PANELS if any(p[0] in value for value in values)] or [PANELS[0]]
    chart = (
        alt.hconcat(*(_panel(name, words, arms) for name, words in measured))
        .properties(data=alt.NamedData(name="curves"), title=title)
        .configure(font=FONT, background="white")
        .configure_axis(labelColor=INK, titleColor=INK, gridColor=GRID, titleFontWeight="normal")
        .configure_legend(labelLimit=400, titleFontWeight="normal")
        .configure_view(stroke=None)
    )
    return {**chart.to_dict(), "datasets": {"curves": values}}


def _shown(point: CurvePoint) -> dict[str, float]:
    known = {name: getattr(point, name) for name, _ in PANELS}
    return {name: value for name, value in known.items() if value is not None}


def _panel(name: str, words: str, arms: list[str]) -> alt.Chart:
    scheme = [COLOURS[i % len(COLOURS)] for i in range(len(arms))]
    shapes = [SHAPES[(i + i // len(COLOURS)) % len(SHAPES)] for i in range(len(arms))]
    return (
        alt.Chart(width=WIDTH_PX, height=HEIGHT_PX)
        .transform_filter(f"isValid(datum.{name})")
        .mark_line(point=alt.OverlayMarkDef(size=18), strokeWidth=1.2)
        .encode(
            alt.X("step:Q", title="step", axis=alt.Axis(format="~s", tickCount=6)),
            alt.Y(f"{name}:Q", title=words, scale=alt.Scale(zero=False)),
            alt.Color("arm:N", sort=arms, scale=alt.Scale(domain=arms, range=scheme)),
            alt.Shape("arm:N", sort=arms, scale=alt.Scale(domain=arms, range=shapes)),
            alt.Detail("run:N"),
        )
    )
