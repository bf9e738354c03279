"""JSON lines on standard error, with what is bound to the context. Never bodies, never keys, and of
an exception never its words: they may quote a path or a value that names a patient.
"""

import logging
import sys
import traceback

import structlog
from structlog.typing import EventDict, WrappedLogger

CAUSES_TOLD = 10


def configure(level: str) -> None:
    """Send this process's logs (structlog's and the standard library's) to standard error."""
    shared = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _say_where,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error"):  # it has handlers of its own, which say everything
        logging.getLogger(name).handlers[:] = []
        logging.getLogger(name).propagate = True
    for noisy in ("httpx2", "httpcore2", "urllib3", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def _say_where(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """An exception as the names of its type and of those that led to it, and where each arose."""
    given = event.pop("exc_info", None)
    error = given[1] if isinstance(given, tuple) else given
    if error is True:
        error = sys.exception()
    if not isinstance(error, BaseException):
        return event
    causes: list[str] = []
    while error is not None and len(causes) < CAUSES_TOLD:
        where = "".join(traceback.format_tb(error.__traceback__))
        causes.append(f"{type(error).__name__}\n{where}")
        error = error.__cause__ or error.__context__
    event["exception"] = "because of ".join(causes)
    return event


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    return structlog.stdlib.get_logger(name)
