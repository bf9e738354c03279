"""Results in plain words: numbers as they are printed, verdicts, warnings, methods."""

from collections.abc import Sequence

from api_schemas.evaluation import MACRO, Comparison, Flag, PlanPost, ResultRow
from api_schemas.screening import Screening
from api_schemas.terms import Licence
from services.evaluation.reports.facts import Report
from services.evaluation.statistics.analysis import FEW_DEGREES_OF_FREEDOM, FEW_SEEDS
from services.evaluation.statistics.inference import FEWEST_FOR_P

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

FLAGS: dict[Flag, str] = {
    "few_degrees_of_freedom": (
        f"fewer than {FEW_DEGREES_OF_FREEDOM} degrees of freedom: a handful of patients or seeds"
        " carry the uncertainty"
    ),
    "fewer_labels": "the mean is over fewer labels: the test set lacks a class of the others",
    "few_patients": f"fewer than {FEWEST_FOR_P} patients in the rarer class of a label",
    "few_seeds": f"fewer than {FEW_SEEDS} training seeds",
    "not_estimable": "a label has only one class on this test set",
    "runs_missing": "runs of this arm failed: it is left out",
    "exact": "every pair was ranked the same way; the limit is exact and one-sided",
    "exploratory": "not the registered question; not corrected for the number of comparisons",
    "primary": "the registered question",
    "leakage_waived": "a guard against leakage was waived",
    "phantom": "drawn phantoms, not patients",
}


def auroc(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3f}"


def signed(value: float | None) -> str:
    """A difference with its sign and a real minus; zero has no sign."""
    if value is None:
        return NOTHING
    text = f"{abs(value):.3f}"
    if float(text) == 0:
        return text
    return ("+" if value > 0 else MINUS) + text


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
    return NOTHING if dose is None else f"{100 * dose:g} %"


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
    return ""


def reservations(c: Comparison) -> str:
    """Why a firm verdict should be taken less firmly, in a few words."""
    if c.verdict in {"inconclusive", "not_estimable"}:
        return ""
    why: dict[Flag, str] = {
        "few_seeds": counted(c.seeds, "training seed"),
        "few_degrees_of_freedom": "few degrees of freedom",
        "few_patients": "few patients with a rare label",
        "leakage_waived": "a waived guard",
    }
    return ", ".join(text for flag, text in why.items() if flag in c.flags)


def warnings(report: Report) -> list[str]:
    """What a reader must know before believing anything, worst first."""
    plan = report.plan
    return [
        *_phantoms(report),
        *_waived(plan),
        *_few_seeds(plan),
        *_not_estimable(report.rows),
        *_wide(report.comparisons),
        *_rare(report.rows),
        *_few_degrees(report.comparisons),
    ]


def _phantoms(report: Report) -> list[str]:
    names = [t.name for t in report.tests if t.kind == "phantom"]
    if not names:
        return []
    return [
        (
            f"These are phantoms, not patients. The images of {listed(names)} were drawn by a"
            " program; nothing here says anything about medicine."
        )
    ]


def _waived(plan: PlanPost) -> list[str]:
    return [
        reason.partition(": ")[2].capitalize()
        if reason.startswith(NOT_ASKED)
        else f"A guard was waived by request: {reason}"
        for reason in plan.waived
    ]


NOT_ASKED = ("runs: ", "exploratory: ")
"""How waivers begin that nobody asked for: they follow from what happened."""


def _few_seeds(plan: PlanPost) -> list[str]:
    seeds = len(plan.seeds)
    if seeds == 1:
        return [
            (
                "One training seed. The variance between seeds is unknown, so intervals and"
                " p-values speak of these very weights and not of the method; without any effect"
                " such a test still finds one in about a fifth of experiments."
            )
        ]
    if seeds < FEW_SEEDS:
        return [
            (
                f"{seeds} training seeds; {FEW_SEEDS} or more are advised. The variance between"
                " seeds is itself uncertain, and intervals are wide for it."
            )
        ]
    return []


def _not_estimable(rows: Sequence[ResultRow]) -> list[str]:
    missing = _labels_by_test(rows, "not_estimable")
    return [
        f"{test}: only one class of {listed(labels)}; the mean is over the other labels."
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


def _few_degrees(comparisons: Sequence[Comparison]) -> list[str]:
    few = [c for c in comparisons if "few_degrees_of_freedom" in c.flags and c.dof is not None]
    return [
        f"{c.test}: the comparison rests on {c.dof:.1f} degrees of freedom; a handful of patients"
        " or seeds carry its uncertainty."
        for c in few
    ]


def methods(report: Report) -> list[str]:
    """The methods paragraphs, from what was really done."""
    plan = report.plan
    labels = list(dict.fromkeys(r.label for r in report.rows if r.label != MACRO))
    tests = listed(
        [
            f"{t.name} ({counted(t.images, 'image')} of {counted(t.patients, 'patient')},"
            f" split {t.split})"
            for t in report.tests
        ]
    )
    return [
        (
            f"{counted(len(plan.arms), 'training arm')} with {counted(len(plan.seeds), 'seed')}"
            f" each were scored once on {tests}. The analysis plan was registered on"
            f" {report.registered_at:%d %B %Y, %H:%M} UTC, before any prediction was received: the"
            f" primary question is the mean AUROC over {counted(len(labels), 'label')}"
            f" ({listed(labels)}) of {plan.primary} minus {plan.reference} on every test set,"
            f" with an equivalence margin of {plan.margin:g}."
        ),
        "AUROC was computed per label from the images whose label is known, ties counting half;"
        " the mean over the labels is unweighted. Variances come from the influence function of"
        " AUROC summed over each patient's images, so several images of a patient count as one"
        " observation."
        + (_SEEDS if len(plan.seeds) > 1 else _ONE_SEED)
        + " Intervals are 95 %: on the logit scale for AUROCs, on the plain scale for differences,"
        " with Student's t and Satterthwaite's degrees of freedom. Differences are paired by"
        " patient and by seed. No p-value is given where fewer than"
        f" {FEWEST_FOR_P} patients bear the rarer class.",
        (
            f"The primary p-values are Holm-adjusted over {counted(len(plan.tests), 'test set')}."
            " Arms count as equivalent when the 90 % interval of their difference lies inside the"
            " margin, whatever the p-value; every other comparison is exploratory and not adjusted."
        ),
    ]


_SEEDS = (
    " Training seeds are blocked across arms: the variance of their mean is added to the patients'."
)
_ONE_SEED = " With one seed the variance between trainings is unknown and not included."


def trend_sentences(report: Report) -> list[str]:
    """Per test set: what each doubling of the number of training images brings."""
    return [
        f"{t.test}: {signed(t.slope.value)}, 95 % interval"
        f" {interval(t.slope.low, t.slope.high, sign=True)}, p {p_value(t.slope.p)}"
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
