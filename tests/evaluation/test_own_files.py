"""Predictions of images that are here, which name them as their sender's files are called."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.datasets import trees


@pytest.fixture
def films(registry, import_root: Path) -> str:
    """A dataset of twelve images, every second of them with an oedema, all of which test."""
    folder = import_root / f"films-{uuid4().hex[:8]}"
    lines = ["Path,PID,Edema,Split"]
    for number, pixels in enumerate(trees.phantoms(12)):
        trees.save(folder / "films" / f"{number}.png", pixels)
        lines.append(f"films/{number}.png,p{number},{number % 2},test")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    body = {"format": "chexpert_csv", "name": "films", "site": "us", "size_px": 32}
    body["path"] = f"{folder.name}/table.csv"
    made = registry.post("/datasets", json=body).json()["id"]
    registry.work()
    return made


def send(desk, dataset: str, lines: list[str], **files: list[str]) -> Any:
    sent = {"file": lines} | files
    form = {name: ("f.csv", "\n".join(each).encode(), "text/csv") for name, each in sent.items()}
    about = {"name": "ours", "data": f"dataset/{dataset}", "split": "test"}
    return desk.post("/evaluations", data=about, files=form)


def scores(name: str = "films/{}.png", numbers: Any = range(12)) -> list[str]:
    return ["path,score_Edema", *(f"{name.format(n)},{n % 2 + n / 100}" for n in numbers)]


def test_predictions_may_name_own_files(desk, look, registry, films: str) -> None:
    paths = [f"films/{n}.png" for n in range(12)]
    ids = registry.post(f"/datasets/{films}/lookups", json={"paths": paths}).json()["samples"]
    by_id = ["id,score_Edema", *(f"{s},{n % 2 + n / 100}" for n, s in enumerate(ids))]
    results = []
    for lines in (scores(), scores("./films/{}.png", range(11, -1, -1)), by_id):
        answer = send(desk, films, lines, reference=by_id)
        assert answer.status_code == 202, answer.text
        look()
        told = desk.get(f"/evaluations/{answer.json()['id']}").json()
        assert told["job"]["state"] == "succeeded", told
        results.append(told["result"]["lines"][0] if "lines" in told["result"] else told["result"])
    assert results[0] == results[1] == results[2]


def test_paths_that_fit_no_image_are_named_by_their_line_alone(desk, films: str) -> None:
    for lines, line in (
        (scores("Mustermann/{}.png"), 2),
        ([*scores(), "films/Mustermann.png,0.5"], 14),
        ([*scores(), "films/./0.png,0.5"], 14),
        ([*scores(), f"films/{'Mustermann' * 200}.png,0.5"], 14),
    ):
        answer = send(desk, films, lines)
        problem = answer.json()
        assert (answer.status_code, problem["field"], problem.get("line")) == (422, "file", line)
        assert "Mustermann" not in answer.text
    lacking = send(desk, films, scores(numbers=range(11)))
    assert (lacking.status_code, "1 of 12 images lack" in lacking.text) == (422, True)
