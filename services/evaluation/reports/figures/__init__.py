"""Figures as SVG text that can stand inside a page.

Colour marks the test set and nothing else: what an arm is shows in its mark and its line, so that
a figure says the same in grey and on paper.
"""

from services.evaluation.reports.figures.curves import (
    calibration,
    calibration_by_label,
    roc,
    roc_by_label,
)
from services.evaluation.reports.figures.dose import dose_response
from services.evaluation.reports.figures.forest import differences, labels

__all__ = [
    "calibration",
    "calibration_by_label",
    "differences",
    "dose_response",
    "labels",
    "roc",
    "roc_by_label",
]
