"""Runs a study through HTTP as any user would: makes what is missing, watches, fetches the report.

Knows only the typed client; everything it shows came over the wire. What the same file made before
is found again: every order carries a key made of its content.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any
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

from api_schemas.base import JobState, JobView, Wire
from api_schemas.client import Client, ProblemRaised, wait
from api_schemas.datasets import DatasetView
from api_schemas.evaluation import MACRO, Comparison, ResultRow
from api_schemas.generation import GenerationView
from api_schemas.generators import GeneratorView
from api_schemas.planning import ExperimentPlan
from api_schemas.training import ExperimentRequest, ExperimentView
from services.local.studies import Existing, Study, tables_of

LIMIT_S = 90 * 24 * 3600.0
"""The published study takes weeks."""
TRIES = 100
"""Orders whose work failed, or was deleted, are made again under a further key."""
IN_VAIN = (JobState.FAILED, JobState.CANCELLED, JobState.QUARANTINED)

Made = DatasetView | GeneratorView | GenerationView | ExperimentView


class StudyRun:
    """Runs a study and shows how it goes. `out` gets the report and the results."""

    def __init__(self, client: Client, console: Console, out: Path) -> None:
        self._client = client
        self._console = console
        self._out = out

    def run(self, study: Study) -> None:
        """Raises `JobDidNotSucceed` when a job ends otherwise, `ProblemRaised` for a refusal."""
        began = time.monotonic()
        self._console.print(f"[bold]{study.name}[/bold]")
        with self._bars() as bars:
            request = study.request(self._ingredients(bars, study))
            self._tell_plan(bars, self._plan(bars, request))
            experiment = self._experiment(bars, request)
        rows = list(self._client.results(experiment.id))
        self._show(study, rows, list(self._client.comparisons(experiment.id)))
        self._save(experiment.id, rows)
        self._console.print(f"All of it took {time.monotonic() - began:.0f} s.")

    # ------------------------------------------------------------ the steps

    def _ingredients(self, bars: Progress, study: Study) -> dict[str, UUID]:
        """Datasets, generators and cohorts by their place in the file, made where missing."""
        client, ids = self._client, dict[str, UUID]()
        for name in study.datasets:
            ids[f"datasets.{name}"] = self._made(
                bars, f"import {name}", study.dataset(name), client.post_dataset, client.get_dataset
            )
            self._tell_rejections(bars, ids[f"datasets.{name}"])
        for name in study.generators:
            order = study.generator(name, ids)
            what = f"train generator {name}"
            ids[f"generators.{name}"] = self._made(
                bars, what, order, client.post_generator, client.get_generator
            )
        for name in study.cohorts:
            order = study.cohort(name, ids)
            what = f"generate cohort {name}"
            ids[f"cohorts.{name}"] = self._made(
                bars, what, order, client.post_generate, client.get_generation
            )
        return ids

    def _made(
        self,
        bars: Progress,
        what: str,
        order: Wire,
        post: Callable[..., Made],
        get: Callable[[UUID], Made],
    ) -> UUID:
        """The id of what was ordered, once it is there."""
        made = order.id if isinstance(order, Existing) else self._ordered(order, post, get)
        self._follow(bars, what, lambda: get(made).job)
        return made

    def _ordered(self, order: Wire, post: Callable[..., Made], get: Callable[[UUID], Made]) -> UUID:
        """What this order made before, unless that failed or is gone; else what it makes now."""
        content = f"{type(order).__name__}:{order.model_dump_json()}:{_changed(order)}"
        digest = hashlib.sha256(content.encode()).hexdigest()
        for number in range(TRIES):
            try:
                made = post(order, idempotency_key=f"study-{digest[:40]}-{number}")
                if get(made.id).job.state not in IN_VAIN:
                    return made.id
            except ProblemRaised as raised:
                if raised.problem.status != HTTPStatus.NOT_FOUND or number == TRIES - 1:
                    raise
        msg = f"this has failed {TRIES} times"
        raise RuntimeError(msg)

    def _plan(self, bars: Progress, request: ExperimentRequest) -> ExperimentPlan:
        """The plan with its estimate; measured first where no such classifier ever was."""
        plan = self._client.plan_experiment(request)
        if plan.calibration is None:
            return plan
        job = plan.calibration.id
        self._follow(bars, "measure the speed", lambda: self._client.get_job(job))
        return self._client.plan_experiment(request)

    def _experiment(self, bars: Progress, request: ExperimentRequest) -> ExperimentView:
        client = self._client
        made = self._ordered(request, client.post_experiment, client.get_experiment)
        self._follow(bars, "train classifiers", lambda: client.get_experiment(made).job)
        view = client.get_experiment(made)
        if view.failed_runs:
            bars.console.print(f"  {view.failed_runs} runs failed; the report says which")
        self._follow(bars, "evaluate", lambda: self._evaluation(view))
        return view

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
                task, completed=done or 0, total=total, unit=job.unit, message=job.message[:50]
            )

        began = time.monotonic()
        wait(look, limit_s=LIMIT_S, seen=show)
        if not self._console.is_terminal:
            self._console.print(f"  {what}: {time.monotonic() - began:.0f} s")
        bars.update(task, total=bars.tasks[task].total or 1, message="")
        bars.update(task, completed=bars.tasks[task].total or 1)

    def _tell_rejections(self, bars: Progress, dataset: UUID) -> None:
        rejected = self._client.get_dataset(dataset).rejected
        if rejected:
            first = next(self._client.dataset_rejections(dataset))
            bars.console.print(
                f"  {rejected} rows were not usable, e.g. line {first.line}: {first.reason}"
            )

    def _tell_plan(self, bars: Progress, plan: ExperimentPlan) -> None:
        """What is about to run, in a few lines."""
        seeds = f"{len(plan.seeds)} seed{'' if len(plan.seeds) == 1 else 's'}"
        hours = "" if plan.estimate is None else f", about {_duration(plan.estimate.device_hours)}"
        known = f", {plan.reused_runs} of them trained before" if plan.reused_runs else ""
        bars.console.print(
            f"  {len(plan.arms)} arms, {seeds}: {plan.runs} runs{known}, "
            f"{plan.total_steps} steps{hours}"
        )
        for each in plan.contrasts:
            bars.console.print(f"  {each.arm} minus {each.reference} [dim]({each.family})[/dim]")
        for test in plan.tests:
            if test.smallest_difference is not None:
                low, high = (_number(each) for each in test.smallest_difference)
                bars.console.print(
                    f"  {test.name}: {test.patients} patients, can show a difference of "
                    f"{low} to {high}"
                )
        for guard in plan.waived:
            bars.console.print(f"  [yellow]{guard}[/yellow]")

    def _show(self, study: Study, rows: list[ResultRow], comparisons: list[Comparison]) -> None:
        macro = [r for r in rows if r.label == MACRO and r.group is None]
        tests = list(dict.fromkeys(r.test for r in macro))
        references = Counter(r.reference for r in macro if r.reference)
        usual = next((name for name, _ in references.most_common(1)), "the reference")
        table = Table(title=f"Macro AUROC [95 % interval], and its difference to {usual}")
        table.add_column("arm")
        for test in tests:
            table.add_column(test)
        for arm in dict.fromkeys(r.arm for r in macro):
            cells = {r.test: _cell(r) for r in macro if r.arm == arm}
            against = next((r.reference for r in macro if r.arm == arm and r.reference), None)
            name = arm if against in {None, usual} else f"{arm}\nminus {against}"
            table.add_row(name, *(cells.get(test, "") for test in tests))
        self._console.print(table)
        for each in comparisons:
            self._console.print(_verdict(each))
        for note in study.notes:
            self._console.print(f"[dim]{note}[/dim]")

    def _save(self, experiment: UUID, rows: list[ResultRow]) -> None:
        self._out.mkdir(parents=True, exist_ok=True)
        results: list[dict[str, Any]] = [row.model_dump(mode="json") for row in rows]
        (self._out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        (self._out / "results.csv").write_text(self._client.results_csv(experiment))
        (self._out / "report.html").write_text(self._client.report(experiment))
        self._console.print(f"Report: {self._out / 'report.html'}")
        self._console.print(f"Results: {self._out / 'results.json'} (experiment {experiment})")


def _changed(order: Wire) -> int:
    """When the file or folder that is to be imported last changed; 0 where there is none."""
    return max((Path(path).stat().st_mtime_ns for _, path in tables_of(order)), default=0)


def _duration(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.1f} min"


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
