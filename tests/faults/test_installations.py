"""Row 62: the same study on two installations, whose secrets differ, gives the same numbers."""

from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from api_schemas.client import Client
from services.local.demo import phantom_study
from services.local.launcher import Launcher
from services.local.study import StudyRun
from tests.e2e.test_the_main_job import tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_row_62_the_same_study_on_two_installations(tmp_path: Path) -> None:
    here, there = (_numbers(tmp_path / name) for name in ("here", "there"))
    for what in here:
        assert here[what] == there[what], what
        assert here[what], f"there is something to compare: {what}"


def _numbers(root: Path) -> dict[str, list[Any]]:
    """All that comes of a study, without the names that an installation gives."""
    launcher = Launcher(root / "state")
    access = launcher.up()
    try:
        with Client(access.url, access.key) as client:
            StudyRun(client, Console(file=StringIO(), width=150), root / "out").run(
                tiny(phantom_study())
            )
            return {
                "synthetic pixels": list(_pixels(client)),
                "weights": list(_weights(client)),
                "training": list(_training(client)),
                "results": list(_results(client)),
            }
    finally:
        launcher.down()


def _pixels(client: Client) -> Iterator[str]:
    for cohort in client.list_generations():
        yield from (str(image.pixel_sha256) for image in client.generation_images(cohort.id))


def _weights(client: Client) -> Iterator[tuple[str, int, str]]:
    for experiment in client.list_experiments():
        for arm in client.experiment_arms(experiment.id):
            for run in arm.runs:
                assert run.classifier is not None
                yield arm.arm.name, run.seed, client.get_classifier(run.classifier).digest


def _training(client: Client) -> Iterator[tuple[Any, ...]]:
    for experiment in client.list_experiments():
        for arm in client.experiment_arms(experiment.id):
            for run in arm.runs:
                points = [(p.step, p.loss, p.auroc, p.validation_loss) for p in run.curve]
                yield arm.arm.name, arm.images, arm.steps, run.seed, run.best_step, points


def _results(client: Client) -> Iterator[dict[str, Any]]:
    for experiment in client.list_experiments():
        for row in client.results(experiment.id):
            yield row.model_dump(exclude={"experiment"})
