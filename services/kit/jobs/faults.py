"""What an error of a handler means for its slice: whose fault it is, and whether to try again."""

import errno

import httpx2
import urllib3
from minio.error import S3Error
from sqlalchemy.exc import InterfaceError, OperationalError

from services.kit.errors import ProblemError, Unavailable, Unprocessable
from services.kit.objects import DigestMismatch, ObjectMissing

STORE_BUSY = frozenset(
    {"SlowDown", "SlowDownWrite", "ServiceUnavailable", "InternalError", "RequestTimeout"}
)
CLOCK_OFF = "RequestTimeTooSkewed"
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

AWAY = (
    OperationalError,
    InterfaceError,
    urllib3.exceptions.HTTPError,
    httpx2.TransportError,
    Unavailable,
)


class StoreMismatch(Unavailable):
    """Nothing is removed while database and object store may not belong together."""

    slug = "store-mismatch"
    title = "The object store and the database do not belong together; nothing is removed"


class ContentDamaged(Unprocessable):
    slug = "digest-mismatch"
    title = "The object store returned other bytes than were put there"


class ObjectLost(Unprocessable):
    slug = "object-missing"
    title = "The object store has lost an object that this is made from"


class OutOfMemory(Unprocessable):
    slug = "out-of-memory"
    title = "The memory of this machine does not hold what was asked"


def absence(error: Exception) -> str | None:
    """In words, what the worker lacked that will come back; None when that is not what happened.

    Such a slice is tried again after a while, and no failure is counted.
    """
    if isinstance(error, (OperationalError, InterfaceError)):
        return "the database was away"
    if isinstance(error, S3Error):
        if error.code == CLOCK_OFF:
            return "this host's clock is off: the object store refuses its signatures"
        return "the object store was busy" if error.code in STORE_BUSY else None
    if isinstance(error, StoreMismatch):
        return f"{error.title}: {error}"
    if isinstance(error, urllib3.exceptions.HTTPError):
        return "the object store was away"
    if isinstance(error, AWAY):
        return "another service was away"
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return "the worker's disk was full"
    return None


def verdict(error: Exception) -> ProblemError | None:
    """The problem that ends the job at once: trying again would end the same way."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, ObjectMissing):
        return ObjectLost("Nothing was made of it; restore the object, then ask again")
    if isinstance(error, DigestMismatch):
        return ContentDamaged("Nothing was made of them; restore the object, then ask again")
    if isinstance(error, MemoryError):
        return OutOfMemory("Ask for less at once, or for a machine with more memory")
    return None
