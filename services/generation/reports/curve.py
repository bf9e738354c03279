"""The loss curve of a training as SVG text."""

import math
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
    ticks = axis_values([loss for _, loss in shown if loss > 0])
    chart = (
        alt.Chart(alt.NamedData(name="losses"), title=title, width=WIDTH_PX, height=HEIGHT_PX)
        .mark_line(color=LINE, strokeWidth=1.5)
        .encode(
            alt.X("step:Q", title="step", axis=alt.Axis(format=",d", tickCount=8)),
            alt.Y(
                "loss:Q",
                title="mean loss",
                scale=alt.Scale(type="log", domain=[ticks[0], ticks[-1]]),
                axis=alt.Axis(format="~g", values=ticks),
            ),
        )
        .configure(font=FONT, background="white")
        .configure_axis(labelColor=INK, titleColor=INK, gridColor=GRID, titleFontWeight="normal")
        .configure_view(stroke=None)
    )
    return vl_convert.vegalite_to_svg({**chart.to_dict(), "datasets": {"losses": values}})


def axis_values(losses: Sequence[float]) -> list[float]:
    """1, 2 and 5 of every power of ten, from below all losses to above them."""
    low, high = min(losses, default=0.1), max(losses, default=1.0)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = [float(f"{m}e{power}") for power in powers for m in (1, 2, 5)]
    first = max(i for i, each in enumerate(steps) if each <= low)
    last = min(i for i, each in enumerate(steps) if each >= high)
    return steps[first : max(last, first + 1) + 1]
