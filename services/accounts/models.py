"""Rows of schema `accounts`."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, DateTime, ForeignKey, MetaData, String, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NOW = text("now()")


class Base(DeclarativeBase):
    metadata = MetaData(schema="accounts")
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's spelling
        datetime: DateTime(timezone=True),
        list[str]: ARRAY(String),
    }


class Person(Base):
    """Somebody with keys. `installation_role` is given on the machine, never over HTTP."""

    __tablename__ = "people"
    __table_args__ = (
        CheckConstraint("installation_role IN ('none', 'admin')", name="installation_role"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    installation_role: Mapped[str] = mapped_column(server_default="none")
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Project(Base):
    __tablename__ = "projects"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Key(Base):
    """An API key; the key itself is never here, only its keyed hash."""

    __tablename__ = "keys"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    hash: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    person: Mapped[UUID] = mapped_column(ForeignKey(Person.id))
    project: Mapped[UUID] = mapped_column(ForeignKey(Project.id))
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
