"""The studies of `make demo`: the paper in miniature, scaled to two CPU cores."""

from collections.abc import Mapping
from pathlib import Path

from services.local import studies
from services.local.studies import Study

PHANTOM = Path(__file__).parents[2] / "studies" / "phantom.yaml"


def phantom_study() -> Study:
    """Three phantom hospitals; the generator knows the first one only."""
    return studies.read(PHANTOM)


def real_study(csv: Path, fields: Mapping[str, str]) -> Study:
    """One CheXpert-style CSV: train, validation and test patients all come from it.

    `fields` are further ones of its import.
    """
    home = {
        **fields,
        "format": "chexpert_csv",
        "name": csv.stem,
        "path": str(csv.resolve()),
        "site": csv.stem,
        "size_px": 64,
        "resize": "antialiased",
    }
    study = Study(
        name=f"The paper in miniature, on {csv.name}",
        notes=[
            "A few hundred images and minutes of CPU cannot show whether synthetic data helps;",
            "the width of the intervals says how little this can tell.",
        ],
        datasets={"home": home},
        generators={"small": {"dataset": "home", "preset": "small-64", "steps": 900, "seed": 1}},
        cohorts={
            "mirrored": {
                "generator": "small",
                "mirror": "home",
                "replicas": 3,
                "seed": 7,
                "sampler": {"steps": 20},
            }
        },
        experiment={
            "preset": {
                "name": "supplement",
                "real": "home",
                "synthetic": "mirrored",
                "ratios": [1, 3],
            },
            "seeds": [0, 1],
            "classifier": {"epochs": 6},
            "validation": {"data": "home", "split": "validation"},
            "tests": [{"name": csv.stem, "data": "home"}],
        },
    )
    study.check()
    return study
