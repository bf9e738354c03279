"""Every guard that was waived has its box, and the methods say what was done."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from api_schemas.evaluation import BaselineRow, TrainedArm, TrainingNote
from api_schemas.screening import Screening
from services.evaluation.reports import cautions
from services.evaluation.reports.facts import Contact, Report
from services.evaluation.reports.methods import methods
from services.evaluation.statistics.analysis import METHOD
from services.evaluation.statistics.inference import Inference
from services.evaluation.statistics.lines import is_below_chance
from tests.evaluation.reports.made import report_of

NOTE = TrainingNote(
    classifier={
        "preset": "fast",
        "learning_rate": 0.001,
        "early_stopping": None,
        "augmentation": {"max_shift": 0.1},
    },
    uncertain="ignore",
    blank="0",
    arms={
        "real": TrainedArm(images=1000, steps=300),
        "real_equal_steps": TrainedArm(images=1000, steps=1200),
        "real+300%": TrainedArm(images=4000, steps=1200),
    },
)


@cache
def clean() -> Report:
    """Five seeds, screened, nothing waived: as good as a study gets."""
    made = report_of(training=NOTE)
    assert isinstance(made.contact, Contact)
    screened = Screening.model_validate({"state": "screened", "flagged": 0})
    return replace(made, contact=replace(made.contact, screening=screened))


def titles(report: Report) -> list[str]:
    return [caution.title for caution in cautions.grave(report)]


def test_a_clean_study_has_no_box() -> None:
    assert cautions.grave(clean()) == []


def test_a_reference_that_trained_for_other_steps_has_its_box() -> None:
    arms = NOTE.arms | {"real_equal_steps": TrainedArm(images=1000, steps=313)}
    note = NOTE.model_copy(update={"arms": arms})
    report = replace(clean(), plan=clean().plan.model_copy(update={"training": note}))
    (box,) = cautions.grave(report)
    assert box.title == "The reference trained for another number of steps"
    assert "real+300% was to train 1,200 steps and real_equal_steps 313." in box.text


def test_other_arms_whose_reference_trained_for_other_steps_are_named() -> None:
    said = [words for words in cautions.minor(clean()) if "its reference" in words]
    (one,) = said
    assert one.startswith("real was to train 300 steps and its reference real_equal_steps 1,200:")


@pytest.mark.parametrize(
    ("reason", "title"),
    [
        ("leakage: of tests.0.data, 3 patients were seen", "The evaluation may have leaked"),
        ("screening: preset.synthetic was not searched", "Not searched for copies"),
        ("origin: preset.synthetic was made elsewhere.", "Synthetic images of unknown origin"),
        (
            "generator: tests.0 was made by a generator of the same patients",
            "Judged on images of a generator that shares their patients",
        ),
        ("extended: seeds were added after results were seen", "Extended after results were seen"),
        ("runs: real, seed 3 failed for good (the loss became infinite)", "Runs failed"),
        ("something new: nobody thought of", "A guard was waived"),
    ],
)
def test_every_waived_guard_has_a_box_with_its_words(reason: str, title: str) -> None:
    waived = clean().plan.model_copy(update={"waived": [reason]})
    (box,) = cautions.grave(replace(clean(), plan=waived))
    assert box.title == title
    assert reason.partition(": ")[2] in box.text
    assert ("by request" in box.text) == (
        not reason.startswith(("origin", "generator", "extended", "runs"))
    )


def test_each_of_several_has_its_own() -> None:
    waived = clean().plan.model_copy(update={"waived": ["leakage: a", "leakage: b"]})
    texts = [c.text for c in cautions.grave(replace(clean(), plan=waived))]
    assert len(texts) == 2
    assert texts[0].endswith("leakage: a")


@pytest.mark.parametrize("state", ["unscreened", "uncalibrated"])
def test_a_cohort_that_nobody_searched_is_a_box_once(state: str) -> None:
    contact = clean().contact
    assert isinstance(contact, Contact)
    screening = Screening.model_validate({"state": state})
    unsearched = replace(clean(), contact=replace(contact, screening=screening))
    assert titles(unsearched) == ["Not searched for copies"]
    said = unsearched.plan.model_copy(update={"waived": ["screening: preset.synthetic"]})
    assert titles(replace(unsearched, plan=said)) == ["Not searched for copies"]
    alone = [replace(pair, synthetic=None) for pair in contact.pairs]
    bare = replace(contact, screening=screening, pairs=alone)
    assert titles(replace(unsearched, contact=bare)) == []


def test_data_that_is_gone_and_phantoms_are_boxes() -> None:
    tests = [replace(clean().tests[0], kind="unknown", title=None, manifest=None)]
    assert titles(replace(clean(), tests=tests)) == ["Data is gone"]
    tests = [replace(clean().tests[0], kind="phantom")]
    assert titles(replace(clean(), tests=tests)) == ["These are phantoms, not patients"]


@pytest.mark.parametrize(
    ("seeds", "title"), [([0], "One training seed"), ([0, 1], "Few training seeds")]
)
def test_few_seeds_are_a_box(seeds: list[int], title: str) -> None:
    few = clean().plan.model_copy(update={"seeds": seeds})
    assert titles(replace(clean(), plan=few)) == [title]


def test_weak_spots_are_named() -> None:
    found = " ".join(cautions.minor(report_of(one_class=True)))
    assert "only one class of Lung Opacity" in found
    wide = " ".join(cautions.minor(clean()))
    assert "Wide intervals on internal" in wide


def test_methods_say_what_was_done() -> None:
    text = " ".join(methods(clean()))
    for said in (
        "preset fast, learning rate 0.001, augmentation max shift 0.1.",
        "uncertain labels were ignored and blank ones taken as negative",
        "300 for real; 1,200 for real_equal_steps and real+300%.",
        "5 training arms with 5 seeds",
        "internal (248 images of 120 patients, split test)",
        "2 labels (Edema and Lung Opacity: those with 2 patients or more with and without",
        "real+300% minus real_equal_steps",
        "margin of 0.005",
        "Training seeds are blocked across arms",
        "Holm-adjusted over 1 test set",
        "ROC curves are averaged",
        METHOD,
        f"numpy {np.__version__}",
        "a" * 12,
        "b" * 12,
    ):
        assert said in text
    assert "None" not in text


def test_methods_admit_what_was_not_said() -> None:
    bare = clean().plan.model_copy(update={"training": None})
    text = " ".join(methods(replace(clean(), plan=bare, curves=())))
    assert "was not said when the plan was registered" in text
    assert "ROC" not in text.replace("AUROC", "")
    open_note = NOTE.model_copy(update={"arms": {}})
    later = clean().plan.model_copy(update={"training": open_note, "seeds": [0]})
    text = " ".join(methods(replace(clean(), plan=later)))
    assert "still in the making" in text
    assert "With one seed the variance between trainings is unknown" in text


def test_an_arm_that_lacks_withheld_images_is_named() -> None:
    arms = {**NOTE.arms, "real+300%": TrainedArm(images=3990, steps=1200, withheld=10)}
    short = report_of(training=NOTE.model_copy(update={"arms": arms}))
    assert not any("withheld" in each for each in cautions.minor(clean()))
    (said,) = [each for each in cautions.minor(short) if "withheld" in each]
    assert said.startswith("real+300% was trained on 3,990 images, 10 fewer than its name says")


def test_the_methods_say_which_weights_were_kept_and_what_ended_a_run() -> None:
    assert "best validation macro AUROC were kept" in methods(clean())[0]
    settings = {"preset": "paper", "monitor": "loss", "early_stopping": 5}
    paper = report_of(training=NOTE.model_copy(update={"classifier": settings}))
    said = methods(paper)[0]
    assert "The weights with the least validation loss were kept;" in said
    assert "or fewer: a run stopped after 5 validations without a better one." in said
    settings |= {"keep": "best", "keep_from": 0.5}
    fast = report_of(training=NOTE.model_copy(update={"classifier": settings}))
    assert "least validation loss after 50% of the steps were kept" in methods(fast)[0]
    last = report_of(training=NOTE.model_copy(update={"classifier": {"keep": "last"}}))
    assert "The averaged weights after the last step were kept." in methods(last)[0]


def test_arms_with_equal_predictions_are_pointed_out() -> None:
    def told(arm: str) -> str:
        return "real" if arm == "real_equal_steps" else arm

    alike = [
        replace(each, digest=f"{each.test} {told(each.arm)} {each.seed}")
        for each in clean().predictions
    ]
    (caution,) = cautions.grave(replace(clean(), predictions=alike))
    assert caution.title == "Arms with equal predictions"
    assert caution.text.startswith("real and real_equal_steps made the same predictions")
    other = [replace(alike[0], digest="another"), *alike[1:]]
    assert cautions.grave(replace(clean(), predictions=other)) == []


def beside(auroc: float, low: float | None, high: float | None) -> Report:
    """A clean study of which trivial features find edema so well."""
    row = BaselineRow(
        experiment=clean().plan.experiment,
        test="internal",
        label="Edema",
        images=200,
        positives=60,
        patients=120,
        auroc=auroc,
        low=low,
        high=high,
        feature="border",
        feature_auroc=0.2,
    )
    return replace(clean(), baselines=[row])


def test_trivial_features_that_do_as_well_are_a_box() -> None:
    (caution,) = cautions.grave(beside(0.879, 0.81, 0.93))
    assert caution.title == "Trivial features do as well as the classifiers"
    assert "Edema on internal: 0.879 [0.810 to 0.930] by trivial features alone" in caution.text
    assert "the training images" not in caution.text
    assert "real_equal_steps" in caution.text


def test_trivial_features_that_were_fitted_to_the_training_images_are_a_box_too() -> None:
    report = beside(0.53, 0.45, 0.6)
    trained = {"trained_auroc": 0.9, "trained_low": 0.85, "trained_high": 0.94}
    rows = [row.model_copy(update=trained) for row in report.baselines]
    (caution,) = cautions.grave(replace(report, baselines=rows))
    assert "Edema on internal: 0.900 [0.850 to 0.940]" in caution.text
    assert "fitted to the training images" in caution.text


@pytest.mark.parametrize(
    "bounds",
    [
        (0.53, 0.51, 0.55),  # below what every classifier reaches
        (0.879, 0.45, 0.99),  # they may tell nothing
        (0.879, None, None),
    ],
)
def test_trivial_features_that_tell_less_are_no_box(
    bounds: tuple[float, float | None, float | None],
) -> None:
    assert cautions.grave(beside(*bounds)) == []


def test_another_label_is_not_held_against_the_baseline() -> None:
    report = beside(0.879, 0.81, 0.93)
    moved = [row.model_copy(update={"label": "Fracture"}) for row in report.baselines]
    assert cautions.grave(replace(report, baselines=moved)) == []


def test_an_interval_below_chance_is_a_box() -> None:
    report = clean()
    rows = [
        row.model_copy(update={"flags": [*row.flags, "below_chance"]})
        if (row.arm, row.label) == ("shuffled", "Edema")
        else row
        for row in report.rows
    ]
    (caution,) = cautions.grave(replace(report, rows=rows))
    assert caution.title == "An AUROC below chance"
    assert "Edema on internal (shuffled)" in caution.text


def test_scores_of_the_wrong_way_round_are_flagged_and_others_are_not() -> None:
    def flags(high: float | None) -> bool:
        return is_below_chance(Inference(0.4, 0.3, high))

    assert (flags(0.49), flags(0.5), flags(None), is_below_chance(None)) == (True, *[False] * 3)
    assert not any("below_chance" in row.flags for row in clean().rows)


def test_one_patient_with_many_images_is_named_with_the_cure() -> None:
    def told(largest: int) -> list[str]:
        report = clean()
        tests = [replace(t, images=701, patients=182, largest=largest) for t in report.tests]
        return [
            each for each in cautions.minor(replace(report, tests=tests)) if "one patient" in each
        ]

    (sentence,) = told(66)
    assert sentence.startswith("internal: 66 of the 701 images are of one patient")
    assert "one_image_a_patient" in sentence
    assert told(20) == []
