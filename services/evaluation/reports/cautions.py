"""What a reader must know before believing anything: guards that were waived, and weak spots.

Knows a report's facts; not how a caution is set on the page.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from api_schemas.evaluation import MACRO, Comparison, Flag, PlanPost, ResultRow
from services.evaluation.reports.facts import Contact, Report, TestFacts
from services.evaluation.reports.words import auroc, counted, interval, listed
from services.evaluation.statistics.baseline import CHANCE
from services.evaluation.statistics.cases import is_dominant
from services.evaluation.statistics.contrasts import references
from services.evaluation.statistics.inference import FEWEST_FOR_P
from services.evaluation.statistics.lines import FEW_SEEDS


@dataclass(frozen=True)
class Caution:
    """Grave enough for a box of its own."""

    title: str
    text: str


WAIVED = {
    "leakage": "The evaluation may have leaked",
    "screening": "Not searched for copies",
    "origin": "Synthetic images of unknown origin",
    "synthetic": "Synthetic images in the place of real ones",
    "generator": "Judged on images of a generator that shares their patients",
    "extended": "Extended after results were seen",
    "contradicted": "Predictions of runs that were said to have failed",
    "runs": "Runs failed",
    "training": "Arms with too little to learn from",
}
"""Titles of guards, by the word that the plan's line begins with."""

FOLLOWS = ("origin", "synthetic", "generator", "extended", "contradicted", "runs", "training")
"""Of these nobody asked to be spared: they follow from what happened."""


def grave(report: Report) -> list[Caution]:
    """One for each guard that was waived, and for what makes any claim doubtful; worst first."""
    return [
        *_phantoms(report),
        *_synthetic(report),
        *_unlike(report),
        *_waived(report.plan),
        *_unscreened(report),
        *_other_steps(report.plan),
        *_same_predictions(report),
        *_below_chance(report.rows),
        *_trivial(report),
        *_gone(report),
        *_few_seeds(report.plan),
    ]


def minor(report: Report) -> list[str]:
    """What limits single numbers."""
    return [
        *_withheld(report.plan),
        *_of_other_steps(report.plan),
        *_left_out(report.comparisons),
        *_complements(report),
        *_not_estimable(report.rows),
        *_wide(report.comparisons),
        *_rare(report.rows),
        *_few_degrees(report.comparisons),
        *_dominant(report.tests),
    ]


def _phantoms(report: Report) -> Iterator[Caution]:
    names = [t.name for t in report.tests if t.kind == "phantom"]
    if names:
        yield Caution(
            "These are phantoms, not patients",
            f"The images of {listed(names)} were drawn by a program; nothing here says anything"
            " about medicine.",
        )


def _synthetic(report: Report) -> Iterator[Caution]:
    names = [t.name for t in report.tests if t.kind in {"synthetic", "mixed"}]
    if names:
        yield Caution(
            "A test set of synthetic images",
            f"Images of {listed(names)} were made by a generator. How well a classifier does there"
            " says how well it reads the generator's images, and not how well it reads patients'.",
        )


def _unlike(report: Report) -> Iterator[Caution]:
    for test in report.tests:
        if test.differences:
            yield Caution(
                "Not the test set that the plan names",
                f"The predictions on {test.name} were sent by hand, and differ from the manifest of"
                f" {test.title or 'its data'}: {'; '.join(test.differences)}. The truth and the"
                " patients behind these numbers are those that the sender told.",
            )


def _waived(plan: PlanPost) -> Iterator[Caution]:
    for reason in plan.waived:
        kind, _, words = reason.partition(": ")
        title = WAIVED.get(kind, "A guard was waived")
        said = words if kind in FOLLOWS else f"A guard was waived by request: {reason}"
        yield Caution(title, said)


def _unscreened(report: Report) -> Iterator[Caution]:
    """Of the cohort that is shown, unless the plan says it: then nobody knew at that time."""
    said = any(reason.startswith("screening:") for reason in report.plan.waived)
    contact = report.contact
    if said or not isinstance(contact, Contact) or contact.screening.state == "screened":
        return
    if any(pair.synthetic is not None for pair in contact.pairs):
        yield Caution(
            WAIVED["screening"],
            "Nobody knows whether the synthetic images are copies of training images: the search"
            " for near copies was not made, or lacked the real images to set its threshold by.",
        )


