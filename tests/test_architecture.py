"""The walls of the design hold, and a breach makes the check fail."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINT = "from importlinter.cli import lint_imports; import sys; sys.exit(lint_imports())"


def lint_imports(tree: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LINT], cwd=tree, capture_output=True, text=True, check=False
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the code to break things in."""
    skip = shutil.ignore_patterns("__pycache__")
    for name in ("services", "api_schemas"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=skip)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_walls_hold(tree: Path) -> None:
    result = lint_imports(tree)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("services/datasets/helpers.py", ""),
        ("services/evaluation/api.py", "import torch"),
        ("services/gateway/main.py", "import torch"),
        ("services/generation/service/__init__.py", "import torch"),
        ("services/training/clients.py", "from services.datasets import service"),
        ("services/accounts/api.py", "from services.accounts import models"),
        ("services/datasets/importers/images.py", "import pydicom"),
        ("services/kit/db.py", "import services.accounts"),
        ("services/evaluation/statistics/__init__.py", "import sqlalchemy"),
        ("services/copies/search.py", "import services.kit"),
        ("services/copies/search.py", "import torch"),
        ("api_schemas/base.py", "import numpy"),
    ],
)
def test_a_breach_is_seen(tree: Path, file: str, line: str) -> None:
    path = tree / file
    if not path.parent.exists():  # a role that is one module here
        path = path.parent.with_suffix(".py")
    before = path.read_text() if path.exists() else ""
    path.write_text(f"{before}\n{line}\n")
    result = lint_imports(tree)
    assert result.returncode != 0, result.stdout


def test_the_client_needs_what_it_says_and_no_more() -> None:
    """`pip install` of the tree gives `api_schemas` and its requirements, not the services'."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    said = {re.split("[<>=]", requirement)[0] for requirement in project["dependencies"]}
    trees = [ast.parse(file.read_text()) for file in (ROOT / "api_schemas").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    imported = {n.name for node in nodes if isinstance(node, ast.Import) for n in node.names}
    imported |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    packages = {name.split(".")[0] for name in imported} - sys.stdlib_module_names
    assert packages - {"api_schemas"} == said
