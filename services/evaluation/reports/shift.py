"""The figure of a comparison: both sets side by side, and the difference with its interval."""

from collections.abc import Sequence

import altair as alt

from api_schemas.shifts import Shift, ShiftRow
from services.evaluation.reports.figures.sheet import INK, MUTED, SIGNED, Sheet, svg
from services.evaluation.reports.words import auroc, interval

TITLES = {
    "finding": "Findings: share of images in which it is present, of those that say",
    "sex": "Sex",
    "age": "Age by decade",
    "race": "Race",
    "ethnicity": "Ethnicity",
    "view": "View",
    "not stated": "Not stated: share of all images",
}
FIRST, SECOND = "#0072b2", "#d55e00"
NAMES_PX = 180
SHARE_PX, DIFFERENCE_PX, ROW_PX = 330, 250, 17


def figure(shift: Shift) -> str:
    """SVG; one panel an attribute. The mean age is a number of its own and is not drawn."""
    sheet = Sheet()
    drawn = [r for r in shift.rows if r.value != "mean"]
    bounds = [abs(100 * b) for r in drawn for b in (r.low, r.difference, r.high) if b is not None]
    reach = 1.06 * max([1.0, *bounds])
    panels = [
        _panel(sheet, title, rows, reach)
        for attribute, title in TITLES.items()
        if (rows := [r for r in drawn if r.attribute == attribute])
    ]
    chart = alt.vconcat(*panels, spacing=18, title=_title(shift))
    return svg(sheet, chart.to_dict(validate=False), "shift", alone=True)


def _title(shift: Shift) -> alt.TitleParams:
    first, second = (
        f"{name}: {s.name} ({s.set.split}), {s.images} images, {s.patients} patients"
        for name, s in (("circles", shift.first), ("diamonds", shift.second))
    )
    return alt.TitleParams(
        "How the second set differs from the first",
        subtitle=[first, second, *_apart(shift), "lines: 95 % intervals, clustered by patient"],
        color=INK,
        subtitleColor=MUTED,
        subtitleFontSize=11,
        fontSize=14,
        anchor="start",
        offset=12,
    )


def _apart(shift: Shift) -> list[str]:
    told = shift.apart
    if told is None:
        return []
    words = (
        f"trivial features of the images alone tell the sets apart: AUROC {auroc(told.auroc)},"
        f" {interval(told.low, told.high)}; most of all {told.features[0].feature}"
    )
    return [words]


def _panel(sheet: Sheet, title: str, rows: Sequence[ShiftRow], reach: float) -> alt.HConcatChart:
    order = [row.value for row in rows]
    left = _shares(sheet, rows, order)
    right = _differences(sheet, rows, order, reach)
    heading = alt.TitleParams(title, color=INK, fontSize=12, anchor="start", offset=4)
    return alt.hconcat(left, right, title=heading, spacing=14)


def _shares(
    sheet: Sheet, rows: Sequence[ShiftRow], order: list[str]
) -> alt.LayerChart | alt.FacetChart:
    """Both sides in percent; the second set's marks lie a little lower."""
    layers: list[alt.Chart] = []
    sides = ((FIRST, "circle", -3, "first"), (SECOND, "diamond", 3, "second"))
    for colour, shape, offset, side in sides:
        told = [(row.value, m) for row in rows if (m := getattr(row, side)) is not None]
        data = sheet.chart(
            [
                {"value": value, "share": 100 * m.value}
                | {n: 100 * b for n, b in (("low", m.low), ("high", m.high)) if b is not None}
                for value, m in told
            ]
        )
        y = alt.Y("value:N", sort=order, scale=alt.Scale(domain=order), title=None, axis=_NAMES)
        x = alt.X("share:Q", title="% of images", scale=alt.Scale(domainMin=0, nice=True))
        layers += [
            data.mark_rule(color=colour, yOffset=offset).encode(y=y, x="low:Q", x2="high:Q"),
            data.mark_point(
                color=colour, fill=colour, shape=shape, size=32, opacity=1, yOffset=offset
            ).encode(y=y, x=x),
        ]
    return alt.layer(*layers).properties(width=SHARE_PX, height={"step": ROW_PX})


def _differences(
    sheet: Sheet, rows: Sequence[ShiftRow], order: list[str], reach: float
) -> alt.LayerChart | alt.FacetChart:
    data = sheet.chart(
        [
            {"value": r.value, "difference": 100 * r.difference}
            | {n: 100 * b for n, b in (("low", r.low), ("high", r.high)) if b is not None}
            for r in rows
            if r.difference is not None
        ]
    )
    axis = alt.Axis(labels=False, ticks=False, domain=False, grid=True)
    y = alt.Y("value:N", sort=order, scale=alt.Scale(domain=order), title=None, axis=axis)
    x = alt.X(
        "difference:Q",
        title="second minus first, percentage points",
        scale=alt.Scale(domain=[-reach, reach], nice=False),
        axis=alt.Axis(labelExpr=SIGNED, tickCount=5, grid=False),
    )
    zero = sheet.chart([{"at": 0}]).mark_rule(color=MUTED).encode(x="at:Q")
    return alt.layer(
        zero,
        data.mark_rule(color=INK).encode(y=y, x="low:Q", x2="high:Q"),
        data.mark_point(color=INK, fill=INK, size=28, opacity=1).encode(y=y, x=x),
    ).properties(width=DIFFERENCE_PX, height={"step": ROW_PX})


_NAMES = alt.Axis(
    ticks=False,
    domain=False,
    labelLimit=NAMES_PX,
    grid=True,
    minExtent=NAMES_PX,
    maxExtent=NAMES_PX,
)
"""Every panel leaves the same room for names, so that all stand in line."""
