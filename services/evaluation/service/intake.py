"""Plans are registered and predictions received; the last set submits the evaluation."""

from typing import cast
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from api_schemas.base import DatasetRef
from api_schemas.evaluation import PlanPost, PlanView, PredictionsPost, PredictionsView
from services.evaluation.models import Plan, Prediction
from services.evaluation.ports import Datasets, Generations
from services.evaluation.service import plans
from services.evaluation.service.completion import QUEUE, submit_if_complete
from services.evaluation.service.keeping import PLAN, plan_folder
from services.evaluation.service.problems import (
    EvaluationBegun,
    NotInPlan,
    PredictionsDisagree,
    PredictionsReceived,
)
from services.evaluation.service.tables import Received, receive
from services.evaluation.views import plan_view, predictions_view
from services.kit.auth import Caller
from services.kit.db import Database, Tx, new_id
from services.kit.jobs import Jobs, lineage
from services.kit.jobs.lineage import Made
from services.kit.objects import ObjectStore, sha256


class Intake:
    """What a study sends. `register` and `accept` are what other services consume."""

    def __init__(
        self,
        db: Database,
        jobs: Jobs,
        store: ObjectStore,
        datasets: Datasets,
        generations: Generations,
    ) -> None:
        self._db = db
        self._jobs = jobs
        self._store = store
        self._datasets = datasets
        self._generations = generations

    def register(self, caller: Caller, plan: PlanPost) -> PlanView:
        """Register the analysis of an experiment, once and for all.

        The same plan again answers the first one; another raises `PlanRegistered` (409).
        """
        plans.check(plan)
        with self._db.transaction() as tx:
            known = plans.registered(tx.session, caller, plan)
        if known is None:
            self._find_data(caller, plan)
            known = self._register(caller, plan)
        return self.plan(caller, known)

    def plan(self, caller: Caller, plan: UUID) -> PlanView:
        with self._db.transaction() as tx:
            return self._view(tx, plans.find(tx.session, caller, plan))

    def accept(self, caller: Caller, what: PredictionsPost, content: bytes) -> PredictionsView:
        """Take predictions of one arm and seed on one test set, a Parquet table.

        The same content again answers the first time's view; other content, or a set that
        is not of the same test set as the ones before, is a 409.
        """
        with self._db.transaction() as tx:
            row = plans.find_open(tx.session, caller, what.plan)
        plans.check_told(caller, row)
        plan = plans.plan_of(row)
        _check_named(plan, what)
        received = receive(content)
        _check_labels(plan, received)
        with self._db.transaction() as tx:
            earlier = _earlier(tx.session, what, received)
        if earlier is None:  # nothing is stored for what is refused
            key = _key(row, received)
            self._store.put(key, received.parquet, "application/vnd.apache.parquet")
            earlier = self._keep(caller, what, received, key)
        return predictions_view(earlier)

    def _register(self, caller: Caller, plan: PlanPost) -> UUID:
        """Write the plan, unless the same has just been written."""
        new = {
            "id": new_id(),
            "project": caller.project,
            "owner": caller.person,
            "experiment": plan.experiment,
            "by_service": caller.by_service,
            "content": plan.model_dump(mode="json"),
            "digest": plans.digest_of(plan),
        }
        unless_known = insert(Plan).on_conflict_do_nothing(index_elements=["project", "experiment"])
        with self._db.transaction() as tx:
            made = tx.session.scalar(unless_known.values(new).returning(Plan.id))
            if made is not None:
                lineage.note(
                    tx,
                    caller,
                    Made("evaluation", QUEUE, PLAN, made, plan.name),
                    plans.sources_of(plan),
                )
            return made or cast("UUID", plans.registered(tx.session, caller, plan))

    def _keep(
        self, caller: Caller, what: PredictionsPost, received: Received, key: str
    ) -> Prediction:
        """Write the row, under the plan's lock: another request may just have sent the same."""
        with self._db.transaction() as tx:
            lineage.share(tx.session, caller.project)
            row = plans.find_open(tx.session, caller, what.plan, lock=True)
            earlier = _earlier(tx.session, what, received)
            if earlier is not None:
                return earlier
            if row.job is not None:
                raise EvaluationBegun("The plan has all its prediction sets", field="plan")
            made = _add(tx, caller, what, received, key)
            submit_if_complete(tx, self._jobs, caller, row)
            return made

    def _find_data(self, caller: Caller, plan: PlanPost) -> None:
        """Raise the provider's 404 for data that is not the caller's."""
        for _, ref in plans.references(plan):
            if isinstance(ref, DatasetRef):
                self._datasets.dataset(caller, ref.dataset)
            else:
                self._generations.generation(caller, ref.generation)

    def _view(self, tx: Tx, row: Plan) -> PlanView:
        job = None if row.job is None else self._jobs.view(tx, row.job)
        plan = plans.plan_of(row)
        return plan_view(row, plan, plans.received(tx.session, row.id), plans.expected(plan), job)


