"""What an error of a handler means: an absence is waited for, a verdict ends the job."""

import errno

import pytest
import urllib3
from minio.error import S3Error

from services.kit.errors import Unavailable, Unprocessable
from services.kit.jobs.faults import absence, verdict
from services.kit.objects import DigestMismatch


def s3(code: str) -> S3Error:
    return S3Error(None, code, "", "", "", "")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "error",
    [
        s3("SlowDown"),
        s3("RequestTimeTooSkewed"),
        urllib3.exceptions.ProtocolError("broken off"),
        Unavailable("away"),
        OSError(errno.ENOSPC, "full"),
    ],
    ids=["busy", "clock", "cut", "service", "disk"],
)
def test_an_absence_is_waited_for(error: Exception) -> None:
    assert absence(error)


@pytest.mark.parametrize(
    ("error", "slug"),
    [
        (DigestMismatch("key"), "digest-mismatch"),
        (MemoryError(), "out-of-memory"),
        (Unprocessable("no"), "invalid"),
    ],
)
def test_what_would_be_the_same_again_ends_the_job(error: Exception, slug: str) -> None:
    assert absence(error) is None
    problem = verdict(error)
    assert problem is not None
    assert problem.problem.type == f"urn:synthorax:problem:{slug}"


@pytest.mark.parametrize("error", [s3("AccessDenied"), RuntimeError(), OSError(errno.EACCES, "")])
def test_anything_else_is_a_crash(error: Exception) -> None:
    assert absence(error) is None
    assert verdict(error) is None
