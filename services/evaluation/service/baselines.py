"""Trivial features of the images of a test set, read once, and what they tell of its labels."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from api_schemas.base import DataSplit
from api_schemas.evaluation import BaselineRow, PlannedTest, PlanPost
from api_schemas.findings import ABSENT, PRESENT
from api_schemas.manifest import LABEL_COLUMNS
from api_schemas.shifts import Apart, FeatureShift
from services.evaluation.service.stock import Stock, pixels
from services.evaluation.statistics.baseline import (
    CHANCE,
    FEATURES,
    Baseline,
    Learner,
    apart,
    baseline,
    features_of,
    some_patients,
)
from services.evaluation.statistics.cases import UNKNOWN, Cases, Floats, Ints, LabelCases, numbered
from services.evaluation.statistics.predictions import Predictions
from services.kit.errors import ProblemError, Unavailable
from services.kit.jobs import Lease


def trivial_features(stock: Stock, lease: Lease, rows: pl.DataFrame) -> Floats:
    """`FEATURES` (N, d) of the images of a manifest's rows; few images are in memory at once."""
    found: list[Floats] = []
    for pngs in stock.images(rows):
        lease.stop_now()
        found += [features_of(pixels(png)) for png in pngs]
    return np.stack(found)


def tell_apart(
    stock: Stock, lease: Lease, first: pl.DataFrame, second: pl.DataFrame
) -> Apart | None:
    """How well trivial features tell two sets apart; None where one has fewer than two patients."""
    kept = [rows.filter(some_patients(*_patients(rows))) for rows in (first, second)]
    ours, theirs = (trivial_features(stock, lease, rows) for rows in kept)
    found = apart(ours, theirs, pl.concat([rows["patient_id"] for rows in kept]).to_numpy())
    if found is None:
        return None
    features = [
        FeatureShift(
            feature=feature.name,
            first=float(ours[:, n].mean()),
            second=float(theirs[:, n].mean()),
            auroc=found.alone[n],
        )
        for n, feature in enumerate(FEATURES)
    ]
    return Apart(
        images=(len(ours), len(theirs)),
        auroc=found.inference.value,
        low=found.inference.low,
        high=found.inference.high,
        features=sorted(features, key=lambda each: -abs(each.auroc - CHANCE)),
    )


def _patients(rows: pl.DataFrame) -> tuple[Ints, int]:
    return numbered(rows["patient_id"].to_numpy())


@dataclass(frozen=True)
class Baselines:
    """The baseline of trivial features beside the test sets of a study."""

    stock: Stock
    lease: Lease
    plan: PlanPost

    @cached_property
    def learner(self) -> Learner | None:
        """The training images of the real data that the report shows, read once; None where there
        are none.
        """
        sheet = self.plan.contact_sheet
        if sheet is None:
            return None
        wanted = DataSplit(data=sheet.real, split="train")
        try:
            rows = self.stock.rows_with_images(self.lease.caller, wanted, "contact_sheet.real")
            rows = rows.filter(some_patients(*_patients(rows)))
            features = trivial_features(self.stock, self.lease, rows)
        except Unavailable:
            raise
        except ProblemError:
            return None
        stated = rows.select(
            pl.when(pl.col(name).is_in([PRESENT, ABSENT])).then(pl.col(name)).otherwise(UNKNOWN)
            for name in LABEL_COLUMNS
        )
        truth = stated.to_numpy().astype(np.int8)
        return Learner(Cases.of(LABEL_COLUMNS, truth, rows["patient_id"].to_numpy()), features)

    def of_test(self, test: PlannedTest, scored: Predictions) -> list[BaselineRow] | str:
        """A line for every label with enough patients, or why there is none. A study is answered
        whatever became of its images.
        """
        try:
            return self._of_test(test, scored)
        except Unavailable:
            raise
        except ProblemError as error:
            return f"{error.problem.title}: {error.problem.detail}"

    def _of_test(self, test: PlannedTest, scored: Predictions) -> list[BaselineRow] | str:
        wanted = DataSplit(data=test.data, split=test.split)
        manifest = self.stock.rows_with_images(self.lease.caller, wanted, "data")
        order = pl.DataFrame({"sample_id": scored.samples.tolist()}).with_row_index("place")
        rows = order.join(manifest, on="sample_id", how="inner", maintain_order="left")
        if not rows.height:
            return "The data has none of the images that were scored"
        rows = rows.filter(some_patients(*_patients(rows)))
        cases = scored.take(rows["place"].to_numpy().astype(np.int64)).cases()
        features = trivial_features(self.stock, self.lease, rows)
        fewest = self.plan.fewest_patients
        found = [
            self._row(test, name, label, features, told)
            for name, label in zip(cases.labels, cases.by_label, strict=True)
            if label.fewest >= fewest and (told := baseline(label, features)) is not None
        ]
        return found or f"No label has {fewest} patients with and as many without it"

    def _row(
        self, test: PlannedTest, name: str, label: LabelCases, features: Floats, told: Baseline
    ) -> BaselineRow:
        trained = self.learner and self.learner.infer(name, label, features)
        return BaselineRow(
            experiment=self.plan.experiment,
            test=test.name,
            label=name,
            images=len(label.rows),
            positives=label.n1,
            patients=label.patients,
            auroc=told.inference.value,
            low=told.inference.low,
            high=told.inference.high,
            trained_auroc=trained and trained.value,
            trained_low=trained and trained.low,
            trained_high=trained and trained.high,
            feature=FEATURES[told.best].name,
            feature_auroc=told.alone[told.best],
        )
