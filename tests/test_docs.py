"""What the documentation points at is there: pages, and tests by their name."""

import ast
import re
from pathlib import Path

import pytest

from api_schemas import VERSION

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)#\s]+)(?:#([\w-]+))?\)")


def broken(page: Path) -> list[str]:
    """Links of a page to files that are not there, or to tests that no module defines."""
    return [
        f"{target}#{anchor}" if anchor else target
        for target, anchor in LINK.findall(page.read_text())
        if not _leads(page.parent / target, anchor)
    ]


def _leads(path: Path, anchor: str) -> bool:
    if path.suffix == ".py" and anchor:
        return path.exists() and anchor in _functions(path)
    return path.exists()


def _functions(path: Path) -> set[str]:
    return {n.name for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_a_claim_without_its_test_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text("def test_there(): ...\n")
    page = tmp_path / "page.md"
    page.write_text("[1](test_x.py#test_there) [2](test_x.py#test_gone) [3](gone.md)")
    assert broken(page) == ["test_x.py#test_gone", "gone.md"]


def test_every_decision_is_in_the_list() -> None:
    folder = ROOT / "docs" / "adr"
    listed = LINK.findall((folder / "README.md").read_text())
    assert [name for name, _ in listed] == [page.name for page in sorted(folder.glob("0*.md"))]


def test_every_page_is_in_the_index() -> None:
    """The pages of formats are listed by the page on imports, decisions by their own list."""
    docs = ROOT / "docs"
    index = {name for name, _ in LINK.findall((docs / "index.md").read_text())}
    assert {page.name for page in docs.glob("*.md")} - {"index.md"} <= index


def test_every_page_is_on_the_site() -> None:
    """Single decisions are reached through their list."""
    docs = ROOT / "docs"
    on_site = set(re.findall(r'= "([\w/-]+\.md)"', (ROOT / "site" / "zensical.toml").read_text()))
    pages = {str(page.relative_to(docs)) for page in docs.rglob("*.md")}
    assert {page for page in pages if not page.startswith("adr/0")} == on_site


def test_the_citation_is_of_this_version() -> None:
    assert f"\nversion: {VERSION}\n" in (ROOT / "CITATION.cff").read_text()
