"""Use cases of evaluation: plans and predictions come in, answers go out, a job lies between;
and what looks at any two sets of images or takes one out.
"""

from services.evaluation.service.absences import Absences
from services.evaluation.service.answers import Answers
from services.evaluation.service.completion import EVALUATE, QUEUE
from services.evaluation.service.evaluations import JUDGE, Evaluations, Judge
from services.evaluation.service.exports import Exports, Verify
from services.evaluation.service.features import FeatureTables, GivenTables
from services.evaluation.service.intake import Intake
from services.evaluation.service.keeping import (
    EVALUATION,
    EXPORT,
    FEATURES,
    KEPT,
    NAMED,
    OVERLAP,
    QUALITY,
)
from services.evaluation.service.measuring import MeasureQuality
from services.evaluation.service.overlaps import FindOverlap, Overlaps
from services.evaluation.service.particulars import Details
from services.evaluation.service.qualities import Qualities
from services.evaluation.service.recomputations import Recomputations
from services.evaluation.service.shifts import Shifts
from services.evaluation.service.stock import Stock

__all__ = [
    "EVALUATE",
    "EVALUATION",
    "EXPORT",
    "FEATURES",
    "JUDGE",
    "KEPT",
    "NAMED",
    "OVERLAP",
    "QUALITY",
    "QUEUE",
    "Absences",
    "Answers",
    "Details",
    "Evaluations",
    "Exports",
    "FeatureTables",
    "FindOverlap",
    "GivenTables",
    "Intake",
    "Judge",
    "MeasureQuality",
    "Overlaps",
    "Qualities",
    "Recomputations",
    "Shifts",
    "Stock",
    "Verify",
]
