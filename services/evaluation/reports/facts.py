"""What a report is made of: results, and what is known about where they come from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from api_schemas.evaluation import Answer, BaselineRow, Comparison, MetricRow, PlanPost, ResultRow
from api_schemas.screening import Screening
from api_schemas.terms import UNSTATED, Licence
from services.evaluation.statistics.analysis import Trend
from services.evaluation.statistics.curves import Curves

Kind = Literal["real", "phantom", "synthetic", "mixed", "unknown"]
"""What images show: people, drawn phantoms, what a generator made, several of these, or nobody can
say any more.
"""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class TestFacts:
    """A test set as it was scored. `title` and `manifest` are None once the data is gone;
    `largest` are the images of the patient who has most, `differences` all in which predictions
    that a person sent differ from the manifest.
    """

    __test__ = False  # not a test of pytest

    name: str
    kind: Kind
    split: str
    images: int
    patients: int
    title: str | None = None
    manifest: str | None = None
    terms: str = ""
    largest: int = 0
    differences: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Pair:
    """An image of the source beside a synthetic one. Pixels are (H, W), 8 bits."""

    caption: str
    real: Pixels
    synthetic: Pixels | None


@dataclass(frozen=True, eq=False)
class Contact:
    """A contact sheet; `mirrored` when each synthetic image has its neighbour's condition."""

    pairs: Sequence[Pair]
    kind: Kind
    mirrored: bool
    screening: Screening
    """Of the synthetic images."""


@dataclass(frozen=True)
class PredictionFacts:
    """One set of predictions; `steps` were taken in training and `best_step` is the one whose
    weights were kept, None where nobody said it.
    """

    test: str
    arm: str
    seed: int
    digest: str
    steps: int | None = None
    best_step: int | None = None


@dataclass(frozen=True, eq=False)
class ArmCurves:
    """The ROC and calibration curves of an arm on a test set."""

    test: str
    arm: str
    curves: Curves


@dataclass(frozen=True, eq=False)
class Report:
    """Everything the page says. `contact` is a sentence where there are no images to show,
    `licence` the strictest of all data. `rows` are over all images, `groups` inside groups.
    `complements` are pairs of averaged labels, by test set, of which each says what the other does.
    `baselines` are of trivial features; `unmeasured` says by test set why it has none.
    """

    plan: PlanPost
    plan_id: UUID
    plan_digest: str
    registered_at: datetime
    evaluated_at: datetime
    method: str
    versions: Mapping[str, str]
    inputs_digest: str
    rows: Sequence[ResultRow]
    comparisons: Sequence[Comparison]
    trends: Sequence[Trend]
    tests: Sequence[TestFacts]
    predictions: Sequence[PredictionFacts]
    contact: Contact | str
    curves: Sequence[ArmCurves] = ()
    licence: Licence = UNSTATED
    groups: Sequence[ResultRow] = ()
    metrics: Sequence[MetricRow] = ()
    answers: Sequence[Answer] = ()
    complements: Mapping[str, Sequence[tuple[str, str]]] = field(
        default_factory=dict[str, Sequence[tuple[str, str]]]
    )
    baselines: Sequence[BaselineRow] = ()
    unmeasured: Mapping[str, str] = field(default_factory=dict[str, str])
