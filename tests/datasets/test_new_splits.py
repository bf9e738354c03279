"""New splits keep patients whole and are alike in what was asked."""

from hashlib import sha256

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from api_schemas.findings import PRESENT, Finding
from api_schemas.selection import FoldSplits, NewSplits
from services.datasets.statistics.splits import split
from services.datasets.statistics.stratify import deal
from tests.datasets.tables import manifest

RARE, COMMON = Finding.PLEURAL_OTHER, Finding.LUNG_OPACITY


@pytest.fixture(scope="module")
def hospital() -> pl.DataFrame:
    """2,000 patients with one to eight images; a finding in 1 % and one in 30 % of them."""
    rng = np.random.default_rng(3)
    rows = []
    for patient in range(2000):
        sex = ["Female", "Male", None][rng.choice(3, p=[0.4, 0.4, 0.2])]
        age = int(rng.integers(18, 95))
        race = ["White", "Asian"][rng.choice(2, p=[0.95, 0.05])]
        rows += [
            {
                "patient_id": f"p{patient}",
                "sex": sex,
                "age": age,
                "race": race,
                str(RARE): int(rng.random() < 0.01),
                str(COMMON): [1, 0, -1, None][rng.choice(4, p=[0.3, 0.3, 0.1, 0.3])],
            }
            for _ in range(rng.integers(1, 9))
        ]
    return manifest(rows)


@pytest.mark.parametrize(
    "how", [NewSplits(kind="new", seed=4), NewSplits(kind="new", seed=4, folds=5, stratify=["sex"])]
)
def test_names_decide_nothing(hospital: pl.DataFrame, how: NewSplits) -> None:
    """Another installation has the same pixels in the same order under other names."""
    pixels = pl.Series([sha256(str(i).encode()).hexdigest() for i in range(hospital.height)])
    here = hospital.with_columns(pixels.alias("pixel_sha256"))
    names = {p: sha256(p.encode()).hexdigest() for p in hospital["patient_id"].unique()}
    there = here.with_columns(pl.col("patient_id").replace_strict(names))
    dealt, elsewhere = split(here, how), split(there, how)
    assert dealt["split"].to_list() == elsewhere["split"].to_list()
    assert dealt["fold"].to_list() == elsewhere["fold"].to_list()
    assert set(dealt["split"]) == {"train", "validation", "test"}


def shares(frame: pl.DataFrame, of: pl.Expr) -> dict[str, float]:
    """By split, the share of the images with an attribute that lie in it."""
    counted = frame.group_by("split").agg(of.fill_null(value=False).sum().alias("n"))
    total = counted["n"].sum()
    return {name: n / total for name, n in counted.iter_rows()}


@pytest.mark.parametrize(
    "of",
    [
        pl.col(RARE) == PRESENT,
        pl.col(COMMON) == PRESENT,
        pl.col("sex") == "Female",
        pl.col("sex").is_null(),
        pl.col("race") == "Asian",
        pl.col("age") >= 90,
        pl.col("sample_id").is_not_null(),
    ],
)
def test_the_splits_are_alike_in_labels_and_demographics(
    hospital: pl.DataFrame, of: pl.Expr
) -> None:
    made = split(hospital, NewSplits(kind="new", validation=0.1, test=0.2, seed=1))
    found = shares(made, of)
    assert found["train"] == pytest.approx(0.7, abs=0.02)
    assert found["validation"] == pytest.approx(0.1, abs=0.02)
    assert found["test"] == pytest.approx(0.2, abs=0.02)


def test_what_is_not_stratified_is_left_to_chance(hospital: pl.DataFrame) -> None:
    """The negative control of the test above: chance alone is not that even."""
    far = 0
    for seed in range(20):
        how = NewSplits(kind="new", stratify=["age"], seed=seed)
        found = shares(split(hospital, how), pl.col(RARE) == PRESENT)
        far += abs(found["test"] - 0.2) > 0.02
    assert far >= 3


def test_patients_are_whole_and_all_else_is_as_it_was(hospital: pl.DataFrame) -> None:
    made = split(hospital, NewSplits(kind="new", seed=1))
    assert made.group_by("patient_id").agg(pl.col("split").n_unique())["split"].max() == 1
    assert made.columns == hospital.columns
    assert made.drop("split").equals(hospital.drop("split"))


def test_the_same_seed_splits_alike_whatever_the_order(hospital: pl.DataFrame) -> None:
    how = NewSplits(kind="new", seed=5)
    first = split(hospital, how).sort("sample_id")
    again = split(hospital.reverse(), how).sort("sample_id")
    assert first.equals(again)
    assert not first.equals(split(hospital, NewSplits(kind="new", seed=6)).sort("sample_id"))


def test_folds_share_what_is_not_tested_and_fold_0_validates(hospital: pl.DataFrame) -> None:
    made = split(hospital, NewSplits(kind="new", folds=5, test=0.2))
    assert shares(made, pl.col(RARE) == PRESENT)["test"] == pytest.approx(0.2, abs=0.03)
    test = made.filter(pl.col("split") == "test")
    assert test["fold"].null_count() == test.height
    rest = made.filter(pl.col("split") != "test")
    assert sorted(rest["fold"].unique()) == [0, 1, 2, 3, 4]
    assert ((rest["fold"] == 0) == (rest["split"] == "validation")).all()
    sizes = rest.group_by("fold").len()["len"]
    assert sizes.max() - sizes.min() < 0.05 * rest.height


def test_another_fold_validates_and_another_tests(hospital: pl.DataFrame) -> None:
    folded = split(hospital, NewSplits(kind="new", folds=4, test=0.2))
    turned = split(folded, FoldSplits(kind="fold", validation=2, test=3))
    told = {(f, s) for f, s in turned.select("fold", "split").unique().iter_rows()}
    assert told == {(0, "train"), (1, "train"), (2, "validation"), (3, "test"), (None, "test")}


def test_shares_that_leave_nothing_to_train_on_are_refused() -> None:
    with pytest.raises(ValidationError, match="leave nothing"):
        NewSplits(kind="new", validation=0.5, test=0.5)
    with pytest.raises(ValidationError, match="another fold"):
        FoldSplits(kind="fold", validation=1, test=1)


@given(
    counts=st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), max_size=40),
    parts=st.integers(1, 4),
)
def test_everybody_is_dealt_once(counts: list[list[int]], parts: int) -> None:
    x = np.array(counts, dtype=np.float64).reshape(-1, 3)
    images = np.ones(len(x), dtype=np.int64)
    dealt = deal(x, images, [1.0] * parts)
    assert dealt.shape == (len(x),)
    assert ((dealt >= 0) & (dealt < parts)).all()
    if not x.any():  # nothing to stratify: only sizes count
        sizes = np.bincount(dealt, minlength=parts)
        assert sizes.max() - sizes.min() <= 1
