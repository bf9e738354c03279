"""Conditions as a radiologist says them, completed from the generator's training population.

A random matching training patient lends the attributes that a request leaves open, jointly, so
that combinations nobody had are not made up.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from api_schemas.findings import (
    ABSENT,
    FINDINGS,
    PRESENT,
    Finding,
    Race,
    Sex,
    contradictions,
)
from api_schemas.generation import Condition, ConditionRequest, NearestMatch
from api_schemas.generators import NEEDS_ALL, Seen
from api_schemas.manifest import LABEL_COLUMNS
from services.generation.service.problems import ConditionIncomplete, NobodyMatches

ATTRIBUTES = ("age", "sex", "race", *LABEL_COLUMNS)
POPULATION = pa.schema(
    [
        pa.field("patient_id", pa.string(), nullable=False),
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("pixel_sha256", pa.string(), nullable=False),
        pa.field("age", pa.int16()),
        pa.field("sex", pa.string()),
        pa.field("race", pa.string()),
        *[pa.field(name, pa.int8()) for name in LABEL_COLUMNS],
    ]
)
"""What is remembered of the rows a generator was trained on."""


def image_seed(seed: int, index: int) -> int:
    """The seed of image `index` of a request: 63 bits of SHA-256, so that requests with
    neighbouring seeds share no noise.
    """
    digest = hashlib.sha256(f"synthorax image {seed} {index}".encode()).digest()
    return int.from_bytes(digest[:8]) >> 1


def condition_of(row: dict[str, object]) -> Condition:
    """The condition of a manifest row; uncertain and blank labels are unknown."""
    findings = {f: row[f] for f in FINDINGS if row[f] in {PRESENT, ABSENT}}
    return Condition.model_construct(
        age=row["age"],
        sex=None if row["sex"] is None else Sex(str(row["sex"])),
        race=None if row["race"] is None else Race(str(row["race"])),
        findings=_reconciled(findings, fixed=set()),  # pyright: ignore[reportArgumentType]
    )


PERSONAL = ("age", "sex", "race")


def row_condition(row: dict[str, object], encoder: str) -> Condition:
    """The condition of a manifest row as `encoder` takes it.

    Where it has no word for unknown, a finding that a row does not affirm is absent: the published
    rows hold nothing but 0 and 1. Age, sex and race are never made up.
    """
    condition = condition_of(row)
    if encoder not in NEEDS_ALL:
        return condition
    findings = {f: condition.findings.get(f, ABSENT) for f in FINDINGS}
    return condition.model_copy(update={"findings": findings})


def check_complete(
    condition: Condition | ConditionRequest, encoder: str | None, field: str
) -> None:
    """Raise `ConditionIncomplete` for what `encoder` would miss, below `field`.

    The encoder of a generator whose file has not been read is None: nothing is checked.
    """
    if encoder not in NEEDS_ALL:
        return
    missing = [name for name in PERSONAL if getattr(condition, name) is None]
    missing += [f"findings.{f}" for f in FINDINGS if f not in condition.findings]
    if missing:
        raise ConditionIncomplete(
            f"{encoder} has no word for unknown; missing: {', '.join(missing)}",
            field=f"{field}.{missing[0]}",
            accepted=[*PERSONAL, *(f"findings.{f}" for f in FINDINGS)],
        )


def check_known(rows: pa.Table, encoder: str | None, field: str) -> None:
    """Raise `ConditionIncomplete` where rows lack what `encoder` has no word for lacking."""
    if encoder not in NEEDS_ALL:
        return
    for name in PERSONAL:
        unknown = rows[name].null_count
        if unknown:
            raise ConditionIncomplete(
                f"{unknown} of {rows.num_rows} rows have no {name}, and {encoder} has no word for "
                "unknown",
                field=field,
            )


@dataclass(frozen=True)
class Drawn:
    """The condition of an image, and what the training set does not match of its order."""

    condition: Condition
    nearest: NearestMatch | None = None


def fixed(requests: Sequence[ConditionRequest], seed: int) -> Iterator[Drawn]:
    """The conditions of entries that leave nothing open but an age within its range."""
    for position, request in enumerate(requests):
        rng = np.random.default_rng([seed, position])
        for _ in range(request.count):
            yield Drawn(_completed(request, Condition(), rng))


@dataclass(frozen=True)
class Population:
    """The rows a generator was trained on, as conditions that its `encoder` takes."""

    table: pa.Table
    conditions: list[Condition]
    encoder: str

    @classmethod
    def of(cls, table: pa.Table, encoder: str) -> Self:
        table = table.select(POPULATION.names).cast(POPULATION)
        return cls(table, [row_condition(row, encoder) for row in table.to_pylist()], encoder)

    @property
    def seen(self) -> Seen:
        """Everyone, and every picture, that is in it."""
        return Seen(
            patients=sorted(set(self.table["patient_id"].to_pylist())),
            images=sorted(set(self.table["pixel_sha256"].to_pylist())),
        )

    def check(self, requests: Sequence[ConditionRequest], *, nearest: bool) -> None:
        """Raise `NobodyMatches` (422, with counts) for the first entry nobody matches."""
        for position, request in enumerate(requests):
            self._candidates(request, position, nearest=nearest)

    def draw(
        self, requests: Sequence[ConditionRequest], seed: int, *, nearest: bool
    ) -> Iterator[Drawn]:
        """The full conditions of all entries, in order; the same seed draws the same ones."""
        for position, request in enumerate(requests):
            candidates = self._candidates(request, position, nearest=nearest)
            rng = np.random.default_rng([seed, position])
            for chosen in rng.choice(candidates, size=request.count):
                lender = self.conditions[chosen]
                match = _nearest_match(position, request, lender)
                yield Drawn(_completed(request, lender, rng), match)

    def mirror(self, conditions: Iterable[Condition], *, nearest: bool) -> list[Drawn]:
        """The conditions of a mirrored dataset's rows, which fix everything themselves.

        Nobody in the training set needs to have all of a row, but each of its values must occur
        there, and its age must lie within the ages that occur. Raises `NobodyMatches` (422) for
        rows with other values unless `nearest` keeps them.
        """
        values = {each for condition in self.conditions for each in _values(condition)}
        ages = [c.age for c in self.conditions if c.age is not None]
        span = (min(ages), max(ages)) if ages else None
        drawn: list[Drawn] = []
        unseen: Counter[str] = Counter()
        for condition in conditions:
            new = [each for each in _values(condition) if each not in values]
            told = {name: _words(name, value) for name, value in new}
            if condition.age is not None and (
                span is None or not span[0] <= condition.age <= span[1]
            ):
                told["age"] = f"age {condition.age}"
                unseen["age without any in training" if span is None else _outside(span)] += 1
            unseen.update(words for name, words in told.items() if name != "age")
            drawn.append(Drawn(condition, _never_seen(told) if told else None))
        outside = sum(each.nearest is not None for each in drawn)
        if outside and not nearest:
            counts = "; ".join(f"{words}: {count} rows" for words, count in unseen.most_common())
            raise NobodyMatches(
                f"{outside} of {len(drawn)} rows have values that the generator never saw in its "
                f"training set ({counts}). Mirror them all the same with nearest: true, or mirror "
                "a subset without them.",
                field="mirror",
                matching=len(drawn) - outside,
            )
        return drawn

    def _candidates(
        self, request: ConditionRequest, position: int, *, nearest: bool
    ) -> NDArray[np.intp]:
        mismatches = self._mismatches(request)
        lends = self._lends(request)
        if not lends.any():
            raise NobodyMatches(
                f"Nobody in the training population can lend all that entry {position} leaves open",
                field=f"conditions.{position}",
                matching=0,
            )
        least = int(mismatches[lends].min())
        candidates = np.flatnonzero(lends & (mismatches == least))
        if least > 0 and not nearest:
            raise NobodyMatches(
                f"No training image has all that entry {position} fixes; {len(candidates)} differ "
                f"in {least} of it. Allow them with nearest: true, or fix less.",
                field=f"conditions.{position}",
                matching=0,
                nearest=len(candidates),
                nearest_differs_in=least,
            )
        return candidates

    def _lends(self, request: ConditionRequest) -> NDArray[np.bool_]:
        """Which rows know what `request` leaves open, where the encoder must know; (rows,)."""
        lends = np.ones(self.table.num_rows, dtype=np.bool_)
        if self.encoder in NEEDS_ALL:
            for name in PERSONAL:
                if getattr(request, name) is None:
                    lends &= self.table[name].is_valid().to_numpy()
        return lends

    def _mismatches(self, request: ConditionRequest) -> NDArray[np.int64]:
        """How many fixed attributes each row lacks, of shape (rows,)."""
        table = self.table
        wrong = np.zeros(table.num_rows, dtype=np.int64)
        for name, value in (("sex", request.sex), ("race", request.race)):
            if value is not None:
                wrong += np.array([v != str(value) for v in table[name].to_pylist()], dtype=bool)
        for finding, value in request.findings.items():
            wrong += np.array(
                [c.findings.get(finding) != value for c in self.conditions], dtype=bool
            )
        if request.age is not None:
            low, high = _age_range(request.age)
            ages = table["age"].to_pylist()
            wrong += np.array([a is None or not low <= a <= high for a in ages], dtype=bool)
        return wrong


def _nearest_match(
    position: int, request: ConditionRequest, lender: Condition
) -> NearestMatch | None:
    """What the training image that lends the open attributes lacks of the fixed ones."""
    lacks: list[str] = []
    if request.age is not None:
        low, high = _age_range(request.age)
        if lender.age is None or not low <= lender.age <= high:
            lacks.append("age")
    if request.sex is not None and lender.sex != request.sex:
        lacks.append("sex")
    if request.race is not None and lender.race != request.race:
        lacks.append("race")
    findings = [f for f, value in request.findings.items() if lender.findings.get(f) != value]
    if not lacks and not findings:
        return None
    fixed_names = (name for name in PERSONAL if getattr(request, name) is not None)
    kept: dict[str, Any] = {name: getattr(lender, name) for name in fixed_names}
    held = {f: lender.findings[f] for f in request.findings if f in lender.findings}
    image = Condition.model_validate({**kept, "findings": held})
    attributes = [*lacks, *(f"findings.{f}" for f in findings)]
    instead = [_words(name, getattr(lender, name)) for name in lacks]
    instead += [_words(f"findings.{f}", lender.findings.get(f)) for f in findings]
    note = (
        f"asked: {_order_in_words(request)}; no training image has all of it, the nearest one has "
        f"{', '.join(instead)}"
    )
    return NearestMatch(entry=position, attributes=attributes, training_image=image, note=note)


def _never_seen(told: dict[str, str]) -> NearestMatch:
    """Of a mirrored row: `told` has the values that the generator never saw, by attribute."""
    return NearestMatch(
        attributes=list(told),
        note=f"the generator never saw in its training set: {', '.join(told.values())}",
    )


def _values(condition: Condition) -> Iterator[tuple[str, object]]:
    """What is known of a patient but for the age, as attribute and value."""
    for name in ("sex", "race"):
        value = getattr(condition, name)
        if value is not None:
            yield name, str(value)
    for finding, value in condition.findings.items():
        yield f"findings.{finding}", value


def _order_in_words(request: ConditionRequest) -> str:
    told = [_words(f"findings.{f}", value) for f, value in request.findings.items()]
    told += [_words(n, getattr(request, n)) for n in ("sex", "race") if getattr(request, n)]
    if request.age is not None:
        low, high = _age_range(request.age)
        told.append(f"age {low}" if low == high else f"age {low} to {high}")
    return ", ".join(told)


def _words(attribute: str, value: object) -> str:
    name = attribute.removeprefix("findings.")
    if value is None:
        return f"{name} unknown"
    if attribute in PERSONAL:
        return f"{name} {value}"
    return f"{name} {'present' if value == PRESENT else 'absent'}"


def _outside(span: tuple[int, int]) -> str:
    return f"age outside {span[0]} to {span[1]}"


def _age_range(age: int | tuple[int, int]) -> tuple[int, int]:
    return age if isinstance(age, tuple) else (age, age)


def _completed(request: ConditionRequest, lender: Condition, rng: np.random.Generator) -> Condition:
    """What the request fixes, and the lender's for the rest."""
    age = lender.age
    if request.age is not None:
        low, high = _age_range(request.age)
        if age is None or not low <= age <= high:
            age = int(rng.integers(low, high + 1))
    findings = {**lender.findings, **request.findings}
    return Condition(
        age=age,
        sex=request.sex or lender.sex,
        race=request.race or lender.race,
        findings=_reconciled(findings, fixed=set(request.findings)),  # pyright: ignore[reportArgumentType]
    )


def _reconciled(findings: dict[Finding, int], fixed: set[Finding]) -> dict[Finding, int]:
    """Without contradiction: what was fixed stands, and `No Finding` yields to a finding."""
    present = {f for f, value in findings.items() if value == PRESENT}
    against = contradictions(present)
    if not against:
        return findings
    if Finding.NO_FINDING in fixed:
        return {**findings, **dict.fromkeys(against, ABSENT)}
    return {**findings, Finding.NO_FINDING: ABSENT}
