"""Routes of evaluation: parse, call, return."""

from services.evaluation.api.desk import DataDesk, routes
from services.evaluation.api.evaluations import evaluation_routes
from services.evaluation.api.features import feature_routes

__all__ = ["DataDesk", "evaluation_routes", "feature_routes", "routes"]
