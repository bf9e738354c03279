"""How well a classifier recognises in a cohort what the cohort was ordered to show."""

from uuid import UUID

from sqlalchemy.orm import Session

from api_schemas.base import DataSplit, GenerationRef
from api_schemas.evaluation import MACRO
from api_schemas.evaluations import Evaluated, EvaluatedRow, EvaluationRequest
from api_schemas.qualities import AgreedRow, Agreement, AgreementRequest, Bounded
from services.evaluation import models
from services.evaluation.service.evaluations import data_of, find
from services.evaluation.service.problems import AgreementUnusable
from services.evaluation.service.stock import Item
from services.kit.auth import Caller

FIELD = "agreement"


def check(session: Session, caller: Caller, asked: AgreementRequest, cohort: Item) -> list[UUID]:
    """The jobs of the evaluations, to be waited for. Raises `AgreementUnusable` (422) unless one is
    of all of the cohort as it stands and the other of real images, by the same classifier.
    """
    ours = find(session, caller, asked.cohort, f"{FIELD}.cohort")
    if data_of(_request(ours)) != DataSplit(data=cohort.ref):
        raise AgreementUnusable("It is not of all of this cohort", field=f"{FIELD}.cohort")
    if (ours.compared or {}).get("manifest") != cohort.digest:
        raise AgreementUnusable(
            "The cohort has changed since; score it again", field=f"{FIELD}.cohort"
        )
    if asked.real is None:
        return [ours.job]
    theirs = find(session, caller, asked.real, f"{FIELD}.real")
    of = data_of(_request(theirs))
    if of is None or isinstance(of.data, GenerationRef):
        raise AgreementUnusable("It is not of a dataset", field=f"{FIELD}.real")
    if _request(ours).classifier != _request(theirs).classifier:
        raise AgreementUnusable("It is of another classifier", field=f"{FIELD}.real")
    return [ours.job, theirs.job]


def agreement(session: Session, caller: Caller, asked: AgreementRequest) -> Agreement:
    """What the finished evaluations say of each finding that the cohort's knows; of their mean only
    where it is over the same findings.
    """
    ours = find(session, caller, asked.cohort, f"{FIELD}.cohort")
    theirs = None if asked.real is None else find(session, caller, asked.real, f"{FIELD}.real")
    mine, real = _result(ours), None if theirs is None else _result(theirs)
    same = real is None or real.labels == mine.labels
    reals = {} if real is None else _by_label(real)
    requests = [_request(each) for each in (ours, theirs) if each is not None]
    return Agreement(
        request=asked,
        classifier=requests[0].classifier,
        leakage=[each.leakage for each in requests if each.leakage is not None],
        rows=[
            _agreed(row, reals.get(label))
            for label, row in _by_label(mine).items()
            if same or label != MACRO
        ],
    )


def _agreed(row: EvaluatedRow, real: EvaluatedRow | None) -> AgreedRow:
    return AgreedRow(
        label=row.label,
        images=row.images,
        positives=row.positives,
        cohort=_bounded(row),
        real=None if real is None else _bounded(real),
    )


def _result(row: models.Judgement) -> Evaluated:
    return Evaluated.model_validate(row.result)


def _by_label(result: Evaluated) -> dict[str, EvaluatedRow]:
    """The rows of all images."""
    return {each.label: each for each in result.rows if each.group is None}


def _bounded(row: EvaluatedRow) -> Bounded | None:
    if row.auroc is None:
        return None
    return Bounded(value=row.auroc, low=row.low, high=row.high)


def _request(row: models.Judgement) -> EvaluationRequest:
    return EvaluationRequest.model_validate(row.request)
