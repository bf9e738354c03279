"""The predictions of an experiment's runs on its test sets, as they were stored and evaluated."""

from typing import cast
from uuid import UUID

from sqlalchemy import select

from services.kit.auth import Caller
from services.kit.db import Database
from services.kit.errors import Conflict, NotFound
from services.kit.objects import ObjectStore
from services.training.models import Run
from services.training.service.experiments import find_experiment
from services.training.service.storing import Stored


class PredictionsUnknown(NotFound):
    pass


class PredictionsNotReady(Conflict):
    slug = "predictions-not-ready"
    title = "There are no predictions (yet)"


class StoredPredictions:
    """What people take away of a study: of one arm, seed and test set at a time."""

    def __init__(self, db: Database, store: ObjectStore) -> None:
        self._db = db
        self._store = store

    def of_run(self, caller: Caller, experiment: UUID, arm: str, seed: int, test: str) -> bytes:
        """Parquet. Raises `PredictionsUnknown` (404), which names what there is, and
        `PredictionsNotReady` (409).
        """
        with self._db.transaction() as tx:
            row = find_experiment(tx.session, caller, experiment)
            there = {
                "arm": (arm, [each["name"] for each in row.arms]),
                "seed": (seed, row.request["seeds"]),
                "test": (test, [each["name"] for each in row.request["tests"]]),
            }
            for field, (asked, accepted) in there.items():
                if asked not in accepted:
                    raise PredictionsUnknown(
                        f"The experiment has no such {field}", field=field, accepted=accepted
                    )
            run = tx.session.scalar(select(Run).filter_by(experiment=row.id, arm=arm, seed=seed))
        if run is None or run.predictions is None:
            failed = run is not None and run.problem is not None
            raise PredictionsNotReady(
                "This run has failed" if failed else "This run has not ended yet"
            )
        files = {each["name"]: cast("Stored", each) for each in run.predictions}
        file = files[f"{test}.parquet"]
        return self._store.get(file["key"], file["sha256"])
