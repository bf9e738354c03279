"""Errors that own their HTTP status. A service subclasses them, named for the fact."""

from typing import Any, ClassVar

from pydantic import JsonValue

from api_schemas.base import Problem


class ProblemError(Exception):
    """Something a person can act on. Never holds a secret or a patient's data.

    `field` is the path of the offending input, `accepted` what would have been taken; any
    further keyword becomes a member of the problem document.
    """

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal"
    title: ClassVar[str] = "Something went wrong on our side"
    retry_after_s: ClassVar[int | None] = None
    """What `Retry-After` says where the same request may succeed later."""

    def __init__(
        self, detail: str, *, field: str | None = None, accepted: Any = None, **extra: JsonValue
    ) -> None:
        super().__init__(detail)
        self.problem = Problem(
            type=f"urn:synthorax:problem:{self.slug}",
            title=self.title,
            status=self.status,
            detail=detail,
            field=field,
            accepted=accepted,
            **extra,  # pyright: ignore[reportArgumentType] - extra members are allowed
        )


class Unauthorized(ProblemError):
    status = 401
    slug = "unauthorized"
    title = "A valid API key is needed"


class Forbidden(ProblemError):
    status = 403
    slug = "forbidden"
    title = "This key may not do that"


class NotFound(ProblemError):
    status = 404
    slug = "not-found"
    title = "There is no such thing here"


class Conflict(ProblemError):
    status = 409
    slug = "conflict"
    title = "That does not fit the present state"


class Gone(ProblemError):
    status = 410
    slug = "gone"
    title = "It has been deleted"


class TooLarge(ProblemError):
    status = 413
    slug = "too-large"
    title = "The body is too large"


class Unprocessable(ProblemError):
    status = 422
    slug = "invalid"
    title = "The request cannot be used as it is"


class TooMany(ProblemError):
    status = 429
    slug = "too-many"
    title = "That is more than is allowed at once"
    retry_after_s = 60


class Unavailable(ProblemError):
    status = 503
    slug = "unavailable"
    title = "A part of the suite is away; try again shortly"
    retry_after_s = 5


class Busy(Unavailable):
    slug = "busy"
    title = "More requests than can be answered arrive; try again shortly"


class StorageFull(ProblemError):
    status = 507
    slug = "storage-full"
    title = "There is no space left to store this"
    retry_after_s = 60


class RemoteProblem(ProblemError):
    """A problem another service answered with, passed on as it came."""

    def __init__(self, problem: Problem) -> None:
        Exception.__init__(self, problem.detail)
        self.problem = problem
