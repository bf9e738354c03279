"""Bring every schema to its newest version, or check that models and history agree."""

from configparser import ConfigParser
from pathlib import Path

from alembic import command
from alembic.config import Config

HERE = Path(__file__).parent
INI = HERE / "alembic.ini"


def sections() -> list[str]:
    """The schemas, in the order in which they are migrated."""
    parser = ConfigParser(interpolation=None)
    parser.read(INI)
    return parser.sections()


def _config(section: str, url: str | None) -> Config:
    config = Config(str(INI), ini_section=section)
    config.attributes["url"] = url
    return config


def upgrade(url: str | None = None) -> None:
    """Migrate all schemas of the database at `url` (default: the installation's)."""
    for section in sections():
        command.upgrade(_config(section, url), "head")


def check(url: str | None = None) -> None:
    """Raise Alembic's CommandError when a model has no migration."""
    for section in sections():
        command.check(_config(section, url))
