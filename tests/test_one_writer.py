"""Only `services/kit/jobs` writes jobs and slices: nobody else names their tables or their rows."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOUSE = "services/kit/jobs"
TABLES = ("jobs.jobs", "jobs.slices", "jobs.attempts")
ROWS = {"Job", "Slice", "Attempt"}
MODELS = "services.kit.jobs.models"


def breaches(path: Path, root: Path) -> Iterator[str]:
    """What a module does that only the job system may: SQL on its tables, or its rows imported."""
    for node in ast.walk(ast.parse(path.read_text())):
        place = f"{path.relative_to(root)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            named = [table for table in TABLES if table in node.value]
            yield from (f"{place} names {table}" for table in named)
        elif isinstance(node, ast.ImportFrom) and node.module == MODELS:
            taken = [alias.name for alias in node.names if alias.name in ROWS | {"*"}]
            yield from (f"{place} imports {name}" for name in taken)
        elif isinstance(node, ast.ImportFrom) and node.module == "services.kit.jobs":
            if any(alias.name == "models" for alias in node.names):
                yield f"{place} imports models"
        elif isinstance(node, ast.Import):
            yield from (f"{place} imports {a.name}" for a in node.names if a.name == MODELS)


def search(root: Path) -> list[str]:
    files = [*(root / "services").rglob("*.py"), *(root / "api_schemas").rglob("*.py")]
    outside = [f for f in files if HOUSE not in f.as_posix()]
    return [breach for file in sorted(outside) for breach in breaches(file, root)]


def test_nobody_else_writes_a_jobs_status() -> None:
    assert search(ROOT) == []


@pytest.mark.parametrize(
    "line",
    [
        "text(\"UPDATE jobs.jobs SET state = 'succeeded'\")",
        "text(f\"UPDATE jobs.slices SET state = 'done' WHERE id = {x}\")",
        "from services.kit.jobs.models import Job",
        "from services.kit.jobs.models import *",
        "from services.kit.jobs import models",
        "import services.kit.jobs.models",
    ],
)
def test_a_breach_is_found(tmp_path: Path, line: str) -> None:
    module = tmp_path / "services" / "datasets" / "service.py"
    module.parent.mkdir(parents=True)
    (tmp_path / "api_schemas").mkdir()
    module.write_text(f"x = 1\n{line}\n")
    assert len(search(tmp_path)) == 1
