"""Which patients train, validate and test."""

import hashlib
from collections.abc import Mapping
from typing import get_args

from api_schemas.base import Split

BUCKETS = 10_000
VALIDATION_FROM, TEST_FROM = 7_000, 8_000
"""70 % train, 10 % validation, 20 % test."""
SMALLEST = 10
"""From this many patients on, no split is empty."""
SPLITS: tuple[Split, ...] = get_args(Split)


def bucket(site: str, patient: str) -> int:
    """A stable number below `BUCKETS` for a patient, the same on every installation.

    Needs the source's own name of the patient, for pseudonyms differ between installations;
    few enough values that the bucket does not betray the name.
    """
    digest = hashlib.sha256(f"split\x00{site}\x00{patient}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % BUCKETS


def split_of(number: int) -> Split:
    if number < VALIDATION_FROM:
        return "train"
    return "validation" if number < TEST_FROM else "test"


def assign(buckets: Mapping[str, int], given: Mapping[str, Split]) -> dict[str, Split]:
    """The split of every patient of `buckets`.

    `given` splits (the source's own) are kept. Without any, a split that the hash left empty
    gets the patient next to its range, if there are `SMALLEST` patients or more.
    """
    splits: dict[str, Split] = {
        p: given.get(p) or split_of(number) for p, number in buckets.items()
    }
    if not given and len(splits) >= SMALLEST:
        _fill(splits, buckets)
    return splits


def _fill(splits: dict[str, Split], buckets: Mapping[str, int]) -> None:
    middles: dict[Split, float] = {"train": 3_500, "validation": 7_500, "test": 9_000}
    empty: Split
    for empty in SPLITS:
        if empty in splits.values():
            continue
        sizes: dict[Split, int] = {s: sum(value == s for value in splits.values()) for s in SPLITS}
        donors = [p for p, s in splits.items() if sizes[s] > 1]
        nearest = min(donors, key=lambda p: (abs(buckets[p] - middles[empty]), p))
        splits[nearest] = empty


def train_or_validation(site: str, patient: str) -> Split:
    """For sources that bring a test set only: an eighth of the others' patients validates."""
    return split_of(bucket(site, patient) * TEST_FROM // BUCKETS)
