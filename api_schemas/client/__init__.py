"""The typed HTTP client: one method an operation. People, services and tests use the same one.

Does not retry unless it is given a `RestartTransport`: a POST is made safe to repeat by its
Idempotency-Key.
"""

from api_schemas.client.accounts import Accounts
from api_schemas.client.connection import JobDidNotSucceed, ProblemRaised, wait
from api_schemas.client.datasets import Datasets
from api_schemas.client.evaluation import Evaluation
from api_schemas.client.generation import Generation
from api_schemas.client.restarts import RestartTransport
from api_schemas.client.training import Training

__all__ = ["Client", "JobDidNotSucceed", "ProblemRaised", "RestartTransport", "wait"]


class Client(Accounts, Datasets, Generation, Training, Evaluation):
    """All operations over one connection."""
