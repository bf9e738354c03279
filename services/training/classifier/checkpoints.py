"""Folders of safetensors and JSON: written beside and renamed, verified before they are read."""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from services.training.ports.engine import CheckpointMismatchError

TENSORS, RECORD = "tensors.safetensors", "record.json"


def write(folder: Path, tensors: dict[str, Tensor], record: dict[str, Any]) -> Path:
    """`folder`, complete or not there at all; one that is there already is replaced."""
    beside = folder.with_name(folder.name + ".part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    # Metadata would be ordered by hash: the record carries it, and equal runs give equal bytes.
    _save(tensors, beside / TENSORS)
    sealed = {**record, "sha256": _sha256(beside / TENSORS)}
    (beside / RECORD).write_text(json.dumps(sealed, indent=1, sort_keys=True) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)
    return folder


def read(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and record; raises `CheckpointMismatchError` for anything but what was written."""
    try:
        record = json.loads((folder / RECORD).read_text())
        digest = _sha256(folder / TENSORS)
    except (OSError, ValueError) as error:
        msg = f"not a checkpoint: {folder.name}"
        raise CheckpointMismatchError(msg) from error
    if not isinstance(record, dict) or record.pop("sha256", None) != digest:
        msg = f"damaged checkpoint: {folder.name}"
        raise CheckpointMismatchError(msg)
    return load_file(folder / TENSORS), record


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    """Write a file of tensors. Raises `OSError` when the system refuses, as on a full disk."""
    try:
        save_file({name: t.contiguous() for name, t in tensors.items()}, path)
    except SafetensorError as error:
        refused = re.search(r"os error (\d+)", str(error))  # all that the library tells
        if refused is None:
            raise
        raise OSError(int(refused[1]), os.strerror(int(refused[1]))) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
