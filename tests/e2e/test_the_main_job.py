"""From `up` to the report and back to nothing: every process, every service, real engines."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from api_schemas.base import JobState, JobView
from api_schemas.client import Client, ProblemRaised, wait
from api_schemas.evaluation import MACRO
from api_schemas.generation import ConditionRequest, GenerateRequest, Sampler
from api_schemas.scorings import ScoringRequest
from services.local.__main__ import import_generator
from services.local.demo import phantom_study
from services.local.launcher import Launcher
from services.local.studies import Study
from services.local.study import StudyRun
from tests.generation.diffusion.published import CONFIG, Published, lightning

SITES = ("phantom-a", "phantom-b", "phantom-c")
ARMS = ("real", "real_equal_steps", "real+100%", "synthetic_only", "shuffled")


@dataclass(frozen=True)
class Lab:
    launcher: Launcher
    client: Client
    out: Path
    shown: str


def tiny(study: Study) -> Study:
    """The same with hardly any data and training."""

    def with_(group: dict[str, dict], **change: object) -> dict[str, dict]:
        return {name: {**entry, **change} for name, entry in group.items()}

    return study.model_copy(
        update={
            "datasets": with_(study.datasets, patients=60),
            "generators": with_(study.generators, steps=5),
            "cohorts": with_(study.cohorts, sampler={"steps": 2}),
            "experiment": {**study.experiment, "seeds": [0, 1], "classifier": {"epochs": 1}},
        }
    )


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """An installation on which a tiny study has been run."""
    root = tmp_path_factory.mktemp("lab")
    study = tiny(phantom_study())
    launcher = Launcher(root / "state")
    access = launcher.up()
    shown = StringIO()
    try:
        with Client(access.url, access.key) as client:
            StudyRun(client, Console(file=shown, width=150), root / "out").run(study)
            yield Lab(launcher, client, root / "out", shown.getvalue())
    finally:
        launcher.down()


@pytest.mark.timeout(600)
def test_the_table_and_the_files_are_what_the_suite_answers(lab: Lab) -> None:
    experiment = next(lab.client.list_experiments())
    rows = [r.model_dump(mode="json") for r in lab.client.results(experiment.id)]
    assert json.loads((lab.out / "results.json").read_text()) == rows
    macro = {(r["arm"], r["test"]) for r in rows if r["label"] == MACRO}
    assert macro == {(arm, site) for arm in ARMS for site in SITES}
    assert all(arm in lab.shown for arm in ARMS)
    report = (lab.out / "report.html").read_text()
    assert "phantom" in report
    assert "<script" not in report


def test_every_run_of_every_arm_is_done(lab: Lab) -> None:
    experiment = next(lab.client.list_experiments())
    arms = lab.client.experiment_arms(experiment.id)
    assert [a.arm.name for a in arms] == list(ARMS)
    assert {run.state for arm in arms for run in arm.runs} == {"done"}
    steps = {a.arm.name: a.steps for a in arms}
    assert steps["real"] < steps["real+100%"]
    assert len({steps[name] for name in ARMS[1:]}) == 1


def test_the_same_order_twice_gives_identical_pixels(lab: Lab) -> None:
    generator = next(lab.client.list_generators())
    request = GenerateRequest(
        generator=generator.id,
        conditions=[ConditionRequest(findings={"Pleural Effusion": 1}, count=4)],
        seed=7,
        sampler=Sampler(steps=3),
    )
    digests = []
    for _ in range(2):
        made = lab.client.post_generate(request).id
        job = wait(lambda made=made: lab.client.get_generation(made).job, limit_s=120)
        assert job.state is JobState.SUCCEEDED
        digests.append([i.pixel_sha256 for i in lab.client.generation_images(made)])
    assert len(digests[0]) == 4
    assert digests[0] == digests[1]


def test_events_tell_the_whole_story(lab: Lab) -> None:
    generator = next(lab.client.list_generators())
    states = [e.state for e in lab.client.generator_events(generator.id) if e.kind == "state"]
    assert states == ["queued", "running", "succeeded"]


def test_a_classifier_scores_the_test_set_again_and_leaves(lab: Lab) -> None:
    """What the study said of an arm is what scoring says of its classifiers, label by label: the
    study's mean is over labels that all its test sets have.
    """
    client = lab.client
    experiment = next(client.list_experiments())
    (arm,) = [a for a in client.experiment_arms(experiment.id) if a.arm.name == "real+100%"]
    test = experiment.request.tests[1]
    found: dict[str, list[float]] = {}
    for run in arm.runs:
        assert run.classifier is not None
        request = ScoringRequest(classifier=run.classifier, data=test.data, split=test.split)
        made = client.post_scoring(request).id
        wait(lambda made=made: client.get_scoring(made).job, limit_s=120)
        evaluation = client.get_scoring(made).evaluation
        assert evaluation is not None
        wait(lambda which=evaluation: client.get_evaluation(which).job, limit_s=120)
        result = client.get_evaluation(evaluation).result
        assert result is not None
        for row in result.rows:
            if row.group is None and row.auroc is not None and row.label != MACRO:
                found.setdefault(row.label, []).append(row.auroc)
        wait(lambda which=run.classifier: client.make_classifier_onnx(which), limit_s=120)
        assert b"".join(client.classifier_onnx(run.classifier))
        assert test.name in client.classifier_card(run.classifier)
    rows = client.results(experiment.id, arm="real+100%", test=test.name)
    told = {row.label: row.auroc for row in rows}
    assert found
    for label, values in found.items():
        assert told[label] == pytest.approx(sum(values) / len(values), abs=1e-9), label


def test_a_site_is_deleted_with_all_that_was_made_from_it(lab: Lab) -> None:
    """Every worker deletes its own; the numbers stay. Nothing of it is left for later tests."""
    experiment = next(lab.client.list_experiments())
    rows = list(lab.client.results(experiment.id))
    site = next(each for each in lab.client.list_datasets() if each.site == SITES[0])
    with pytest.raises(ProblemRaised, match="made from this"):
        lab.client.delete_dataset(site.id)
    view = lab.client.delete_dataset(site.id, derived=True)
    assert {each.service for each in view.derived} == {"generation", "training", "evaluation"}

    def deletion() -> JobView:
        job = lab.client.dataset_deletion(site.id).job
        assert job is not None
        return job

    assert wait(deletion, limit_s=120).done > 0
    assert site.id not in {each.id for each in lab.client.list_datasets()}
    assert list(lab.client.list_generators()) == []
    assert list(lab.client.list_generations()) == []
    assert list(lab.client.list_experiments()) == []
    assert list(lab.client.results(experiment.id)) == rows


def test_a_checkpoint_is_imported_from_the_command_line(lab: Lab, tmp_path: Path) -> None:
    state = Published(CONFIG["model"]).state_dict()
    file = lightning(tmp_path / "ddpm.ckpt", CONFIG, state)
    import_generator(file, name="the paper's", weights="ema", state=lab.out.parent / "state")
    generator = next(lab.client.list_generators())
    assert (generator.name, generator.size_px) == ("the paper's", 16)
    assert generator.origin is not None
    assert generator.origin.weights == "raw"  # there is no average in it
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(SystemExit):
        import_generator(file, name="cut", state=lab.out.parent / "state")


def test_down_leaves_no_process(lab: Lab) -> None:
    pids = [row.pid for row in lab.launcher.status() if row.pid]
    assert len(pids) >= 9
    lab.launcher.down()
    assert [pid for pid in pids if psutil.pid_exists(pid)] == []
