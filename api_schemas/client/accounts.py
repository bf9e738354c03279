"""Keys, the queue, jobs and shares."""

from collections.abc import Iterator
from uuid import UUID

from api_schemas.accounts import KeyRequest, KeyView, Me, NewKey
from api_schemas.base import JobEvent, JobView
from api_schemas.client.connection import Connection
from api_schemas.jobs import AttemptView, PriorityRequest, QueueView, ShareRequest, ShareView


class Accounts(Connection):
    """Keys, the queue, jobs and shares."""

    def get_me(self) -> Me:
        return self._get(Me, "/me")

    def get_queue(self) -> list[QueueView]:
        return self._get(list[QueueView], "/queue")

    def get_job(self, job: UUID) -> JobView:
        return self._get(JobView, f"/jobs/{job}")

    def list_attempts(self, job: UUID) -> list[AttemptView]:
        return self._get(list[AttemptView], f"/jobs/{job}/attempts")

    def list_job_events(self, job: UUID) -> Iterator[JobEvent]:
        return self._events(f"/jobs/{job}/events")

    def cancel_job(self, job: UUID) -> JobView:
        return self._post(JobView, f"/jobs/{job}/cancel")

    def retry_job(self, job: UUID) -> JobView:
        """Queue quarantined work again."""
        return self._post(JobView, f"/jobs/{job}/retry")

    def put_priority(self, job: UUID, request: PriorityRequest) -> JobView:
        return self._put(JobView, f"/jobs/{job}/priority", request)

    def get_share(self, person: UUID) -> ShareView:
        return self._get(ShareView, f"/shares/{person}")

    def put_share(self, person: UUID, request: ShareRequest) -> ShareView:
        return self._put(ShareView, f"/shares/{person}", request)

    def post_key(self, request: KeyRequest) -> NewKey:
        return self._post(NewKey, "/keys", request)

    def list_keys(self) -> Iterator[KeyView]:
        return self._all(KeyView, "/keys")

    def revoke_key(self, key: UUID) -> None:
        self._ask("DELETE", f"/keys/{key}")
