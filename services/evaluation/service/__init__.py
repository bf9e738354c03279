"""Use cases of evaluation: plans and predictions come in, answers go out, a job lies between."""

from services.evaluation.service.answers import Answers
from services.evaluation.service.intake import EVALUATE, QUEUE, Intake
from services.evaluation.service.keeping import KEPT, NAMED

__all__ = ["EVALUATE", "KEPT", "NAMED", "QUEUE", "Answers", "Intake"]
