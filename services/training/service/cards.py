"""The card of a classifier: a page of Markdown that goes with its weights.

Knows facts; asks nobody for any.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from api_schemas.evaluation import ResultRow
from api_schemas.evaluations import EvaluatedRow
from api_schemas.terms import Licence
from api_schemas.training import ClassifierView

PERMISSION = {True: "allowed", False: "forbidden", None: "not stated"}


@dataclass(frozen=True)
class Judged:
    """What came out for some data that was scored; `leakage` is what training had seen of it."""

    data: str
    row: EvaluatedRow
    leakage: Sequence[str]


@dataclass(frozen=True)
class Card:
    """Everything the card says. `results` are of all seeds of the arm, `judged` of this one."""

    view: ClassifierView
    name: str
    request: dict[str, Any]
    arm: dict[str, Any]
    blueprint: dict[str, Any]
    results: Sequence[ResultRow]
    judged: Sequence[Judged]


def card(facts: Card) -> str:
    sections = (
        _what(facts),
        _use(),
        _data(facts),
        _training(facts),
        _metrics(facts),
        _terms(facts),
    )
    return "\n".join(line for section in sections for line in section)


def _what(facts: Card) -> Iterator[str]:
    view = facts.view
    yield f"# Classifier {_plain(view.arm)}, seed {view.seed}"
    yield ""
    yield f"From the experiment '{_plain(facts.name)}' (`{view.experiment}`), made with Synthorax."
    yield ""
    yield f"- Weights: SHA-256 `{view.digest}`"
    yield (
        f"- Takes a chest radiograph of {view.size_px} x {view.size_px} px as grey levels: bytes"
        " / 127.5 - 1 for the weights, 0 to 255 as float32 for the ONNX model"
    )
    yield f"- Gives a probability each, in this order: {', '.join(view.labels)}"
    yield ""


def _use() -> Iterator[str]:
    yield "## What it is for, and what not"
    yield ""
    yield "Made to compare ways of training, above all with and without synthetic images."
    yield ""
    yield (
        "**It must not be used** for diagnosis, triage, or any decision on a patient: it is no"
        " medical device. Its probabilities are not calibrated for any population. Nothing is"
        " known of images of other sites, views or preparation than those below. It must not"
        " serve to find out who a patient is."
    )
    yield ""


def _data(facts: Card) -> Iterator[str]:
    yield "## Data"
    yield ""
    yield "| used as | data | manifest |"
    yield "|---|---|---|"
    manifests: dict[str, str] = facts.blueprint.get("manifests", {})
    for number, stage in enumerate(facts.arm["stages"], 1):
        for source in stage["sources"]:
            key = _key(source["data"])
            shuffled = ", labels permuted" if source["shuffled"] else ""
            used = f"training, stage {number}, {source['multiple']:g} times the real set{shuffled}"
            yield f"| {used} | {key} | `{manifests.get(key, 'unknown')}` |"
    validation = facts.request["validation"]
    key = _key(validation["data"])
    used = f"choosing the checkpoint (split {validation['split']})"
    yield f"| {used} | {key} | `{manifests.get(key, 'unknown')}` |"
    yield ""
    for word in [*facts.blueprint.get("waived", []), *facts.view.flags]:
        yield f"- Known of it: {_plain(word)}"
    yield ""


def _training(facts: Card) -> Iterator[str]:
    yield "## Training"
    yield ""
    yield "| setting | value |"
    yield "|---|---|"
    steps = facts.blueprint.get("arms", {}).get(facts.view.arm, {}).get("steps")
    policy = facts.request["label_policy"]
    told = {
        **facts.request["classifier"],
        "steps": steps,
        "best step": facts.view.best_step,
        "uncertain labels": policy["uncertain"],
        "blank labels": policy["blank"],
    }
    for name, value in told.items():
        yield f"| {name.replace('_', ' ')} | {_value(value)} |"
    yield ""


def _metrics(facts: Card) -> Iterator[str]:
    yield "## How good it is"
    yield ""
    if facts.view.validation_auroc is not None:
        yield (
            f"Macro AUROC on the validation set, which chose the checkpoint: "
            f"{facts.view.validation_auroc:.3f}. That is no estimate of anything else."
        )
        yield ""
    rows = [*_of_arm(facts.results), *_of_scorings(facts.judged)]
    if not rows:
        yield "It has not been evaluated."
    else:
        yield "| macro AUROC of | on | images, patients | value | 95 % interval | flags |"
        yield "|---|---|---|---|---|---|"
        yield from rows
    yield ""


def _of_arm(results: Sequence[ResultRow]) -> Iterator[str]:
    for row in results:
        of = f"its arm, {row.seeds} seeds" if row.seeds > 1 else "this classifier"
        yield _line(of, row.test, row)


def _of_scorings(judged: Sequence[Judged]) -> Iterator[str]:
    for each in judged:
        yield _line("this classifier", _plain(each.data), each.row, *each.leakage)


def _line(of: str, data: str, row: ResultRow | EvaluatedRow, *more: str) -> str:
    value = "not estimable" if row.auroc is None else f"{row.auroc:.3f}"
    bounds = "" if row.low is None or row.high is None else f"{row.low:.3f} to {row.high:.3f}"
    flags = ", ".join([*row.flags, *map(_plain, more)])
    return f"| {of} | {data} | {row.images}, {row.patients} | {value} | {bounds} | {flags} |"


def _terms(facts: Card) -> Iterator[str]:
    licence: Licence = facts.view.licence
    yield "## Terms"
    yield ""
    yield f"The strictest of all its data: {_plain(licence.name) or 'nobody has stated any'}."
    if licence.url is not None:
        yield f"<{licence.url}>"
    yield f"Sharing what was made of the data is {PERMISSION[licence.may_share_derived]}."
    if licence.notes:
        yield _plain(licence.notes)
    yield ""


def _key(ref: dict[str, Any]) -> str:
    ((kind, made),) = ref.items()
    return f"{kind}/{made}"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return _plain(", ".join(f"{name} {each}" for name, each in value.items() if each))
    return "none" if value is None else _plain(str(value))


def _plain(text: str) -> str:
    """A text of somebody's as words on one line of a table, not as Markdown."""
    words = " ".join(text.split())
    return "".join(f"\\{c}" if c in "\\|`*_<>[]#" else c for c in words)
