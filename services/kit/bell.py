"""The bell: a Celery message that wakes a queue's workers and names no work.

Lost, doubled and late bells are harmless: Postgres knows the work, and the sweeper rings for
whatever has been forgotten.
"""

from queue import Empty
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual
from redis import Redis
from redis.exceptions import RedisError

from services.kit.failpoints import failpoint
from services.kit.logging import get_logger

BELL_TASK = "synthorax.bell"

SOON = {"socket_connect_timeout": 0.4, "socket_timeout": 0.4}
"""A broker that does not answer a request at once is away for it."""

log = get_logger(__name__)


class QoS(kombu_redis.QoS):
    """kombu counts a message whose ack met a dead broker as unacked for ever: a worker that takes
    one at a time would then never listen again, nor notice that it is cut off.
    """

    def ack(self, delivery_tag: str) -> None:
        try:
            super().ack(delivery_tag)
        finally:
            virtual.QoS.ack(self, delivery_tag)


class Channel(kombu_redis.Channel):
    """A channel on which a message that is none is dropped, instead of ending the worker."""

    QoS = QoS

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            log.warning("a malformed message was dropped", error=type(error).__name__)
            raise Empty from None


class Transport(kombu_redis.Transport):
    Channel = Channel


def celery_settings(broker_url: str) -> dict[str, Any]:
    """Settings of every Celery app here: JSON only, no results, early acks, one at a time."""
    return {
        "broker_url": broker_url,
        "broker_transport": "services.kit.bell:Transport",
        "broker_connection_retry_on_startup": True,
        "broker_transport_options": {
            "visibility_timeout": 300,
            "socket_connect_timeout": 1.0,
            "socket_timeout": 5.0,
        },
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
        "task_acks_late": False,
        "task_create_missing_queues": True,
        "worker_prefetch_multiplier": 1,
        "worker_enable_remote_control": False,
        "worker_hijack_root_logger": False,
        "worker_send_task_events": False,
        "enable_utc": True,
    }


class Bell:
    """Rings for a queue; never makes a request wait long for the broker."""

    def __init__(self, broker_url: str) -> None:
        self._app = Celery("synthorax-bell", set_as_current=False)
        self._app.conf.update(celery_settings(broker_url) | {"broker_transport_options": SOON})
        self._redis = Redis.from_url(broker_url, socket_timeout=2, socket_connect_timeout=1)

    def ring(self, queue: str) -> None:
        """Wake one worker of `queue`. A broker that is away costs under a second, no error."""
        failpoint("before_bell")
        try:
            self._app.send_task(
                BELL_TASK,
                queue=queue,
                retry=True,
                retry_policy={"max_retries": 1, "interval_start": 0.1, "interval_max": 0.1},
            )
        except (OperationalError, RedisError, OSError) as error:
            log.warning("bell not rung; the sweeper will", queue=queue, error=type(error).__name__)

    def ring_if_silent(self, queue: str) -> None:
        """Ring unless a bell of `queue` lies unheard already."""
        try:
            silent = self.pending(queue) == 0
        except RedisError as error:
            log.warning("the broker is away", queue=queue, error=type(error).__name__)
            return
        if silent:
            self.ring(queue)

    def pending(self, queue: str) -> int:
        """Bells that lie in the queue unheard. Raises `RedisError` when the broker is away."""
        return int(self._redis.llen(queue))  # pyright: ignore[reportArgumentType]

    def close(self) -> None:
        self._app.close()
        self._redis.close()
