"""Whether predictions that a person sent are of the test set that the plan names."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from api_schemas.base import DataSplit
from api_schemas.evaluation import PlannedTest
from api_schemas.findings import ABSENT, PRESENT
from services.evaluation.service.stock import Stock
from services.evaluation.statistics.predictions import Predictions
from services.kit.auth import Caller
from services.kit.errors import ProblemError, Unavailable


def differences(
    stock: Stock, caller: Caller, test: PlannedTest, sent: Predictions
) -> tuple[str, ...]:
    """In words, all in which predictions differ from the manifest of their test set, or that it
    could not be looked at. Each image has to be there once, with its patient and its truth.
    """
    try:
        rows = stock.rows(caller, DataSplit(data=test.data, split=test.split), "data")
    except Unavailable:
        raise
    except ProblemError as error:
        return (f"they could not be compared with it ({error.problem.title.lower()})",)
    return tuple(_differences(rows, sent))


def _differences(rows: pl.DataFrame, sent: Predictions) -> Iterator[str]:
    place = {sample: n for n, sample in enumerate(rows["sample_id"])}
    found = np.array([place.get(sample, -1) for sample in sent.samples.tolist()])
    here = found >= 0
    if not here.all():
        yield f"{np.count_nonzero(~here):,} of {len(found):,} images are not in it"
    lacking = rows.height - np.count_nonzero(here)
    if lacking:
        yield f"{lacking:,} of its {rows.height:,} images have no prediction"
    known = rows[found[here]]
    split = _otherwise_grouped(sent.patients[here].tolist(), known["patient_id"])
    if split:
        yield f"{split:,} images are grouped into other patients than its own"
    for number, label in enumerate(sent.labels):
        said = known[label].to_numpy()
        other = np.isin(said, (PRESENT, ABSENT)) & (said != sent.truth[here, number])
        # what the data leaves open may be taken as absent or unknown, and the uncertain as present
        other |= known[label].is_null().to_numpy() & (sent.truth[here, number] == PRESENT)
        if other.any():
            yield f"{np.count_nonzero(other):,} images have another truth of {label}"


def _otherwise_grouped(sent: list[str], own: pl.Series) -> int:
    """Images of patients who are not one and the same patient on the other side; names may
    differ.
    """
    frame = pl.DataFrame({"sent": sent, "own": own}).with_columns(
        owns=pl.col("own").n_unique().over("sent"), sents=pl.col("sent").n_unique().over("own")
    )
    return frame.filter((pl.col("owns") > 1) | (pl.col("sents") > 1)).height
