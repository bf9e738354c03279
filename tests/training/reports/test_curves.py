"""Learning curves as pictures."""

import io
import xml.etree.ElementTree as ET

import pytest
from PIL import Image

from api_schemas.training import CurvePoint
from services.training.reports import Curve, learning_curves, learning_curves_png
from services.training.reports.curves import A_ROW


def points(best_step: int = 20, **more: float) -> Curve:
    return Curve([CurvePoint(step=n, loss=1 / n, **more) for n in (10, 20, 30)], best_step)


CURVES = {
    ("real", 0): points(auroc=0.7, validation_loss=0.5),
    ("real", 1): points(auroc=0.71, validation_loss=0.5),
    ("real+100%", 0): points(auroc=0.8, validation_loss=0.4),
}


def lines(svg: str) -> int:
    marks = ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}path")  # noqa: S314 - our own
    return sum(mark.get("aria-roledescription") == "line mark" for mark in marks)


def dashes(svg: str) -> set[str | None]:
    marks = ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}path")  # noqa: S314 - our own
    drawn = [m for m in marks if m.get("aria-roledescription") == "line mark"]
    return {mark.get("stroke-dasharray") for mark in drawn}


def test_every_run_is_a_line_in_every_panel() -> None:
    svg = learning_curves("does <it> help?", CURVES)
    assert lines(svg) == 3 * len(CURVES)
    for words in ("training loss", "validation loss", "validation macro AUROC", "real+100%"):
        assert words in svg
    assert "does &lt;it&gt; help?" in svg
    assert "NaN" not in svg


def test_what_nobody_measured_has_no_panel() -> None:
    svg = learning_curves("t", {("a", 0): points()})
    assert lines(svg) == 1
    assert "AUROC" not in svg


def dots(svg: str) -> list[str]:
    marks = ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}path")  # noqa: S314 - our own
    drawn = [m for m in marks if m.get("aria-roledescription") == "point"]
    return [mark.get("aria-label", "") for mark in drawn]


def test_a_dot_marks_the_step_whose_weights_were_kept() -> None:
    told = dots(learning_curves("t", {("a", 0): points(10), ("b", 0): points(30)}))
    steps = sorted(label.split(";")[0] for label in told)
    assert steps == ["step: 10", "step: 30"]


@pytest.mark.parametrize("curves", [{}, {("a", 0): Curve([], None)}])
def test_before_the_first_validation_it_is_an_empty_figure(curves) -> None:
    assert lines(learning_curves("t", curves)) == 0


def test_arms_can_be_told_apart_in_grey() -> None:
    few = {(f"arm{i}", 0): points() for i in range(A_ROW)}
    assert len(dashes(learning_curves("t", few))) == len(few)


def test_many_arms_stand_in_rows_on_the_same_axes() -> None:
    many = {(f"arm{i:02d}", 0): points(auroc=0.5 + i / 100) for i in range(3 * A_ROW)}
    svg = learning_curves("t", many)
    assert lines(svg) == 2 * len(many)  # of loss and of AUROC
    assert len(dashes(svg)) == A_ROW
    assert svg.count(">0.70<") == 3  # a tick of the last row's AUROC, in every row


def test_the_same_as_a_picture() -> None:
    picture = Image.open(io.BytesIO(learning_curves_png("t", CURVES)))
    assert picture.format == "PNG"
    assert picture.width > picture.height
