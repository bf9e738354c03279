"""Reading predictions that somebody sent: bounded, checked, canonical."""

import io
from dataclasses import dataclass

from api_schemas.manifest import (
    PREDICTIONS,
    WrongTable,
    conform,
    content_digest,
    from_parquet,
    to_parquet,
)
from services.evaluation.importers.faults import Faulty
from services.evaluation.importers.parquet import TooLarge, read_bounded
from services.evaluation.service.problems import PredictionsTooLarge, PredictionsUnusable
from services.evaluation.statistics.predictions import Inconsistent, Predictions


@dataclass(frozen=True, eq=False)
class Received:
    """Predictions with the digest of their content and the bytes to store."""

    predictions: Predictions
    digest: str
    parquet: bytes


def receive(content: bytes) -> Received:
    """Raises `PredictionsUnusable` (422) and `PredictionsTooLarge` (413)."""
    try:
        predictions = Predictions.of(conform(read_bounded(io.BytesIO(content)), PREDICTIONS))
    except TooLarge as error:
        raise PredictionsTooLarge(error.detail, field="body") from error
    except (Faulty, WrongTable, Inconsistent) as error:
        raise PredictionsUnusable(str(error), field="body", accepted=PREDICTIONS.names) from error
    table = predictions.table()
    return Received(predictions, content_digest(table), to_parquet(table))


def restore(parquet: bytes) -> Predictions:
    """Predictions as they were stored by us."""
    return Predictions.of(from_parquet(parquet, PREDICTIONS))
