"""Routes of training: parse, call, return."""

from services.training.api.experiments import deletion_routes, routes
from services.training.api.scorings import scoring_routes

__all__ = ["deletion_routes", "routes", "scoring_routes"]
