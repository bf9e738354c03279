"""A run's specification as files, for the processes that train it beside their worker."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.training.ports.engine import Part, RunSpec, StageSpec, Weights

RECORD, ARRAYS = "spec.json", "arrays.npz"


def write(spec: RunSpec, folder: Path) -> None:
    """Packed images stay where they are; only what is in memory alone is written out."""
    folder.mkdir(parents=True)
    arrays: dict[str, NDArray[Any]] = {}

    def told(part: Part) -> dict[str, str]:
        name = f"part-{len(arrays) // 2}"
        arrays[f"{name}.rows"], arrays[f"{name}.targets"] = part.rows, part.targets
        return {"name": name, "images": str(_images_file(part, folder / f"{name}.npy"))}

    plain = {
        name: value
        for name, value in vars(spec).items()
        if name not in {"stages", "validation", "pretrained"}
    }
    begun = spec.pretrained
    record = {
        "plain": plain,
        "stages": [
            {"steps": stage.steps, "parts": [told(part) for part in stage.parts]}
            for stage in spec.stages
        ],
        "validation": told(spec.validation),
        "pretrained": begun and {"sha256": begun.sha256, "file": str(begun.fetch())},
    }
    np.savez(folder / ARRAYS, **arrays)  # pyright: ignore[reportArgumentType] - names are arrays'
    (folder / RECORD).write_text(json.dumps(record))


def read(folder: Path) -> RunSpec:
    record = json.loads((folder / RECORD).read_text())
    with np.load(folder / ARRAYS) as file:
        arrays: Mapping[str, NDArray[Any]] = dict(file)

    def part(told: dict[str, str]) -> Part:
        images = np.load(told["images"], mmap_mode="r")
        name = told["name"]
        return Part(images, arrays[f"{name}.rows"], arrays[f"{name}.targets"])

    begun, weights = record["pretrained"], record["plain"].pop("positive_weights")
    return RunSpec(
        **record["plain"] | {"labels": tuple(record["plain"]["labels"])},
        stages=tuple(
            StageSpec(tuple(part(each) for each in stage["parts"]), stage["steps"])
            for stage in record["stages"]
        ),
        validation=part(record["validation"]),
        positive_weights=weights and tuple(weights),
        pretrained=begun and Weights(begun["sha256"], lambda: Path(begun["file"])),
    )


def _images_file(part: Part, otherwise: Path) -> Path:
    if isinstance(part.images, np.memmap) and part.images.filename is not None:
        return Path(part.images.filename)
    np.save(otherwise, part.images)
    return otherwise


def going_on(spec: RunSpec) -> RunSpec:
    """The same for a run that is resumed, which needs its first weights' name alone."""
    if spec.pretrained is None:
        return spec
    return replace(spec, pretrained=Weights(spec.pretrained.sha256, Path))
