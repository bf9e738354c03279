"""Groups of images on the test sets of a plan: by what a manifest states, and two by two.

Knows the manifest's vocabulary; does not know what is measured inside a group.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise

import numpy as np
import polars as pl

from services.evaluation.statistics.cases import Bools, Ints
from services.evaluation.statistics.predictions import Names

ATTRIBUTES = ("sex", "age", "race", "ethnicity", "view", "site")
CROSSED = (("sex", "age"), ("sex", "race"))
COLUMNS = ("sample_id", *ATTRIBUTES)
AGES = (0, 40, 60, 80)
"""Where the bands of age begin."""
NOT_STATED = ""

Attributes = Mapping[str, Names]
"""By attribute the value (N,) of every image, `NOT_STATED` where the manifest does not say."""


@dataclass(frozen=True, eq=False)
class Group:
    """Images that share a value. `against` is the group it is compared with, the largest of its
    attribute over all test sets; None for that one itself.
    """

    name: str
    against: str | None
    members: Bools  # (N,)


@dataclass(frozen=True, eq=False)
class Grouping:
    """The attributes of a test set's images, and whose they are."""

    attributes: Attributes
    patient: Ints  # (N,)


def attributes_of(manifest: pl.DataFrame, samples: Names) -> Attributes:
    """What a manifest with `COLUMNS` says of the samples; those it does not hold state nothing."""
    wanted = pl.DataFrame({"sample_id": samples.tolist()})
    found = wanted.join(
        manifest.select(COLUMNS).unique("sample_id"),
        on="sample_id",
        how="left",
        maintain_order="left",
    ).with_columns(_band().alias("age"))
    single = {name: _words(found[name]) for name in ATTRIBUTES}
    crossed = {", ".join(pair): _crossed([single[name] for name in pair]) for pair in CROSSED}
    return single | crossed


def groups_of(tests: Mapping[str, Grouping]) -> dict[str, list[Group]]:
    """The groups of each test set, sorted by attribute and value.

    An attribute that has a single value on a test set parts nothing there.
    """
    largest = {name: _largest(name, list(tests.values())) for name in _attributes(tests)}
    found: dict[str, list[Group]] = {}
    for test, grouping in tests.items():
        found[test] = []
        for name, words in grouping.attributes.items():
            values = [value for value in np.unique(words).tolist() if value != NOT_STATED]
            if len(values) > 1:
                found[test] += [_group(name, value, largest[name], words) for value in values]
    return found


def _group(attribute: str, value: str, largest: str, words: Names) -> Group:
    against = None if value == largest else named(attribute, largest)
    return Group(named(attribute, value), against, words == value)


def named(attribute: str, value: str) -> str:
    """What a group is called, wherever results have groups."""
    return f"{attribute}: {value}"


def _attributes(tests: Mapping[str, Grouping]) -> list[str]:
    return list(dict.fromkeys(name for g in tests.values() for name in g.attributes))


def _largest(attribute: str, groupings: Sequence[Grouping]) -> str:
    """The value that most patients have, summed over the test sets; the first word of equals."""
    patients: Counter[str] = Counter()
    for grouping in groupings:
        words = grouping.attributes[attribute]
        for value in np.unique(words).tolist():
            if value != NOT_STATED:
                patients[value] += len(np.unique(grouping.patient[words == value]))
    return min(patients, key=lambda value: (-patients[value], value), default=NOT_STATED)


def _band() -> pl.Expr:
    age = pl.col("age")
    bands = pl.when(age >= AGES[-1]).then(pl.lit(f"{AGES[-1]}+"))
    for low, high in pairwise(AGES):
        bands = bands.when((age >= low) & (age < high)).then(pl.lit(f"{low}-{high - 1}"))
    return bands.otherwise(None)


def _words(column: pl.Series) -> Names:
    return np.array(column.fill_null(NOT_STATED).to_list(), dtype=np.str_)


def _crossed(columns: Sequence[Names]) -> Names:
    """Both values in one word where both are stated."""
    words = reduce(lambda left, right: np.char.add(np.char.add(left, ", "), right), columns)
    stated = np.all([column != NOT_STATED for column in columns], axis=0)
    return np.where(stated, words, NOT_STATED)
