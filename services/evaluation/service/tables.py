"""Reading predictions that somebody sent: bounded, checked, canonical."""

import io
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from api_schemas.manifest import PREDICTIONS, WrongTable, content_digest, from_parquet, to_parquet
from services.evaluation.service.problems import PredictionsTooLarge, PredictionsUnusable
from services.evaluation.statistics.predictions import Inconsistent, Predictions

ROW_LIMIT = 20_000_000
"""More than a million images with all labels."""
UNPACKED_LIMIT = 4 * 2**30


@dataclass(frozen=True, eq=False)
class Received:
    """Predictions with the digest of their content and the bytes to store."""

    predictions: Predictions
    digest: str
    parquet: bytes


def receive(content: bytes) -> Received:
    """Raises `PredictionsUnusable` (422) and `PredictionsTooLarge` (413)."""
    try:
        _check_size(content)
        predictions = Predictions.of(from_parquet(content, PREDICTIONS))
    except (WrongTable, Inconsistent) as error:
        raise PredictionsUnusable(str(error), field="body", accepted=PREDICTIONS.names) from error
    table = predictions.table()
    return Received(predictions, content_digest(table), to_parquet(table))


def restore(parquet: bytes) -> Predictions:
    """Predictions as they were stored by us."""
    return Predictions.of(from_parquet(parquet, PREDICTIONS))


def _check_size(content: bytes) -> None:
    """Look at the footer before unpacking anything: a small body can hold a large table."""
    try:
        footer = pq.read_metadata(io.BytesIO(content))
    except (pa.ArrowInvalid, OSError) as error:
        msg = "not a Parquet file"
        raise WrongTable(msg) from error
    unpacked = sum(footer.row_group(i).total_byte_size for i in range(footer.num_row_groups))
    if footer.num_rows > ROW_LIMIT or unpacked > UNPACKED_LIMIT:
        raise PredictionsTooLarge(
            f"At most {ROW_LIMIT} rows and {UNPACKED_LIMIT // 2**30} GiB unpacked", field="body"
        )
