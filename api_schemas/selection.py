"""Which samples of a dataset: the filter of lists and views, and how a view splits patients."""

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from api_schemas.base import DatasetRef, Name, Seed, Split, Wire
from api_schemas.findings import AGE_LIMIT, Ethnicity, Finding, Race, Sex, View

Age = Annotated[int, Field(ge=0, le=AGE_LIMIT)]
Fold = Annotated[int, Field(ge=0, le=127)]
Unknown = Literal["unknown"]
"""Selects the samples whose source does not state the attribute."""
Stratum = Literal["findings", "sex", "race", "ethnicity", "age", "view"]
VALIDATION_SHARE = 0.1
SiteName = Annotated[str, StringConstraints(min_length=1, max_length=80)]


class Filter(Wire):
    """A sample is chosen when it meets every entry that is given.

    Of `split`, `fold`, `site`, `sex`, `race`, `ethnicity` and `view` any listed value will do;
    `unknown` is an attribute nobody stated. Of `present`, `absent`, `uncertain` and `blank` every
    listed finding must be so. A bound on the age leaves out samples of unknown age.
    """

    split: list[Split] = []
    fold: list[Fold] = []
    site: list[SiteName] = []
    sex: list[Sex | Unknown] = []
    race: list[Race | Unknown] = []
    ethnicity: list[Ethnicity | Unknown] = []
    view: list[View | Unknown] = []
    age_from: Age | None = None
    age_to: Age | None = None
    present: list[Finding] = []
    absent: list[Finding] = []
    uncertain: list[Finding] = []
    blank: list[Finding] = []

    @model_validator(mode="after")
    def _somebody_can_meet_it(self) -> Self:
        if self.age_from is not None and self.age_to is not None and self.age_from > self.age_to:
            msg = "age_to: not below age_from; nobody is as old and as young"
            raise ValueError(msg)
        asked: dict[Finding, str] = {}
        for name in ("present", "absent", "uncertain", "blank"):
            for finding in dict.fromkeys(getattr(self, name)):
                if finding in asked:
                    msg = f"{name}: '{finding}' is asked to be {asked[finding]} already"
                    raise ValueError(msg)
                asked[finding] = name
        return self


class NewSplits(Wire):
    """Train, validation and test anew: by patient, alike in what `stratify` names.

    With `folds` everything outside the test share is dealt into so many folds, and fold 0 is
    the validation set, as in the paper; so there is no share `validation` to name then, which
    without folds is 0.1 where it is null. `stratify` null: by those of findings, sex, race and age
    that the data states; what is named must be stated by some of it.
    """

    kind: Literal["new"]
    validation: float | None = Field(default=None, ge=0, lt=1)
    test: float = Field(default=0.2, ge=0, lt=1)
    folds: int | None = Field(default=None, ge=2, le=20)
    stratify: list[Stratum] | None = None
    seed: Seed = 0

    @model_validator(mode="after")
    def _something_to_train_on(self) -> Self:
        if self.folds is not None and self.validation is not None:
            msg = "validation: not together with folds, of which fold 0 validates"
            raise ValueError(msg)
        if self.folds is None and self.validation_share + self.test >= 1:
            msg = "validation and test together leave nothing to train on; at most 0.99"
            raise ValueError(msg)
        return self

    @property
    def validation_share(self) -> float:
        """Where there are no folds."""
        return VALIDATION_SHARE if self.validation is None else self.validation


class FoldSplits(Wire):
    """Splits by the folds that the base has: one validates, perhaps one tests, the others train.

    A sample without a fold keeps its split. The base must have both folds.
    """

    kind: Literal["fold"]
    validation: Fold = 0
    test: Fold | None = None

    @model_validator(mode="after")
    def _two_folds(self) -> Self:
        if self.test == self.validation:
            msg = "test: another fold than validation"
            raise ValueError(msg)
        return self


Splits = Annotated[NewSplits | FoldSplits, Field(discriminator="kind")]


class ViewRequest(Wire):
    """A dataset made of another one's images: filtered, thinned, split anew. Copies no image.

    `join` names further datasets whose images are taken together with the base's, as if they were
    one dataset: of the same image size and kind.

    `splits` null keeps the base's own (the official ones, where the source brought them).
    `one_image_a_patient` draws one of each patient's chosen images by `seed`.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "PA, adults, one image a patient",
                    "where": {"view": ["PA"], "age_from": 18},
                    "one_image_a_patient": True,
                    "splits": {"kind": "new", "validation": 0.1, "test": 0.2, "seed": 1},
                }
            ]
        }
    )

    name: Name
    join: list[DatasetRef] = Field(default=[], max_length=20)
    where: Filter = Filter()
    one_image_a_patient: bool = False
    splits: Splits | None = None
    seed: Seed = 0

    @model_validator(mode="after")
    def _seed_draws(self) -> Self:
        if self.seed and not self.one_image_a_patient:
            msg = (
                "seed: only together with one_image_a_patient; new splits have a seed of their own"
            )
            raise ValueError(msg)
        return self


class DerivedView(Wire):
    """What a view was made of: the dataset `base`, by `request`."""

    base: UUID
    request: ViewRequest
