"""Results in plain words: numbers as they are printed, verdicts, flags."""

from collections.abc import Sequence

from api_schemas.evaluation import Answer, Answered, Comparison, Flag, PlanPost
from api_schemas.screening import Screening
from api_schemas.terms import Licence
from services.evaluation.reports.facts import Report
from services.evaluation.statistics.analysis import ALPHA
from services.evaluation.statistics.cases import DOMINANT_SHARE, DOMINANT_TIMES
from services.evaluation.statistics.contrasts import compared_with
from services.evaluation.statistics.inference import FEWEST_FOR_P
from services.evaluation.statistics.lines import FEW_DEGREES_OF_FREEDOM, FEW_SEEDS

MINUS = "\N{MINUS SIGN}"
NOTHING = "\N{EN DASH}"
SMALLEST_P = 0.001

SCOPE = "Every number here is conditional on one training sample and one generator."

SHARED = {True: "may be passed on", False: "may not be passed on", None: "nobody has said"}

HEADLINES = {
    "better": "Better",
    "worse": "Worse",
    "equivalent": "Equivalent",
    "inconclusive": "Inconclusive",
    "not_estimable": "Cannot be estimated",
}

ANSWERS: dict[Answered, str] = {
    "shown": "Shown",
    "not_shown": "Not shown",
    "not_estimable": "Cannot be estimated",
}

FLAGS: dict[Flag, str] = {
    "below_chance": (
        "the whole interval of the AUROC lies below .5: images without the finding score higher"
    ),
    "dominant_patient": (
        f"one patient has at least {DOMINANT_SHARE:.0%} of the images, or of those with or without"
        f" the finding, and {DOMINANT_TIMES} times the mean: the interval hangs on that patient"
    ),
    "few_degrees_of_freedom": (
        f"fewer than {FEW_DEGREES_OF_FREEDOM} degrees of freedom, or patients who carry most of"
        " the uncertainty"
    ),
    "fewer_labels": "the mean leaves out labels of which a test set has too few patients",
    "few_patients": f"fewer than {FEWEST_FOR_P} patients in the rarer class of a label",
    "few_seeds": f"fewer than {FEW_SEEDS} training seeds",
    "no_variation": "nothing varies: constant scores, or two arms that rank alike",
    "not_probabilities": "scores outside 0 to 1 are no probabilities",
    "not_estimable": "a label has only one class on this test set",
    "images_withheld": "its cohort lacks images that were withheld as near copies",
    "runs_missing": "runs of this arm failed: it is left out",
    "runs_contradicted": "a run that was said to have failed has predictions: it is left out",
    "exact": "an arm ranked every pair the same way: its limit is exact, its difference has no p",
    "exploratory": "not a registered question",
    "primary": "the registered question",
    "registered": "a further registered question",
    "leakage_waived": (
        "a guard against leakage was waived, or the classifier and the generator of the images were"
        " trained on the same patients"
    ),
    "phantom": "drawn phantoms, not patients",
    "synthetic": "the test set holds synthetic images, not patients only",
    "unlike_its_data": (
        "images, patients or truth are not those of the data that the plan names, or could not be"
        " compared with it"
    ),
}


def auroc(value: float | None) -> str:
    """Also of other measures, which may be below zero."""
    return NOTHING if value is None else f"{value:.3f}".replace("-", MINUS)


def signed(value: float | None) -> str:
    """A difference with its sign and a real minus; zero has no sign."""
    if value is None:
        return NOTHING
    text = f"{abs(value):.3f}"
    if float(text) == 0:
        return text
    return ("+" if value > 0 else MINUS) + text


def steps(taken: tuple[int, int] | None) -> str:
    """The fewest and the most steps over the seeds of an arm."""
    if taken is None:
        return NOTHING
    fewest, most = taken
    return f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"


def measured(value: float) -> str:
    """A distance, to four digits, with a real minus."""
    return f"{value:.4g}".replace("-", MINUS)


def error(value: float | None) -> str:
    return "no error" if value is None else f"\N{PLUS-MINUS SIGN} {value:.2g}".replace("-", MINUS)


