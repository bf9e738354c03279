"""The order in which samples and patients are drawn: by content, never by an identifier.

Identifiers differ between installations: a pseudonym depends on the installation's key, a cohort's
sample on the cohort's id. Pixels and the source's own order do not. Whatever is drawn, dealt or
shuffled takes its order from here, so that the same study gives the same numbers anywhere.
"""

import hashlib
from collections.abc import Iterable, Sequence


def content_names(pixel_digests: Sequence[str | None]) -> list[str]:
    """A name of each sample's content, in the table's order.

    The digest of its pixels; a picture that comes again is numbered, and a sample without a picture
    has its place in the table.
    """
    times: dict[str, int] = {}
    names: list[str] = []
    for place, digest in enumerate(pixel_digests):
        if digest is None:
            names.append(f"row {place}")
            continue
        times[digest] = times.get(digest, 0) + 1
        names.append(digest if times[digest] == 1 else f"{digest} {times[digest]}")
    return names


def patient_names(patients: Iterable[str], names: Iterable[str]) -> dict[str, str]:
    """By patient, the least of the content names of their samples.

    The least name of many samples is small by itself: draw with `lot`, which forgets that.
    """
    least: dict[str, str] = {}
    for patient, name in zip(patients, names, strict=True):
        if patient not in least or name < least[patient]:
            least[patient] = name
    return least


def lot(purpose: str | int, name: str) -> bytes:
    """What a drawing sorts by: uniform, and the same wherever the same content is drawn."""
    return hashlib.sha256(f"{purpose}\x00{name}".encode()).digest()
