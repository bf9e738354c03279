"""Which arm is compared with which. Knows the plan; no numbers."""

from collections.abc import Iterator, Mapping

from api_schemas.evaluation import PlannedArm, PlanPost


def reference_of(plan: PlanPost, arm: PlannedArm) -> str | None:
    """The arm that `arm` is compared with; None of one that is compared with none."""
    named = arm.reference or plan.reference
    return None if named == arm.name else named


def references(plan: PlanPost) -> dict[str, str | None]:
    """By arm, in the plan's order."""
    return {arm.name: reference_of(plan, arm) for arm in plan.arms}


def in_circles(of: Mapping[str, str | None]) -> Iterator[str]:
    """Arms from which one comes back to the same arm, by going on to the reference."""
    for arm in of:
        at, passed = of[arm], set[str]()
        while at is not None and at not in passed:
            if at == arm:
                yield arm
                break
            passed.add(at)
            at = of.get(at)


def compared_with(plan: PlanPost) -> dict[str, list[str]]:
    """The arms that are compared with each reference, by reference: that of the plan first."""
    found: dict[str, list[str]] = {plan.reference: []}
    for arm, reference in references(plan).items():
        if reference is not None:
            found.setdefault(reference, []).append(arm)
    return found
