"""The learning curves of an experiment: loss in training and validation, and validation AUROC.

One line a run, with a dot at the step whose weights were kept; an arm has a colour and a dash, so
that arms are told apart without colours. Of many arms a few stand in a row of panels, on the axes
of all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import vl_convert

from api_schemas.training import CurvePoint

FONT = "Arial, 'Liberation Sans', Helvetica, sans-serif"
INK, GRID = "#1b2733", "#e3e8ed"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's, which most eyes tell apart."""
DASHES = ([1, 0], [6, 2], [2, 2], [8, 2, 2, 2], [12, 3], [4, 4], [1, 3])
A_ROW = len(COLOURS)
"""Arms in a row of panels."""
WIDTH_PX, HEIGHT_PX = 300, 220
STEPS = alt.Axis(format=",d", tickCount=5)
LEGEND = alt.Legend(symbolType="stroke", symbolSize=900, symbolStrokeWidth=2)
SCALE = 2.0
"""Pixels of the PNG a point of the figure."""

PANELS = (
    ("loss", "training loss"),
    ("validation_loss", "validation loss"),
    ("auroc", "validation macro AUROC"),
)


@dataclass(frozen=True)
class Curve:
    """The validations of a run, and the step whose weights are kept so far."""

    points: Sequence[CurvePoint]
    best_step: int | None


Curves = Mapping[tuple[str, int], Curve]
"""By arm and seed."""


def learning_curves(title: str, curves: Curves) -> str:
    """SVG text, beside each other the panels of which there are points."""
    return vl_convert.vegalite_to_svg(_chart(title, curves))


def learning_curves_png(title: str, curves: Curves) -> bytes:
    return vl_convert.vegalite_to_png(_chart(title, curves), scale=SCALE)


def _chart(title: str, curves: Curves) -> dict[str, Any]:
    values = [
        {"run": f"{arm}, seed {seed}", "arm": arm, "step": point.step, **_shown(point)}
        | {"kept": point.step == curve.best_step}
        for (arm, seed), curve in curves.items()
        for point in curve.points
    ]
    arms = list(dict.fromkeys(arm for arm, _ in curves))
    measured = [p for p in PANELS if any(p[0] in value for value in values)] or [PANELS[0]]
    chart = (
        alt.vconcat(*(_row(arms[at : at + A_ROW], measured, values) for at in _starts(arms)))
        .resolve_scale(color="independent", strokeDash="independent")
        .properties(data=alt.NamedData(name="curves"), title=title)
        .configure(font=FONT, background="white")
        .configure_axis(labelColor=INK, titleColor=INK, gridColor=GRID, titleFontWeight="normal")
        .configure_legend(labelLimit=400, titleFontWeight="normal")
        .configure_view(stroke=None)
    )
    return {**chart.to_dict(), "datasets": {"curves": values}}


def _starts(arms: list[str]) -> range:
    return range(0, max(1, len(arms)), A_ROW)


def _shown(point: CurvePoint) -> dict[str, float]:
    known = {name: getattr(point, name) for name, _ in PANELS}
    return {name: value for name, value in known.items() if value is not None}


def _row(
    arms: list[str], panels: Sequence[tuple[str, str]], values: Sequence[dict[str, Any]]
) -> alt.HConcatChart:
    return alt.hconcat(*(_panel(name, words, arms, values) for name, words in panels))


def _panel(
    name: str, words: str, arms: list[str], values: Sequence[dict[str, Any]]
) -> alt.LayerChart | alt.FacetChart:
    def of_arm(ways: Sequence[Any]) -> alt.Scale:
        return alt.Scale(domain=arms, range=list(ways[: len(arms)]))

    lines = (
        alt.Chart(width=WIDTH_PX, height=HEIGHT_PX)
        .transform_filter(alt.FieldOneOfPredicate("arm", arms))
        .transform_filter(f"isValid(datum.{name})")
        .encode(
            alt.X("step:Q", title="step", scale=_over(values, "step"), axis=STEPS),
            alt.Y(f"{name}:Q", title=words, scale=_over(values, name)),
            alt.Color("arm:N", sort=arms, scale=of_arm(COLOURS), legend=LEGEND),
            alt.Detail("run:N"),
        )
    )
    dash = alt.StrokeDash("arm:N", sort=arms, scale=of_arm(DASHES), legend=LEGEND)
    kept = lines.transform_filter("datum.kept").mark_point(size=24, filled=True, opacity=1)
    return alt.layer(lines.mark_line(strokeWidth=1.2).encode(dash), kept)


def _over(values: Sequence[dict[str, Any]], name: str) -> alt.Scale:
    """The same for every row."""
    known = [value[name] for value in values if name in value]
    if len(set(known)) < 2:  # noqa: PLR2004 - nothing to span
        return alt.Scale(zero=False)
    return alt.Scale(domain=[min(known), max(known)], nice=True, zero=name == "step")