def _other_steps(plan: PlanPost) -> Iterator[Caution]:
    """Of the registered question: what the primary arm gains may be the longer training alone."""
    steps = _steps(plan)
    ours, theirs = steps.get(plan.primary), steps.get(plan.reference)
    if ours is not None and theirs is not None and ours != theirs:
        yield Caution(
            "The reference trained for another number of steps",
            f"{plan.primary} was to train {ours:,} steps and {plan.reference} {theirs:,}. The"
            " difference between them is of the images and of the length of training together; a"
            " reference with equal steps would tell them apart.",
        )


def _of_other_steps(plan: PlanPost) -> Iterator[str]:
    """The same of all other arms."""
    steps = _steps(plan)
    for arm, reference in references(plan).items():
        if reference is None or arm == plan.primary or not {arm, reference} <= steps.keys():
            continue
        if steps[arm] != steps[reference]:
            yield (
                f"{arm} was to train {steps[arm]:,} steps and its reference {reference}"
                f" {steps[reference]:,}: their difference is of the length of training too."
            )


def _steps(plan: PlanPost) -> dict[str, int]:
    """As they were planned, by arm."""
    trained = {} if plan.training is None else plan.training.arms
    return {name: arm.steps for name, arm in trained.items()}


def _same_predictions(report: Report) -> Iterator[Caution]:
    """Arms whose predictions are equal on every test set and with every seed are one classifier."""
    digests: dict[str, list[str]] = {arm.name: [] for arm in report.plan.arms}
    for each in sorted(report.predictions, key=lambda p: (p.test, p.seed)):
        digests[each.arm].append(each.digest)
    alike: dict[tuple[str, ...], list[str]] = {}
    for arm, of_arm in digests.items():
        alike.setdefault(tuple(of_arm), []).append(arm)
    for arms in alike.values():
        if len(arms) > 1:
            yield Caution(
                "Arms with equal predictions",
                f"{listed(arms)} made the same predictions on every test set and with every seed:"
                " they are the same classifiers, and comparing them says nothing.",
            )


def _below_chance(rows: Sequence[ResultRow]) -> Iterator[Caution]:
    """Arms that rank the wrong way round, by test set and label."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if "below_chance" in row.flags:
            found.setdefault((row.test, row.label), []).append(row.arm)
    if found:
        where = "; ".join(
            f"{'mean over the labels' if label == MACRO else label} on {test} ({listed(arms)})"
            for (test, label), arms in found.items()
        )
        yield Caution(
            "An AUROC below chance",
            f"The whole 95 % interval lies below .5: {where}. Images without the finding score"
            " higher than images with it. Check whether the labels are inverted and whether the"
            " scores are of another column; if neither is so, the classifier has learnt a"
            " difference between sites that runs the other way on this test set.",
        )


def _trivial(report: Report) -> Iterator[Caution]:
    """Labels that trivial features find, and that the arms which are compared do not find clearly
    better. Other arms may be controls, at chance by design.
    """
    compared = {report.plan.primary, report.plan.reference}
    said: list[str] = []
    for each in report.baselines:
        rows = [r for r in report.rows if (r.test, r.label) == (each.test, each.label)]
        for value, low, high, how in (
            (each.auroc, each.low, each.high, "other patients of the test set"),
            (each.trained_auroc, each.trained_low, each.trained_high, "the training images"),
        ):
            if value is None or low is None or low <= CHANCE:
                continue  # they may tell nothing
            equalled = [r for r in rows if r.arm in compared and _reaches(value, r)]
            if equalled:
                best = max(row.auroc or 0.0 for row in equalled)
                said.append(
                    f"{each.label} on {each.test}: {auroc(value)} [{interval(low, high)}] by"
                    f" trivial features alone, fitted to {how}, and at most {auroc(best)} by"
                    f" {listed([row.arm for row in equalled])}"
                )
    if said:
        yield Caution(
            "Trivial features do as well as the classifiers",
            f"{'; '.join(said)}. Border, black margins, exposure and sharpness say nothing of a"
            " lung: images of patients with the finding were taken in another way than the others."
            " It cannot be said that a classifier recognises the disease there.",
        )


def _reaches(baseline: float, row: ResultRow) -> bool:
    """Whether the baseline lies above a classifier's AUROC or within its interval."""
    low = row.auroc if row.low is None else row.low
    return low is not None and baseline >= low


