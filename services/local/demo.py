"""The paper in miniature, through HTTP as any user would: data, generator, cohort, experiment.

Knows only the typed client; everything it shows came over the wire.
"""

import json
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from uuid import UUID

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from api_schemas.arms import SupplementPreset
from api_schemas.base import DatasetRef, GenerationRef, JobView
from api_schemas.client import Client, wait
from api_schemas.datasets import DatasetView
from api_schemas.evaluation import MACRO, Comparison, ResultRow
from api_schemas.generation import (
    GenerateRequest,
    GenerationView,
    GeneratorRequest,
    GeneratorView,
    Sampler,
)
from api_schemas.imports import CsvImport, PhantomImport, PhantomSite
from api_schemas.training import (
    ClassifierSettings,
    EvaluationSet,
    ExperimentRequest,
    ExperimentView,
    TestSet,
)

LIMIT_S = 3600.0


@dataclass(frozen=True)
class Study:
    """What a demo does, scaled to two CPU cores."""

    title: str
    imports: Sequence[CsvImport | PhantomImport]
    """The first is where the generator and the classifiers are trained."""
    preset: Literal["tiny-32", "small-64"]
    steps: int
    sampler: Sampler
    ratios: list[float]
    seeds: list[int]
    classifier: ClassifierSettings
    notes: list[str] = field(default_factory=list[str])


def phantom_study() -> Study:
    """Three phantom hospitals; the generator knows the first one only."""
    size = {PhantomSite.A: 420, PhantomSite.B: 120, PhantomSite.C: 120}
    return Study(
        title="The paper in miniature, on phantoms (no patient, no X-ray)",
        imports=[
            PhantomImport(
                format="phantom",
                name=f"Phantoms of site {site[-1].upper()}",
                site=site,
                patients=patients,
                size_px=32,
                seed=1,
            )
            for site, patients in size.items()
        ],
        preset="tiny-32",
        steps=800,
        sampler=Sampler(steps=12),
        ratios=[1.0, 3.0],
        seeds=[0, 1],
        classifier=ClassifierSettings(epochs=6),
        notes=[
            "These are drawn phantoms: the table says how the suite works, nothing of medicine."
        ],
    )


def real_study(csv: Path) -> Study:
    """One CheXpert-style CSV: train, validation and test patients all come from it."""
    return Study(
        title=f"The same on real images: {csv.name}",
        imports=[
            CsvImport(
                format="chexpert_csv",
                name=csv.stem,
                path=str(csv.resolve()),
                site=csv.stem,
                size_px=64,
                resize="antialiased",
            )
        ],
        preset="small-64",
        steps=900,
        sampler=Sampler(steps=20),
        ratios=[1.0, 3.0],
        seeds=[0, 1],
        classifier=ClassifierSettings(epochs=6),
        notes=[
            "A few hundred images and minutes of CPU cannot show whether synthetic data helps;",
            "the width of the intervals says how little this can tell.",
        ],
    )


