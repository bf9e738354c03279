"""Speaking to another service on behalf of a user, hours after their request."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx2

from api_schemas.client import Client, ProblemRaised
from services.kit.auth import Caller
from services.kit.errors import RemoteProblem, TooMany, Unavailable


@dataclass(frozen=True)
class Remote:
    """Another service at `url`; makes a typed client that acts for a caller."""

    url: str
    service_secret: str

    @contextmanager
    def acting_for(self, caller: Caller) -> Generator[Client]:
        """A client for a few calls. Problems come out as `RemoteProblem`, silence as
        `Unavailable`.
        """
        headers = {
            "Authorization": f"Service {self.service_secret}",
            "Synthorax-Person": str(caller.person),
            "Synthorax-Project": str(caller.project),
        }
        try:
            with Client(self.url, headers=headers) as client:
                yield client
        except ProblemRaised as error:
            if error.problem.status >= 500 or error.problem.status == TooMany.status:  # noqa: PLR2004 - what may pass
                raise Unavailable("Another service failed to answer") from error
            raise RemoteProblem(error.problem) from error
        except httpx2.TransportError as error:
            raise Unavailable("Another service does not answer") from error
