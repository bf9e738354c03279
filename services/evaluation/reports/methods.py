"""The methods paragraphs, written from what was really done."""

from collections.abc import Iterator, Mapping

from api_schemas.evaluation import TrainingNote
from services.evaluation.reports.facts import Report
from services.evaluation.reports.words import compared, counted, listed
from services.evaluation.statistics.inference import FEWEST_FOR_P

_SEEDS = (
    " Training seeds are blocked across arms: the variance of their mean is added to the patients'."
)
_ONE_SEED = " With one seed the variance between trainings is unknown and not included."


def methods(report: Report) -> list[str]:
    return [
        *_training(report.plan.training),
        _question(report),
        _variance(report),
        _families(report),
        *_groups(report),
        *_curves(report),
        _software(report),
    ]


def _training(note: TrainingNote | None) -> Iterator[str]:
    if note is None:
        yield "How the classifiers were trained was not said when the plan was registered."
        return
    settings = ", ".join(_settings(note.classifier))
    yield (
        f"Every arm and seed trained one classifier: {settings}. In training, uncertain labels were"
        f" {_POLICY[note.uncertain]} and blank ones {_POLICY[note.blank]}; evaluation ignores"
        f" both. {_steps(note)} {_kept(note.classifier)}"
    )


def _kept(classifier: Mapping[str, object]) -> str:
    if classifier.get("keep") == "last":
        return "The averaged weights after the last step were kept."
    best = _BEST[str(classifier.get("monitor", "auroc"))]
    share = classifier.get("keep_from")
    after = f" after {share:.0%} of the steps" if isinstance(share, float) and share else ""
    return f"The weights with {best}{after} were kept; of several stages, of the last one."


_BEST = {"auroc": "the best validation macro AUROC", "loss": "the least validation loss"}
_POLICY = {"ignore": "ignored", "0": "taken as negative", "1": "taken as positive"}


def _settings(settings: Mapping[str, object], within: str = "") -> Iterator[str]:
    """Each setting with its value; what was left to its default of nothing is left out."""
    for name, value in settings.items():
        words = f"{within}{name}".replace("_", " ")
        if isinstance(value, dict):
            yield from _settings(value, f"{words} ")
        elif value is not None:
            yield f"{words} {value}"


def _steps(note: TrainingNote) -> str:
    if not note.arms:
        return "The data was still in the making then: how many steps its size gave is not known."
    by_steps: dict[int, list[str]] = {}
    for name, arm in note.arms.items():
        by_steps.setdefault(arm.steps, []).append(name)
    patience = note.classifier.get("early_stopping")
    stopped = (
        f", or fewer: a run stopped after {patience} validations without a better one"
        if patience
        else ""
    )
    return (
        "Steps: "
        + "; ".join(f"{steps:,} for {listed(names)}" for steps, names in by_steps.items())
        + f"{stopped}."
    )


def _question(report: Report) -> str:
    plan = report.plan
    labels = report.comparisons[0].averaged
    which = (
        f"{listed(labels) or 'none'}: those with {plan.fewest_patients} patients or more with and"
        " without the finding on every test set"
    )
    tests = listed(
        [
            f"{t.name} ({counted(t.images, 'image')} of {counted(t.patients, 'patient')},"
            f" split {t.split})"
            for t in report.tests
        ]
    )
    return (
        f"{counted(len(plan.arms), 'training arm')} with {counted(len(plan.seeds), 'seed')}"
        f" each were scored once on {tests}. The analysis plan was registered on"
        f" {report.registered_at:%d %B %Y, %H:%M} UTC, before any prediction was received: the"
        f" primary question is the mean AUROC over {counted(len(labels), 'label')}"
        f" ({which}) of {plan.primary} minus {plan.reference} on every test set,"
        f" with an equivalence margin of {plan.margin:g}."
    )


def _variance(report: Report) -> str:
    return (
        "AUROC was computed per label from the images whose label is known, ties counting half;"
        " the mean over the labels is unweighted. Variances come from the influence function of"
        " AUROC summed over each patient's images, so several images of a patient count as one"
        " observation."
        + (_SEEDS if len(report.plan.seeds) > 1 else _ONE_SEED)
        + " Intervals are 95 %: on the logit scale for AUROCs, on the plain scale for differences,"
        " with Student's t, whose degrees of freedom are those of the patients and of the seeds,"
        " weighted by their variances. Differences are paired by patient and by seed. No p-value is"
        f" given where fewer than {FEWEST_FOR_P} patients bear the rarer class."
    )


def _families(report: Report) -> str:
    further = (
        f" {counted(len(report.plan.questions), 'further question')}, registered too, are a family"
        " of their own, adjusted over all of them and all test sets."
        if report.plan.questions
        else ""
    )
    return (
        "The primary p-values are Holm-adjusted over"
        f" {counted(len(report.plan.tests), 'test set')}."
        " Arms count as equivalent when the 90 % interval of their difference lies inside the"
        f" margin, whatever the p-value.{further} {compared(report.plan)} Everything else is"
        " exploratory; Holm's p is given there over all other arms with one reference on one test"
        " set, and within the labels, or the groups, of one arm on one test set."
    )


def _groups(report: Report) -> Iterator[str]:
    if report.groups:
        yield (
            "Groups are those of the test sets' manifests (sex, age band, race, ethnicity, view,"
            " site, and sex with age and with race); AUROC is ranked inside each group. A gap is a"
            " group's value minus that of the largest group of its attribute, and its difference"
            " between arms says whom the arm helped more."
        )


def _curves(report: Report) -> Iterator[str]:
    if report.curves:
        yield (
            "ROC curves are averaged over labels and seeds at equal false positive rates; their"
            " bands are pointwise 95 % intervals (Wilson's, for the number of independent images"
            " that gives the clustered variance) and do not hold for the whole curve at once."
            " Calibration shows images by score in bins of equal size, all seeds side by side,"
            " with 95 % intervals over patients."
        )


def _software(report: Report) -> str:
    versions = listed([f"{name} {version}" for name, version in report.versions.items()])
    return (
        f"Computed by Synthorax with method {report.method}, {versions}. The plan's SHA-256 begins"
        f" with {report.plan_digest[:12]}, that of all predictions with"
        f" {report.inputs_digest[:12]}; both are given in full below, with the digest of every"
        " prediction set and of every test set's manifest."
    )
