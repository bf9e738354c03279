"""The file: a zip archive around a pickle that may come from anybody. Nothing in it is executed.

Three walls, each of which would do: the archive must have the plain form that `torch.save` writes
(nothing compressed, nothing overlapping), every type the pickle names must be on a list, and
torch's `weights_only` unpickler builds nothing but tensors and what that list stands for.
"""

import collections
import pickle
import typing
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import serialization

from services.generation.ports.engine import CheckpointUnreadable, CheckpointUnsafe

ENTRIES_LIMIT = 100_000
PICKLE_LIMIT_BYTES = 64 << 20
DEPTH_LIMIT = 32
NODES_LIMIT = 10_000
NAMED = 5
"""Of many forbidden types an answer names so many."""


class Inert:
    """What an object of omegaconf becomes: its fields, no behaviour."""


_OMEGACONF = (
    "base.ContainerMetadata",
    "base.Metadata",
    "dictconfig.DictConfig",
    "listconfig.ListConfig",
    "nodes.AnyNode",
    "nodes.BooleanNode",
    "nodes.FloatNode",
    "nodes.IntegerNode",
    "nodes.StringNode",
)
ALLOWED: list[Any] = [
    typing.Any,
    collections.defaultdict,
    *(dict, list, int, float, str, bool),
    *((Inert, f"omegaconf.{name}") for name in _OMEGACONF),
]
"""What a checkpoint may name beside torch's own tensors."""


def read(path: Path) -> dict[str, Any]:
    """The checkpoint as torch and plain Python values, its tensors mapped from the file.

    Raises `CheckpointUnreadable` and `CheckpointUnsafe`.
    """
    _check_archive(path)
    with _nothing_but(ALLOWED):
        _check_types(path)
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except pickle.UnpicklingError as error:
            raise CheckpointUnsafe("Its pickle does what no checkpoint needs to do") from error
        except Exception as error:  # damaged bytes fail in any way
            raise CheckpointUnreadable("Its pickle is damaged") from error
    if not isinstance(content, dict):
        raise CheckpointUnreadable("It holds no dictionary, which a Lightning checkpoint is")
    return content


def _check_archive(path: Path) -> None:
    """It is one that `torch.save` could have written, and unpacks to no more than it is."""
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise CheckpointUnreadable(
            "It is no PyTorch checkpoint (a zip archive), or the end of it is missing"
        ) from error
    pickles = [e for e in entries if e.filename.endswith("/data.pkl")]
    if len(pickles) != 1 or len(entries) > ENTRIES_LIMIT:
        raise CheckpointUnreadable("The archive is not laid out as torch.save does it")
    if any(e.compress_type != zipfile.ZIP_STORED for e in entries):
        raise CheckpointUnsafe("Parts of the archive are compressed; torch.save compresses nothing")
    if pickles[0].file_size > PICKLE_LIMIT_BYTES or sum(e.file_size for e in entries) > size:
        raise CheckpointUnsafe("The archive unpacks to more than a checkpoint of its size holds")


def _check_types(path: Path) -> None:
    """Every type that the pickle names is on the list; reads the pickle without running it."""
    try:
        names = serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception as error:  # damaged bytes fail in any way
        raise CheckpointUnreadable("Its pickle is damaged") from error
    if names:
        some = ", ".join(sorted(ascii(name)[1:-1][:80] for name in names)[:NAMED])
        raise CheckpointUnsafe(f"It names what no checkpoint needs: {some}")


@contextmanager
def _nothing_but(allowed: list[Any]) -> Generator[None]:
    """Other libraries extend torch's list when they are imported; here it is ours alone."""
    before = serialization.get_safe_globals()
    serialization.clear_safe_globals()
    serialization.add_safe_globals(allowed)
    try:
        yield
    finally:
        serialization.clear_safe_globals()
        serialization.add_safe_globals(before)


def plain(node: object) -> Any:
    """A configuration as dictionaries, lists and values; omegaconf's wrappers are taken off.

    Raises `CheckpointUnsafe` for one that unfolds to more than any configuration holds: what is
    small in a pickle may name itself, or one thing a billion times.
    """
    budget = iter(range(NODES_LIMIT))

    def unwrap(node: object, depth: int) -> Any:
        if depth > DEPTH_LIMIT or next(budget, None) is None:
            raise CheckpointUnsafe("Its configuration unfolds without end")
        if isinstance(node, Inert):
            fields = vars(node)
            return unwrap(fields.get("_content", fields.get("_val")), depth + 1)
        if isinstance(node, dict):
            return {
                name: unwrap(value, depth + 1)
                for name, value in node.items()
                if isinstance(name, str)
            }
        if isinstance(node, (list, tuple)):
            return [unwrap(value, depth + 1) for value in node]
        return node

    return unwrap(node, 0)
