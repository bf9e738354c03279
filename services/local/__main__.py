"""The command line: `python -m services.local up | down | status | study | demo` and more."""

import sys
from datetime import timedelta
from pathlib import Path
from subprocess import CalledProcessError
from typing import Annotated, Never

from cyclopts import App, Parameter
from httpx2 import TransportError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from api_schemas.client import Client, JobDidNotSucceed, ProblemRaised, RestartTransport, wait
from api_schemas.generators import WeightsKind
from services.local import importing, studies
from services.local.demo import phantom_study, real_study
from services.local.launcher import Access, Launcher, NotUp
from services.local.studies import NotAStudy, Study
from services.local.study import StudyRun

STATE = Path(".synthorax")
IMPORT_LIMIT_S = 3600
StateFolder = Annotated[Path, Parameter(name="--state", help="The folder that keeps everything.")]
ImportRoots = Annotated[
    list[Path] | None,
    Parameter(
        name="--import-root",
        negative="",
        help="A folder below which datasets may be imported; repeatable, and remembered.",
    ),
]
CheckpointFile = Annotated[Path, Parameter(help="The .ckpt as their trainer wrote it.")]
DemoData = Annotated[
    Path | None, Parameter(name="--data", help="A CheXpert-style CSV; phantoms when not given.")
]

GivenFields = Annotated[
    list[str] | None,
    Parameter(
        name="--with",
        negative="",
        help="A further field of the import as field=value; repeatable (laterals=true).",
    ),
]

FurtherTables = Annotated[
    list[str] | None,
    Parameter(
        name="--table",
        negative="",
        help="A further table of the same source as file=split (test.csv=test); repeatable.",
    ),
]

app = App(
    name="python -m services.local",
    help="Synthorax on one machine, without Docker and without root.",
)
study_app = App(name="study", help="Studies that stand in one file.")
app.command(study_app)
console = Console()


@app.command
def up(*, state: StateFolder = STATE, import_root: ImportRoots = None) -> None:
    """Start everything in the background, or find that it runs."""
    access = bring_up(state, import_root or [])
    console.print(f"Synthorax answers at {access.url}  (API: {access.url}/docs)")
    console.print(f"The key is in {state / 'client.env'}")


@app.command
def down(*, state: StateFolder = STATE) -> None:
    """Stop everything; data and secrets stay."""
    if not state.exists():
        console.print(f"Nothing here: {state} does not exist")
        return
    with console.status("stopping: workers finish their step first"):
        ran = Launcher(state, console.print).down()
    console.print(f"Stopped {', '.join(ran)}" if ran else "Nothing ran")


@app.command
def status(*, state: StateFolder = STATE) -> None:
    """Show what runs and what is wrong. Exit status 1 when something is."""
    if not state.exists():
        console.print(f"Nothing here: {state} does not exist")
        sys.exit(1)
    launcher = Launcher(state)
    table = Table("process", "pid", "up for", "memory", "log", box=None, pad_edge=False)
    rows = launcher.status()
    for row in rows:
        log = str(state / "logs" / f"{row.name}.log")
        if row.pid is None:
            table.add_row(row.name, "[red]down", "", "", log)
        else:
            since = timedelta(seconds=int(row.since_s))
            table.add_row(row.name, str(row.pid), str(since), f"{row.memory_bytes >> 20} MB", log)
    console.print(table)
    problems = launcher.problems()
    for problem in problems:
        console.print(f"\n[red]{escape(problem)}[/red]")
    if problems or any(row.pid is None for row in rows):
        sys.exit(1)
    console.print(f"\nSynthorax answers at {launcher.installation.url}")


@app.command
def migrate(*, state: StateFolder = STATE) -> None:
    """Bring the database to the newest schemas (`up` does so as well)."""
    with console.status("migrating"):
        Launcher(state, console.print).migrate()
    console.print("Every schema is at its newest version")


@app.command
def verify(
    *,
    content: Annotated[
        bool, Parameter(negative="", help="Read every object, too: as long as a backup takes.")
    ] = False,
    state: StateFolder = STATE,
) -> None:
    """Walk rows against the object store. Exit status 1 when an object is missing or altered."""
    try:
        with console.status("walking rows against objects"):
            console.print(Launcher(state).verify(content=content), end="", highlight=False)
    except CalledProcessError as error:
        console.print(error.output or f"see {state / 'logs' / 'verify.log'}", highlight=False)
        sys.exit(1)


@app.command
def adopt(
    *,
    yes: Annotated[bool, Parameter(negative="", help="Do it; without it only look.")] = False,
    state: StateFolder = STATE,
) -> None:
    """Show what database and object store hold; with --yes, declare that they belong together.

    Needed once when one of them is new, older or another's. Nothing is removed by it.
    """
    sys.exit(Launcher(state).upkeep("adopt", *(["--yes"] if yes else [])))


@app.command
def collect(
    *,
    most: Annotated[int | None, Parameter(help="Remove them if they are no more.")] = None,
    state: StateFolder = STATE,
) -> None:
    """Show how many objects no row names; with --most N, remove them if they are no more."""
    sys.exit(Launcher(state).upkeep("collect", *([] if most is None else ["--most", str(most)])))


