"""Which disks of an installation are full. Knows folders, not what is written to them."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from services.kit.disks import free_bytes, is_full


def describe_full_disks(folders: Mapping[str, Path]) -> list[str]:
    """One sentence for each full disk: what it holds, where it is, and how much is left of it."""
    holds: defaultdict[int, list[str]] = defaultdict(list)
    for name, folder in folders.items():
        if folder.exists() and is_full(folder):
            holds[folder.stat().st_dev].append(name)
    return [_sentence(names, folders[names[0]]) for names in holds.values()]


def _sentence(names: list[str], folder: Path) -> str:
    return (
        f"The disk of {', '.join(names)} is full ({folder}): {free_bytes(folder) >> 20} MB are "
        "left. Make space on it; everything goes on by itself then."
    )
