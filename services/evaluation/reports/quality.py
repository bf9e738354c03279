"""The page of a measured cohort."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from api_schemas.qualities import Quality
from api_schemas.terms import Licence
from services.evaluation.reports.facts import Pixels
from services.evaluation.reports.page import environment
from services.evaluation.statistics.baseline import CHANCE

FEW = 10
"""Images for each feature, below which the bias of a Fréchet distance is most of it."""


@dataclass(frozen=True, eq=False)
class NearPair:
    """A synthetic image and its nearest training image; that is None once it is gone."""

    index: int
    likeness: float
    synthetic: Pixels
    real: Pixels | None


@dataclass(frozen=True, eq=False)
class Likest:
    """The likest pairs, or in `missing` a sentence on why there are none."""

    pairs: Sequence[NearPair] = ()
    missing: str = ""
    withheld: int = 0
    threshold: float | None = None


@dataclass(frozen=True, eq=False)
class QualityPage:
    """Everything the page says. `changed`: the cohort is no longer the one that was measured,
    `reference_changed` likewise; `withdrawn`: a patient was withdrawn from the data that the cohort
    was made of, `unchecked`: nobody could say.
    """

    id: UUID
    measured_at: datetime
    quality: Quality
    seed: int
    likest: Likest
    phantom: bool
    licence: Licence
    changed: bool
    reference_changed: bool
    withdrawn: bool
    unchecked: bool


def render(page: QualityPage) -> str:
    """One HTML page that stands alone: nothing loaded, no script."""
    q = page.quality
    few = any(each.images < FEW * each.features.dimension for each in q.distances)
    template = environment().get_template("quality.html")
    rows = [] if q.agreement is None else q.agreement.rows
    wrong_way = [
        f"{row.label}, {name}"
        for row in rows
        for name, side in (("cohort", row.cohort), ("real images", row.real))
        if side is not None and side.high is not None and side.high < CHANCE
    ]
    return template.render(
        page=page, q=q, likest=page.likest, few=FEW if few else 0, wrong_way=wrong_way
    )
