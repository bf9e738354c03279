"""People, projects and API keys on the wire."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from pydantic import ConfigDict, Field

from api_schemas.base import Name, Wire


class Scope(StrEnum):
    """What a key may do in its project: `read` looks, `write` posts work, `admin` makes and
    revokes keys of the same person.
    """

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


class InstallationRole(StrEnum):
    """What a person may do beyond their projects: `admin` grants shares of the machines and lets
    work go before that of others.
    """

    NONE = "none"
    ADMIN = "admin"


class KeyRequest(Wire):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"name": "notebook", "scopes": ["read", "write"], "days": 90}]
        }
    )

    name: Name
    scopes: list[Scope] = Field(default=[Scope.READ, Scope.WRITE], min_length=1)
    days: int = Field(default=365, ge=1, le=3650, description="days until the key expires")


class KeyView(Wire):
    id: UUID
    name: str
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None


class NewKey(KeyView):
    """The only answer that ever holds the key itself."""

    key: str


class Me(Wire):
    person: UUID
    person_name: str
    project: UUID
    project_name: str
    scopes: list[Scope]
    installation_role: InstallationRole = InstallationRole.NONE
