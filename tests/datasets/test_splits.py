"""Splits are by patient, stable, of the stated shares, and never empty where it can be helped."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.datasets.importers.splits import BUCKETS, SMALLEST, SPLITS, assign, bucket, split_of

patients = st.dictionaries(st.text(min_size=1, max_size=6), st.integers(0, BUCKETS - 1))


@given(buckets=patients)
def test_every_patient_has_one_split_and_no_split_is_empty_from_ten_on(
    buckets: dict[str, int],
) -> None:
    splits = assign(buckets, {})
    assert set(splits) == set(buckets)
    if len(buckets) >= SMALLEST:
        assert set(splits.values()) == set(SPLITS)
    moved = [p for p in buckets if splits[p] != split_of(buckets[p])]
    assert len(moved) <= 2


@given(buckets=patients, more=patients)
def test_a_patient_keeps_the_split_as_the_dataset_grows(
    buckets: dict[str, int], more: dict[str, int]
) -> None:
    grown = more | buckets
    small, large = assign(buckets, {}), assign(grown, {})
    changed = [p for p in buckets if small[p] != large[p]]
    assert len(changed) <= 4  # those that filled an empty split, before and after


@given(buckets=patients, given_split=st.sampled_from(SPLITS))
def test_the_sources_own_splits_are_kept_as_they_are(
    buckets: dict[str, int], given_split: str
) -> None:
    stated = dict.fromkeys(list(buckets)[::2], given_split)
    splits = assign(buckets, stated)  # pyright: ignore[reportArgumentType]
    for patient, number in buckets.items():
        assert splits[patient] == stated.get(patient, split_of(number))


def test_shares_are_seventy_ten_twenty() -> None:
    drawn = Counter(split_of(bucket("site", f"patient{n}")) for n in range(20_000))
    assert abs(drawn["train"] / 20_000 - 0.7) < 0.015
    assert abs(drawn["validation"] / 20_000 - 0.1) < 0.01
    assert abs(drawn["test"] / 20_000 - 0.2) < 0.012


def test_the_hash_is_the_one_that_earlier_versions_used() -> None:
    assert [bucket("chexpert", f"patient{n:05d}") for n in range(4)] == [1919, 4176, 5520, 5738]