def _check_named(plan: PlanPost, what: PredictionsPost) -> None:
    """The arm, seed and test set must be the plan's."""
    for field, accepted in (
        ("arm", [a.name for a in plan.arms]),
        ("seed", plan.seeds),
        ("test", [t.name for t in plan.tests]),
    ):
        if getattr(what, field) not in accepted:
            raise NotInPlan(f"The plan has no such {field}", field=field, accepted=accepted)


def _check_labels(plan: PlanPost, received: Received) -> None:
    if plan.labels is None:
        return
    planned = {str(label) for label in plan.labels}
    if planned != set(received.predictions.labels):
        raise NotInPlan(
            "These are not the plan's labels", field="body.label", accepted=sorted(planned)
        )


def _earlier(session: Session, what: PredictionsPost, received: Received) -> Prediction | None:
    """The same predictions, if they came before. Raises `PredictionsReceived` and
    `PredictionsDisagree` (409) for what does not fit what is there.
    """
    same_place = select(Prediction).filter_by(
        plan=what.plan, arm=what.arm, seed=what.seed, test=what.test
    )
    earlier = session.scalars(same_place).one_or_none()
    if earlier is None:
        _check_agreement(session, what, received)
    elif earlier.digest != received.digest:
        raise PredictionsReceived(f"Their content's digest is {earlier.digest}")
    return earlier


def _check_agreement(session: Session, what: PredictionsPost, received: Received) -> None:
    """All sets of a test set must hold the same samples, patients, labels and truth."""
    query = select(Prediction).filter_by(plan=what.plan, test=what.test).limit(1)
    other = session.scalars(query).one_or_none()
    if other is None:
        return
    ours = received.predictions.fingerprints()
    differing = [fact for fact in ours if ours[fact] != other.fingerprints[fact]]
    if differing:
        raise PredictionsDisagree(
            f"Test set {what.test}: {' and '.join(differing)} differ from those that arm"
            f" {other.arm}, seed {other.seed} was scored on",
            field="body",
            differs=list(differing),
        )


def _key(row: Plan, received: Received) -> str:
    folder = f"{plan_folder(row.project, row.id)}predictions"
    return f"{folder}/{received.digest[:16]}-{sha256(received.parquet)[:16]}.parquet"


def _add(tx: Tx, caller: Caller, what: PredictionsPost, received: Received, key: str) -> Prediction:
    predictions = received.predictions
    row = Prediction(
        id=new_id(),
        project=caller.project,
        owner=caller.person,
        digest=received.digest,
        key=key,
        sha256=sha256(received.parquet),
        fingerprints=predictions.fingerprints(),
        images=len(predictions.samples),
        patients=len(set(predictions.patients.tolist())),
        **what.model_dump(),
    )
    tx.session.add(row)
    tx.session.flush()
    tx.session.refresh(row)
    return row
