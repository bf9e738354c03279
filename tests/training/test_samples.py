"""Which images and labels a run uses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_schemas.findings import FINDINGS, Finding
from api_schemas.manifest import PREDICTIONS, from_parquet
from api_schemas.training import LabelPolicy
from services.training.ports.engine import UNKNOWN
from services.training.service.samples import (
    BLANK,
    both_classes,
    columns,
    in_order_of_use,
    listing,
    read_samples,
    shuffled,
    targets,
    truth,
)
from services.training.service.storing import predictions
from tests.training.manifests import manifest, random_labels

SAID = np.array([[1, 0, -1, BLANK]], np.int8).T


@pytest.mark.parametrize(
    ("policy", "meant"),
    [
        (LabelPolicy(), [1, 0, UNKNOWN, UNKNOWN]),
        (LabelPolicy(uncertain="1"), [1, 0, 1, UNKNOWN]),
        (LabelPolicy(uncertain="0", blank="0"), [1, 0, 0, 0]),
    ],
)
def test_a_policy_says_what_training_is_told(policy, meant) -> None:
    assert targets(SAID, policy).ravel().tolist() == meant
    assert truth(SAID).ravel().tolist() == [1, 0, UNKNOWN, UNKNOWN]


def test_a_manifest_is_read_as_it_stands() -> None:
    table = manifest(
        ["p", "p", "q"], {Finding.EDEMA: [1, None, -1]}, split=["train", "test", "test"]
    )
    samples = read_samples(table)
    assert samples.labels[:, FINDINGS.index(Finding.EDEMA)].tolist() == [1, BLANK, -1]
    assert samples.split("test").tolist() == [1, 2]
    assert samples.split("all").tolist() == [0, 1, 2]
    assert samples.patients.tolist() == ["p", "p", "q"]


def test_whole_replicas_come_first() -> None:
    samples = read_samples(manifest(["x"] * 12, {}, replicas=[0, 1, 2] * 4))
    order = in_order_of_use(samples, samples.split("train"))
    assert samples.replicas[order].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert sorted(order) == list(range(12))
    assert order[:4].tolist() != sorted(order[:4])  # not in manifest order: a fair sample


@given(st.integers(1, 50), st.integers(1, 200))
def test_a_listing_repeats_evenly(held, count) -> None:
    counts = np.bincount(listing(np.arange(held), count), minlength=held)
    assert counts.sum() == count
    assert counts.max() - counts.min() <= 1


def test_shuffling_deals_the_same_labels_to_others() -> None:
    labels = read_samples(manifest(["x"] * 50, random_labels(50, 1))).labels
    dealt = shuffled(labels, seed=1, stage=0, source=1)
    assert sorted(map(tuple, dealt)) == sorted(map(tuple, labels))
    assert (dealt != labels).any()
    assert (dealt == shuffled(labels, 1, 0, 1)).all()
    assert (dealt != shuffled(labels, 2, 0, 1)).any()


def test_both_classes_must_be_seen() -> None:
    known = np.array([[1, 1, 0, UNKNOWN], [0, UNKNOWN, 0, UNKNOWN]], np.int8)
    assert both_classes(known).tolist() == [True, False, False, False]


def test_predictions_are_long_and_honest_about_truth() -> None:
    samples = read_samples(manifest(["p", "q"], random_labels(2, 3)))
    labels = [Finding.EDEMA, Finding.FRACTURE]
    truths = np.array([[1, UNKNOWN], [0, 1]], np.int8)
    scores = np.array([[0.9, 0.1], [0.2, 0.6]])
    table = from_parquet(
        predictions(samples.ids, samples.patients, labels, truths, scores), PREDICTIONS
    )
    assert table["sample_id"].to_pylist() == ["s-000000", "s-000000", "s-000001", "s-000001"]
    assert table["label"].to_pylist() == ["Edema", "Fracture"] * 2
    assert table["truth"].to_pylist() == [1, None, 0, 1]
    assert table["score"].to_pylist() == [0.9, 0.1, 0.2, 0.6]
    assert columns(labels) == [8, 1]
