"""The loss curve of a training as SVG text."""

from collections.abc import Sequence

import altair as alt
import vl_convert

FONT = "Arial, 'Liberation Sans', Helvetica, sans-serif"
LINE, INK, GRID = "#0072b2", "#1b2733", "#e3e8ed"
WIDTH_PX, HEIGHT_PX = 560, 240
POINTS = 2000
"""A longer curve is thinned to about so many points."""


def loss_curve(title: str, losses: Sequence[tuple[int, float]]) -> str:
    """Loss over step, on a logarithmic scale: late in a training little changes that matters."""
    every = 1 + len(losses) // POINTS
    shown = [*losses[:-1:every], *losses[-1:]]
    values = [{"step": step, "loss": loss} for step, loss in shown if loss > 0]
    chart = (
        alt.Chart(alt.NamedData(name="losses"), title=title, width=WIDTH_PX, height=HEIGHT_PX)
        .mark_line(color=LINE, strokeWidth=1.5)
        .encode(
            alt.X("step:Q", title="step", axis=alt.Axis(format="~s", tickCount=8)),
            alt.Y(
                "loss:Q",
                title="mean loss",
                scale=alt.Scale(type="log", nice=False),
                axis=alt.Axis(format="~g"),
            ),
        )
        .configure(font=FONT, background="white")
        .configure_axis(labelColor=INK, titleColor=INK, gridColor=GRID, titleFontWeight="normal")
        .configure_view(stroke=None)
    )
    return vl_convert.vegalite_to_svg({**chart.to_dict(), "datasets": {"losses": values}})