class Demo:
    """Runs a study and shows how it goes. `out` gets the report and the results."""

    def __init__(self, client: Client, console: Console, out: Path) -> None:
        self._client = client
        self._console = console
        self._out = out

    def run(self, study: Study) -> None:
        """Raises `JobDidNotSucceed` when a job of the study ends otherwise."""
        began = time.monotonic()
        self._console.print(f"[bold]{study.title}[/bold]")
        with self._bars() as bars:
            datasets = [self._dataset(bars, each) for each in study.imports]
            generator = self._generator(bars, study, datasets[0])
            cohort = self._cohort(bars, study, generator, datasets[0])
            experiment = self._experiment(bars, study, datasets, cohort)
        rows = list(self._client.results(experiment.id))
        comparisons = list(self._client.comparisons(experiment.id))
        self._show(study, rows, comparisons)
        self._save(experiment.id, rows)
        self._console.print(f"All of it took {time.monotonic() - began:.0f} s.")

    # ------------------------------------------------------------ the steps

    def _dataset(self, bars: Progress, request: CsvImport | PhantomImport) -> DatasetView:
        client = self._client
        made = client.post_dataset(request)
        self._follow(bars, f"import {made.name}", lambda: client.get_dataset(made.id).job)
        done = client.get_dataset(made.id)
        if done.rejected:
            first = next(client.dataset_rejections(made.id))
            bars.console.print(
                f"  {done.rejected} rows were not usable, e.g. line {first.line}: {first.reason}"
            )
        return done

    def _generator(self, bars: Progress, study: Study, data: DatasetView) -> GeneratorView:
        client = self._client
        request = GeneratorRequest(
            name=f"{data.name}, {study.preset}",
            dataset=data.id,
            preset=study.preset,
            steps=study.steps,
            seed=1,
        )
        made = client.post_generator(request)
        what = f"train generator {study.preset}"
        self._follow(bars, what, lambda: client.get_generator(made.id).job)
        return client.get_generator(made.id)

    def _cohort(
        self, bars: Progress, study: Study, generator: GeneratorView, data: DatasetView
    ) -> GenerationView:
        client = self._client
        request = GenerateRequest(
            name="mirrored cohort",
            generator=generator.id,
            mirror=data.id,
            replicas=round(max(study.ratios)),
            seed=7,
            sampler=study.sampler,
        )
        made = client.post_generate(request)
        what = "generate mirrored cohort"
        self._follow(bars, what, lambda: client.get_generation(made.id).job)
        return client.get_generation(made.id)

    def _experiment(
        self, bars: Progress, study: Study, datasets: list[DatasetView], cohort: GenerationView
    ) -> ExperimentView:
        client = self._client
        home = DatasetRef(dataset=datasets[0].id)
        tests = [TestSet(name=datasets[0].site, data=home, split="test")]
        tests += [
            TestSet(name=d.site, data=DatasetRef(dataset=d.id), split="all") for d in datasets[1:]
        ]
        request = ExperimentRequest(
            name=study.title,
            preset=[
                SupplementPreset(
                    real=home, synthetic=GenerationRef(generation=cohort.id), ratios=study.ratios
                )
            ],
            seeds=study.seeds,
            classifier=study.classifier,
            validation=EvaluationSet(data=home, split="validation"),
            tests=tests,
        )
        made = client.post_experiment(request)
        self._follow(bars, "train classifiers", lambda: client.get_experiment(made.id).job)
        self._follow(bars, "evaluate", lambda: self._evaluation(made))
        return made

    def _evaluation(self, experiment: ExperimentView) -> JobView:
        """The evaluation's job; it is there once the last predictions have arrived."""
        job = self._client.get_plan(experiment.plan).job
        return experiment.job if job is None else job

    # ------------------------------------------------------------ what is shown

    @contextmanager
    def _bars(self) -> Generator[Progress]:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description:<34}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]:<8}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[message]}", style="dim"),
        )
        with Progress(*columns, console=self._console) as bars:
            yield bars

    def _follow(self, bars: Progress, what: str, look: Callable[[], JobView]) -> None:
        task: TaskID = bars.add_task(what, total=None, unit="", message="")

        def show(job: JobView) -> None:
            total = job.total or None
            done = total if job.state.terminal and total else job.done
            bars.update(
                task, completed=done or 0, total=total, unit=job.unit, message=job.message[:40]
            )

        began = time.monotonic()
        wait(look, limit_s=LIMIT_S, seen=show)
        if not self._console.is_terminal:
            self._console.print(f"  {what}: {time.monotonic() - began:.0f} s")
        bars.update(task, total=bars.tasks[task].total or 1, message="")
        bars.update(task, completed=bars.tasks[task].total or 1)

    def _show(self, study: Study, rows: list[ResultRow], comparisons: list[Comparison]) -> None:
        macro = [r for r in rows if r.label == MACRO]
        tests = list(dict.fromkeys(r.test for r in macro))
        table = Table(title="Macro AUROC [95 % interval], and its difference to real_equal_steps")
        table.add_column("arm")
        for test in tests:
            table.add_column(test)
        for arm in dict.fromkeys(r.arm for r in macro):
            cells = {r.test: _cell(r) for r in macro if r.arm == arm}
            table.add_row(arm, *(cells.get(test, "") for test in tests))
        self._console.print(table)
        for each in comparisons:
            self._console.print(_verdict(each))
        for note in study.notes:
            self._console.print(f"[dim]{note}[/dim]")

    def _save(self, experiment: UUID, rows: list[ResultRow]) -> None:
        self._out.mkdir(parents=True, exist_ok=True)
        results = [row.model_dump(mode="json") for row in rows]
        (self._out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        (self._out / "results.csv").write_text(self._client.results_csv(experiment))
        (self._out / "report.html").write_text(self._client.report(experiment))
        self._console.print(f"Report: {self._out / 'report.html'}")
        self._console.print(f"Results: {self._out / 'results.json'} (experiment {experiment})")


def _number(value: float | None, *, signed: bool = False) -> str:
    """Three digits without the leading zero, so that three sites fit a narrow terminal."""
    if value is None:
        return "-"
    return (f"{value:+.3f}" if signed else f"{value:.3f}").replace("0.", ".", 1)


def _p(value: float | None) -> str:
    if value is None:
        return "no p-value"
    return "p < .001" if value < 0.001 else f"p = {value:.3f}"  # noqa: PLR2004 - a convention


def _cell(row: ResultRow) -> str:
    interval = f"{_number(row.auroc)} [{_number(row.low)}, {_number(row.high)}]"
    if row.difference is None or row.arm == row.reference:
        return interval
    return f"{interval}\n{_number(row.difference, signed=True)}, {_p(row.p)}"


def _verdict(answer: Comparison) -> str:
    difference = _number(answer.difference, signed=True)
    interval = f"[{_number(answer.low, signed=True)}, {_number(answer.high, signed=True)}]"
    return (
        f"{answer.test}: {answer.primary} minus {answer.reference} = {difference} {interval}, "
        f"{_p(answer.p_holm)} after Holm: [bold]{answer.verdict.replace('_', ' ')}[/bold]"
    )
