"""One house for all rows; after each, whatever it did, the invariants are checked."""

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults import invariants
from tests.faults.house import House

_outcomes: dict[str, list[tuple[str, float]]] = {}


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    house = House(tmp_path_factory.mktemp("house"))
    yield house
    house.close()


@pytest.fixture
def house(installation: House) -> Iterator[House]:
    """The house, clean; afterwards it is mended, checked, and cleaned."""
    yield installation
    installation.end_processes()
    installation.mend()
    try:
        invariants.check(installation)
    finally:
        installation.clean()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A file system of a given size: `small_disk("100k")` makes it, or makes it larger."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted: list[Path] = []

    def resize(size: str) -> Path:
        options = f"size={size}" + (",remount" if mounted else "")
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", place],  # noqa: S607 - of the system
            capture_output=True,
            check=False,
        )
        if done.returncode:
            pytest.skip("needs to mount a tmpfs, as root")
        mounted.append(place)
        return place

    yield resize
    if mounted:
        subprocess.run(["umount", "--lazy", place], check=True)  # noqa: S607 - of the system


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """A failure shows what the processes logged; every row's outcome is kept for the table."""
    report = yield
    house = getattr(item, "funcargs", {}).get("house")
    if report.when == "call" and report.failed and house is not None:
        report.sections += [(f"log of {name}", log) for name, log in house.logs().items()]
    if report.when == "call" or report.outcome != "passed":
        _outcomes.setdefault(item.name, []).append((report.outcome, call.duration))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The closing table of `make faults`: row, outcome, seconds."""
    if not any("tests/faults" in argument for argument in terminalreporter.config.args):
        return
    terminalreporter.section("what was survived")
    for name, reports in sorted(_outcomes.items(), key=lambda item: _row(item[0])):
        outcome = next((o for o, _ in reports if o != "passed"), "passed")
        seconds = sum(s for _, s in reports)
        row, _, what = name.removeprefix("test_row_").partition("_")
        terminalreporter.write_line(
            f"{row:>3}  {outcome:8} {seconds:6.1f} s  {what.replace('_', ' ')}"
        )


def _row(name: str) -> tuple[int, str]:
    number = re.match(r"test_row_(\d+)", name)
    return (int(number[1]) if number else 0, name)