def interval(low: float | None, high: float | None, *, sign: bool = False) -> str:
    if low is None or high is None:
        return "no interval"
    show = signed if sign else auroc
    return f"{show(low)} to {show(high)}"


def p_value(p: float | None) -> str:
    if p is None:
        return NOTHING
    return f"< {SMALLEST_P}" if p < SMALLEST_P else f"{p:.3f}"


def percent(dose: float | None) -> str:
    return NOTHING if dose is None else f"{100 * dose:.4g} %"


def counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)


def sentence(c: Comparison) -> str:
    """The answer to the registered question on one test set."""
    bounds = interval(c.low, c.high, sign=True)
    if c.verdict == "not_estimable":
        return "Nothing can be estimated here: no label has both classes."
    if c.verdict == "equivalent":
        return (
            f"The difference is smaller than the registered margin of {c.margin:g}: the whole"
            " 90 % interval lies inside it."
        )
    if c.verdict == "inconclusive":
        return f"No conclusion: the data fit any difference of {bounds}.{_why_not(c)}"
    moved = "raised" if c.verdict == "better" else "lowered"
    return f"{c.primary} {moved} the mean AUROC over {c.reference}, by {bounds}."


def _why_not(c: Comparison) -> str:
    if c.seeds == 1:
        return " One training seed says something about these weights, not about the method."
    if c.p is None:
        return " Too few patients for a p-value."
    if c.p < ALPHA:
        return " This test set alone would say more; all that were registered together do not."
    return ""


def question(a: Answer) -> str:
    """A further registered question, as it was asked."""
    match a.kind:
        case "superiority":
            return f"{a.arm} is better than {a.reference}"
        case "noninferiority":
            return f"{a.arm} is not worse than {a.reference} by {a.margin:g} or more"
        case "equivalence":
            return f"{a.arm} is within {a.margin:g} of {a.reference}"


def reservations(c: Comparison) -> str:
    """Why a firm verdict should be taken less firmly, in a few words."""
    if c.verdict in {"inconclusive", "not_estimable"}:
        return ""
    why: dict[Flag, str] = {
        "few_seeds": counted(c.seeds, "training seed"),
        "few_degrees_of_freedom": "few degrees of freedom",
        "few_patients": "few patients with a rare label",
        "dominant_patient": "one patient with a large share of the images",
        "leakage_waived": "a waived guard",
        "synthetic": "synthetic images in the test set",
        "unlike_its_data": "predictions unlike the data that the plan names",
    }
    return ", ".join(text for flag, text in why.items() if flag in c.flags)


def compared(plan: PlanPost) -> str:
    """Which differences are to which reference."""
    first, *others = compared_with(plan).items()
    said = [f"of {listed(arms)} to {reference}" for reference, arms in others]
    return f"Differences are to {'; '.join([first[0], *said])}."


def trend_sentences(report: Report) -> list[str]:
    """Per test set and reference: what each doubling of the number of training images brings."""
    several = len({t.reference for t in report.trends}) > 1
    return [
        f"{t.test}{f', from {t.reference}' if several else ''}: {signed(t.slope.value)}, 95 %"
        f" interval {interval(t.slope.low, t.slope.high, sign=True)}, p {p_value(t.slope.p)}"
        for t in report.trends
    ]


def terms(licence: Licence) -> str:
    """What the strictest licence of all data says of the images and of what is made of them."""
    return (
        f"{licence.name or 'No licence stated'}. Images: {SHARED[licence.may_export]}. What was "
        f"made of them, this report included: {SHARED[licence.may_share_derived]}. "
        f"{licence.notes}"
    ).strip()


def screening_sentence(screening: Screening) -> str:
    """What was done about near copies among the synthetic images."""
    match screening.state:
        case "screened":
            return (
                "Synthetic images were screened for near copies of whole training images; "
                f"{screening.flagged} of the cohort are withheld."
            )
        case "uncalibrated":
            return (
                "Synthetic images were compared with the training images, but too few real images "
                "were there for a threshold: only exact copies are withheld."
            )
        case "unscreened":
            return "Synthetic images were not screened for near copies of training images."
