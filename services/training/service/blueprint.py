"""How an experiment is trained, once its data is known: what `planning` finds, `runs` follows."""

from pydantic import Field

from api_schemas.base import Wire
from api_schemas.findings import Finding


class ArmBlueprint(Wire):
    """Images listed (repetitions counted), by stage and source, and steps by stage.

    `withheld` counts those that were asked for and are not listed: they were withheld from their
    cohorts, which hold no more.
    """

    listed: list[list[int]]
    steps: list[int]
    withheld: int = 0

    @property
    def images(self) -> int:
        return sum(map(sum, self.listed))


class Blueprint(Wire):
    """`manifests` holds the digest of every manifest it was made from, by reference;
    `left_out` and `not_estimable` are as in `checks.Choice`; `synthetic` names the datasets that
    are trained on as synthetic images.
    """

    labels: list[Finding]
    size_px: int
    manifests: dict[str, str]
    arms: dict[str, ArmBlueprint]
    waived: list[str]
    synthetic: list[str] = Field(default_factory=list)
    left_out: dict[Finding, str] = Field(default_factory=dict)
    not_estimable: dict[str, list[Finding]] = Field(default_factory=dict)
