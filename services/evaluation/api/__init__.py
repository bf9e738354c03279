"""Routes of evaluation: parse, call, return."""

from services.evaluation.api.desk import DataDesk, data_routes
from services.evaluation.api.evaluations import evaluation_routes
from services.evaluation.api.features import feature_routes
from services.evaluation.api.studies import StudyDesk, study_routes

__all__ = [
    "DataDesk",
    "StudyDesk",
    "data_routes",
    "evaluation_routes",
    "feature_routes",
    "study_routes",
]