def _gone(report: Report) -> Iterator[Caution]:
    names = [t.name for t in report.tests if t.kind == "unknown"]
    if names:
        yield Caution(
            "Data is gone",
            f"What {listed(names)} was made of has been deleted since; the predictions remain.",
        )


def _few_seeds(plan: PlanPost) -> Iterator[Caution]:
    seeds = len(plan.seeds)
    if seeds == 1:
        yield Caution(
            "One training seed",
            "The variance between seeds is unknown, so intervals and p-values speak of these very"
            " weights and not of the method; without any effect such a test still finds one in"
            " about a fifth of experiments.",
        )
    elif seeds < FEW_SEEDS:
        yield Caution(
            "Few training seeds",
            f"{counted(seeds, 'training seed')}; {FEW_SEEDS} or more are advised. The variance"
            " between seeds is itself uncertain, and intervals are wide for it.",
        )


def _left_out(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """The same labels on every test set: said once."""
    for c in comparisons[:1]:
        if c.left_out:
            why = "; ".join(f"{label} ({reason})" for label, reason in c.left_out.items())
            yield f"The mean is over {listed(c.averaged) or 'no label'}. It leaves out {why}."


def _complements(report: Report) -> Iterator[str]:
    for test, pairs in report.complements.items():
        for first, second in pairs:
            yield (
                f"{test}: {first} is present just where {second} is absent. The mean counts this"
                " one fact twice."
            )


def _not_estimable(rows: Sequence[ResultRow]) -> list[str]:
    missing = _labels_by_test(rows, "not_estimable")
    return [
        f"{test}: only one class of {listed(labels)}; nothing can be estimated of that."
        for test, labels in missing.items()
    ]


def _rare(rows: Sequence[ResultRow]) -> list[str]:
    rare = _labels_by_test(rows, "few_patients")
    return [
        f"{test}: fewer than {FEWEST_FOR_P} patients in the rarer class of {listed(labels)}; no"
        f" p-value is given for {'it' if len(labels) == 1 else 'them'}."
        for test, labels in rare.items()
    ]


def _labels_by_test(rows: Sequence[ResultRow], flag: Flag) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in rows:
        if flag in row.flags and row.label != MACRO and "runs_missing" not in row.flags:
            labels = found.setdefault(row.test, [])
            if row.label not in labels:
                labels.append(row.label)
    return found


def _withheld(plan: PlanPost) -> list[str]:
    trained = {} if plan.training is None else plan.training.arms
    return [
        f"{name} was trained on {counted(arm.images, 'image')}, {arm.withheld:,} fewer than its"
        " name says: so many were withheld from its cohort as near copies of training images. Its"
        " dose is that of the images it had."
        for name, arm in trained.items()
        if arm.withheld
    ]


def _wide(comparisons: Sequence[Comparison]) -> list[str]:
    wide = [
        c
        for c in comparisons
        if c.low is not None and c.high is not None and c.high - c.low > 4 * c.margin
    ]
    if not wide:
        return []
    return [
        (
            f"Wide intervals on {listed([c.test for c in wide])}: more than twice the registered"
            f" margin of {wide[0].margin:g} to either side. A study of this size could not show"
            " that the arms are equivalent."
        )
    ]


def _dominant(tests: Sequence[TestFacts]) -> Iterator[str]:
    for t in tests:
        if is_dominant(t.largest, t.images, t.patients):
            yield (
                f"{t.name}: {t.largest:,} of the {t.images:,} images are of one patient, and the"
                " intervals hang on that patient. The cure: make a view of the dataset with one"
                " image a patient (one_image_a_patient), and take it as the test set."
            )


def _few_degrees(comparisons: Sequence[Comparison]) -> list[str]:
    few = [c for c in comparisons if "few_degrees_of_freedom" in c.flags and c.dof is not None]
    return [
        f"{c.test}: a handful of patients or seeds carry the uncertainty of the comparison"
        f" ({c.dof:.1f} degrees of freedom)."
        for c in few
    ]
