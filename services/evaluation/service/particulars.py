"""What a plan could not say when it was registered: its data was still in the making."""

from uuid import UUID

from sqlalchemy.orm import Session

from api_schemas.evaluation import ParticularsPost, ParticularsView, PlanPost
from services.evaluation.models import Particulars, Plan
from services.evaluation.service import plans
from services.evaluation.service.problems import NotInPlan, ParticularsKnown
from services.kit.auth import Caller
from services.kit.db import Database
from services.kit.jobs import lineage


class Details:
    """The use case of whoever trains: what the data has turned out to be."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(self, caller: Caller, plan: UUID, what: ParticularsPost) -> ParticularsView:
        """Once, and before the first predictions; the same again changes nothing. Only the training
        service tells of its own experiments.

        Raises `NotInPlan` (422) for other arms than the plan's, `ParticularsKnown` (409).
        """
        with self._db.transaction() as tx:
            lineage.share(tx.session, caller.project)
            row = plans.find_open(tx.session, caller, plan, lock=True)
            plans.check_told(caller, row)
            _check_named(plans.plan_of(row), what)
            known = tx.session.get(Particulars, row.id)
            if known is not None:
                if ParticularsPost.model_validate(known.content) != what:
                    raise ParticularsKnown("They are other ones")
                return _view(known)
            if plans.received(tx.session, row.id):
                raise ParticularsKnown("Predictions have been received")
            made = Particulars(plan=row.id, content=what.model_dump(mode="json"))
            tx.session.add(made)
            tx.session.flush()
            tx.session.refresh(made)
            return _view(made)


def detailed(session: Session, row: Plan) -> PlanPost:
    """The plan with what became known of its experiment.

    The training service puts what its checks have found in the place of what it could not check
    yet. A person only adds to what a plan says was waived.
    """
    plan, known = plans.plan_of(row), session.get(Particulars, row.id)
    if known is None:
        return plan
    what = ParticularsPost.model_validate(known.content)
    note = plan.training and plan.training.model_copy(update={"arms": what.trained})
    doses = {arm.name: arm.dose for arm in what.arms}
    arms = [arm.model_copy(update={"dose": doses[arm.name]}) for arm in plan.arms]
    said = [] if row.by_service else plan.waived
    waived = list(dict.fromkeys([*said, *what.waived]))
    return plan.model_copy(update={"arms": arms, "training": note, "waived": waived})


def _check_named(plan: PlanPost, what: ParticularsPost) -> None:
    names = [arm.name for arm in plan.arms]
    if [arm.name for arm in what.arms] != names:
        raise NotInPlan("The plan has other arms", field="arms", accepted=names)
    for i, (arm, planned) in enumerate(zip(what.arms, plan.arms, strict=True)):
        if arm.reference not in {None, planned.reference}:
            raise NotInPlan(
                "With which arm it is compared was registered",
                field=f"arms.{i}.reference",
                accepted=planned.reference,
            )
    if not what.trained.keys() <= set(names):
        raise NotInPlan("The plan has no such arm", field="trained", accepted=names)


def _view(row: Particulars) -> ParticularsView:
    return ParticularsView(
        **ParticularsPost.model_validate(row.content).model_dump(),
        plan=row.plan,
        created_at=row.created_at,
    )
