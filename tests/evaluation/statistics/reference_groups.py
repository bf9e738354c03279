"""Who is in which group of a test set: plainly, from what the data says of each sample."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

BANDS = ((0, 39, "0-39"), (40, 59, "40-59"), (60, 79, "60-79"), (80, 200, "80+"))
CROSSED = (("sex", "age"), ("sex", "race"))

People = Mapping[str, Mapping[str, Any]]
Groups = dict[str, tuple[str | None, set[str]]]
"""By name, what a group is held against and its samples."""


def groups_of(people: People, tests: Mapping[str, Mapping[str, str]]) -> dict[str, Groups]:
    """`tests` says of every test set whose its samples are."""
    seen = {
        (name, word, patient, test)
        for test, whose in tests.items()
        for sample, patient in whose.items()
        for name, word in _words(people, sample).items()
    }
    patients: dict[str, Counter[str]] = {}
    for name, word, _, _ in seen:
        patients.setdefault(name, Counter())[word] += 1
    largest = {
        name: min(counts, key=lambda word: (-counts[word], word))
        for name, counts in patients.items()
    }
    return {test: _of_test(people, whose, largest) for test, whose in tests.items()}


def _of_test(people: People, whose: Mapping[str, str], largest: Mapping[str, str]) -> Groups:
    """An attribute with a single value parts nothing."""
    found: Groups = {}
    for name, most in largest.items():
        by_word: dict[str, set[str]] = {}
        for sample in whose:
            word = _words(people, sample).get(name)
            if word is not None:
                by_word.setdefault(word, set()).add(sample)
        if len(by_word) > 1:
            for word, members in by_word.items():
                against = None if word == most else f"{name}: {most}"
                found[f"{name}: {word}"] = (against, members)
    return found


def _words(people: People, sample: str) -> dict[str, str]:
    """Attribute to value, of what is stated."""
    person = {k: v for k, v in people.get(sample, {}).items() if v is not None}
    if "age" in person:
        person["age"] = next(w for low, high, w in BANDS if low <= person["age"] <= high)
    for pair in CROSSED:
        if all(name in person for name in pair):
            person[", ".join(pair)] = ", ".join(person[name] for name in pair)
    return person
