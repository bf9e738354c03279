"""How good a cohort is beside real images, on the wire."""

from datetime import datetime
from uuid import UUID

from pydantic import ConfigDict, Field

from api_schemas.base import DatasetRef, EvaluationSplit, GenerationRef, JobView, Seed, Wire
from api_schemas.shifts import ComparedSet


class ReferenceSet(Wire):
    """Real images: a dataset or a split of it."""

    data: DatasetRef
    split: EvaluationSplit = "all"


class GivenFeatures(Wire):
    """Feature tables (`POST /features`) of the cohort and of the reference, by one extractor."""

    cohort: UUID
    reference: UUID


class AgreementRequest(Wire):
    """Evaluations (`POST /evaluations`, `POST /scorings`) of one classifier: of its predictions
    for all of the cohort, and for real images that it was not trained on.
    """

    cohort: UUID
    real: UUID | None = None


class QualityRequest(Wire):
    """Measure a cohort against real images.

    Without a `reference` it is all of the dataset that the cohort's generator was trained on;
    split `test` of it are patients whom the generator did not see. The same `seed` draws the same
    images and pairs. `features` are measured beside those that are offered, `agreement` is of a
    classifier with the conditions that the cohort was ordered with.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "cohort": {"generation": "019a0000-0000-7000-8000-000000000003"},
                    "reference": {
                        "data": {"dataset": "019a0000-0000-7000-8000-000000000001"},
                        "split": "test",
                    },
                }
            ]
        }
    )

    cohort: GenerationRef
    reference: ReferenceSet | None = None
    seed: Seed = 0
    features: list[GivenFeatures] = Field(default=[], max_length=5)
    agreement: AgreementRequest | None = None


class FeatureSpace(Wire):
    """What distances were measured in. `name` and `version` fix what it gives of an image.

    None of those that are offered is the Inception network of published FIDs: not to be compared
    with them. `given` names the tables of one that was given.
    """

    name: str
    version: str
    dimension: int
    about: str
    given: GivenFeatures | None = None


class Scored(Wire):
    """A distance with the error that `Distances` names; null where it cannot be told."""

    value: float
    error: float | None


class Compared(Wire):
    """Of the cohort, and what real images of other patients give: as good as real is `floor`."""

    cohort: Scored
    floor: Scored


class Distances(Wire):
    """How far the cohort lies from the reference, in one feature space.

    Half of the reference's patients against the cohort, and against the other half (`floor`),
    with `images` images of each. `frechet` (the formula of FID) is the mean over `draws` halvings,
    its error the standard deviation over them; it depends on the number of images. `kernel` (KID)
    does not and may be negative; it is the mean over `blocks` blocks of patients, its error the
    standard error of that mean.
    """

    features: FeatureSpace
    images: int
    draws: int
    blocks: int
    frechet: Compared
    kernel: Compared


class Bounded(Wire):
    """A mean with its 95 % interval; a bound is null where there are too few to say."""

    value: float
    low: float | None
    high: float | None


class Diversity(Wire):
    """How alike images of one condition are: mean MS-SSIM of random pairs, 1 for the same image.

    A condition is sex, decade of age and the findings that are present; of each one, as many
    pairs of the cohort as of real images of different patients are compared. `difference` is the
    cohort minus the reference: above zero the cohort is less diverse. Intervals are clustered by
    condition. Fewer than 5 `scales` fit into images (of `size_px`) below 176 px.
    """

    pairs: int
    conditions: int
    scales: int
    size_px: int
    cohort: Bounded
    reference: Bounded
    difference: Bounded


class AgreedRow(Wire):
    """A finding or `macro`: the classifier's AUROC against the conditions asked of the cohort,
    over its `images`, and against the truth of real images, each with its 95 % interval.
    """

    label: str
    images: int
    positives: int | None
    cohort: Bounded | None
    real: Bounded | None


class Agreement(Wire):
    """How well a classifier recognises in the cohort what it was ordered to show.

    `request` names the evaluations; `classifier` is null where their sender did not say which it
    is. `leakage` says in the evaluations' words what it had seen: patients of the images that it
    was judged on, or those whom the cohort's generator was trained on too.
    """

    request: AgreementRequest
    classifier: UUID | None
    leakage: list[str]
    rows: list[AgreedRow]


class Quality(Wire):
    """`images_measured` are those of cohort and reference that were read, drawn by `seed` where
    there were more. `diversity` is null where the sets share no condition with two patients in
    each, or where images are too small for it.
    """

    cohort: ComparedSet
    reference: ComparedSet
    images_measured: tuple[int, int]
    distances: list[Distances]
    diversity: Diversity | None = None
    agreement: Agreement | None = None


class QualityView(Wire):
    """`request` names the reference that was taken. The page is at `/qualities/{id}/page`."""

    id: UUID
    request: QualityRequest
    created_at: datetime
    job: JobView
    result: Quality | None = Field(default=None, description="once the job is done")