@app.command
def import_generator(
    file: CheckpointFile,
    *,
    name: Annotated[str, Parameter(help="What the generator is to be called.")],
    weights: Annotated[WeightsKind, Parameter(help="Moving average, or raw weights.")] = "ema",
    state: StateFolder = STATE,
) -> None:
    """Import a checkpoint of the authors' package. Exit status 1 when it is refused."""
    if not file.is_file():
        console.print(f"[red]It was not imported.[/red] There is no file {escape(str(file))}")
        sys.exit(1)
    access = bring_up(state, [])
    with connect(access) as client, console.status("importing"):
        try:
            made = client.import_generator(name, file, weights=weights)
            wait(lambda: client.get_generator(made.id).job, limit_s=IMPORT_LIMIT_S)
        except (JobDidNotSucceed, ProblemRaised, TransportError) as error:
            refuse("It was not imported.", error)
        view = client.get_generator(made.id)
    console.print(f"Generator {view.id}")
    if view.origin is not None:
        found = f"{view.origin.parameters:,} parameters, {view.origin.weights} weights"
        console.print(f"It makes {view.size_px} px images: {found}")


@app.command
def demo(*, state: StateFolder = STATE, data: DemoData = None, given: GivenFields = None) -> None:
    """Run the paper in miniature, on phantoms or on the images of a CSV."""
    try:
        if data is not None and not data.exists():
            raise importing.NotUnderstood(f"There is no {data}")  # noqa: TRY301 - likewise
        if given and data is None:
            raise importing.NotUnderstood("--with is for the import of a CSV: name it by --data")  # noqa: TRY301 - one exit for all reasons
        fields = importing.read_fields(given or [])
        study = real_study(data.resolve(strict=True), fields) if data else phantom_study()
    except (importing.NotUnderstood, NotAStudy) as error:
        console.print(f"[red]Not a demo.[/red] {escape(str(error))}")
        sys.exit(1)
    run_study(study, state, state / "demo")


@study_app.command(name="run")
def study_run(
    file: Annotated[Path, Parameter(help="A study in YAML, such as studies/phantom.yaml.")],
    *,
    out: Annotated[Path | None, Parameter(help="Where report and results go.")] = None,
    state: StateFolder = STATE,
) -> None:
    """Make what a study needs, run it, watch, and fetch its report. Again: go on, or show it."""
    try:
        roots = Launcher(state).installation.import_roots if state.exists() else []
        study = studies.read(file, roots)
    except NotAStudy as error:
        console.print(f"[red]Not a study.[/red] {error}")
        sys.exit(1)
    run_study(study, state, out or state / "studies" / file.stem)


@app.command(name="import")
def import_(
    format_: Annotated[str, Parameter(help="chexpert, mimic_cxr_jpg, nih, dicom, ...")],
    path: Annotated[Path, Parameter(help="The folder or table of the dataset.")],
    *,
    name: str | None = None,
    site: str | None = None,
    given: GivenFields = None,
    tables: FurtherTables = None,
    state: StateFolder = STATE,
) -> None:
    """Import a folder or table of this machine, and wait for it."""
    try:
        order = importing.order(format_, path, name, given or [], site, tables or [])
    except (importing.NotUnderstood, OSError) as error:
        console.print(f"[red]Not imported.[/red] {error}")
        sys.exit(1)
    access = bring_up(state, order.roots)
    with connect(access) as client:
        try:
            importing.run(client, console, order.request)
        except (JobDidNotSucceed, ProblemRaised, TransportError) as error:
            refuse("Not imported.", error)


def run_study(study: Study, state: Path, out: Path) -> None:
    """Exit status 1 when something is refused or fails."""
    access = bring_up(state, study.folders())
    with connect(access) as client:
        try:
            StudyRun(client, console, out).run(study)
        except (JobDidNotSucceed, ProblemRaised, TransportError) as error:
            refuse("The study did not come to its end.", error)


def connect(access: Access) -> Client:
    """A client that rides out a restart of the web process, as another import causes it."""
    return Client(access.url, access.key, transport=RestartTransport(console.print))


def refuse(what: str, error: JobDidNotSucceed | ProblemRaised | TransportError) -> Never:
    """Exit status 1, with what was wrong and what may be said to mend it."""
    if isinstance(error, TransportError):
        console.print(f"[red]Synthorax does not answer.[/red] {escape(str(error))}")
        console.print("What was ordered goes on; `status` shows what runs")
        sys.exit(1)
    console.print(f"[red]{what}[/red] {escape(str(error))}")
    problem = error.problem if isinstance(error, ProblemRaised) else error.job.problem
    if problem is not None and (advice := importing.advice(problem)):
        console.print(advice)
    sys.exit(1)


def bring_up(state: Path, import_roots: list[Path]) -> Access:
    """`up` with its progress shown; ends the program when it does not come up."""
    with console.status("starting") as spinner:
        try:
            return Launcher(state, console.print).up(import_roots, spinner.update)
        except (NotUp, OSError) as error:
            console.print(f"[red]Synthorax did not come up.[/red] {escape(str(error))}")
            console.print("What runs goes on trying; `down` ends that.")
            sys.exit(1)


if __name__ == "__main__":
    app()
