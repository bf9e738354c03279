"""The values of DICOM elements as they stand in the file.

pydicom converts an element as a whole and raises where it cannot. Here an odd value costs that
value alone, whatever type the writer gave to the element.
"""

import re
import struct

from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from api_schemas.datasets import RejectionCode
from services.datasets.importers.fields import quoted

BINARY = {
    "US": "H",
    "SS": "h",
    "UL": "I",
    "SL": "i",
    "FL": "f",
    "FD": "d",
    **dict.fromkeys(("US or SS", "US or OW", "US or SS or OW", "OW", "UN"), "H"),
}
"""Codes of `struct` by value representation; 16 bits are unsigned where it does not say."""

Keyword = str | int
"""Or the tag itself, where one keyword stands for several."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


class NotShowable(Exception):
    """The file holds no radiograph that can be shown; the text says why."""

    def __init__(self, reason: str, code: RejectionCode = RejectionCode.IMAGE) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


def present(dataset: Dataset, keyword: Keyword) -> bool:
    return Tag(keyword) in dataset


def value_representation(dataset: Dataset, keyword: Keyword) -> str:
    """The element's own, or the dictionary's where the file states none or `UN`."""
    element = _raw(dataset, keyword)
    stated = element.VR if element is not None else None
    return dictionary_VR(keyword) if stated in {None, "UN"} else str(stated)


def raw_bytes(dataset: Dataset, keyword: Keyword) -> bytes:
    """The value as it is stored, empty for a missing element."""
    element = _raw(dataset, keyword)
    value = b"" if element is None else element.value
    return value if isinstance(value, bytes) else b""


def little_endian(dataset: Dataset, keyword: Keyword) -> bool:
    element = _raw(dataset, keyword)
    return element is None or element.is_little_endian


def texts(dataset: Dataset, keyword: Keyword) -> list[str]:
    """The values of an element as text, without blanks around them; none if it is blank."""
    code = BINARY.get(value_representation(dataset, keyword))
    stored = raw_bytes(dataset, keyword)
    if code is None:
        words = stored.decode("latin-1").rstrip("\0 ").split("\\")
        return [] if words == [""] else [word.strip("\0 \t\r\n") for word in words]
    order = "<" if little_endian(dataset, keyword) else ">"
    count = len(stored) // struct.calcsize(code)
    whole = stored[: count * struct.calcsize(code)]
    return [str(value) for value in struct.unpack(f"{order}{count}{code}", whole)]


def word(dataset: Dataset, keyword: Keyword) -> str:
    """The values of an element as one text in capitals, as code words are compared."""
    return "\\".join(texts(dataset, keyword)).upper()


def numbers(dataset: Dataset, keyword: Keyword) -> list[float | None]:
    """The values of an element, None for each that is no finite number."""
    return [_number(text) for text in texts(dataset, keyword)]


def number(dataset: Dataset, keyword: Keyword) -> float | None:
    """The one value of an element; None if it has none, several, or no finite number."""
    values = numbers(dataset, keyword)
    return values[0] if len(values) == 1 else None


def stated(dataset: Dataset, keyword: Keyword) -> str:
    """The element and its value, for a person to read."""
    if not present(dataset, keyword):
        return f"{keyword} is missing"
    values = "\\".join(texts(dataset, keyword))
    return f"{keyword} is {quoted(values)}" if values else f"{keyword} is blank"


def whole(dataset: Dataset, keyword: Keyword, low: int, high: int) -> int:
    """The whole number that every picture must state; raises `NotShowable`."""
    value = number(dataset, keyword)
    if value is None or value != int(value) or not low <= value <= high:
        raise NotShowable(f"{stated(dataset, keyword)}, not a whole number from {low} to {high}")
    return int(value)


def _number(text: str) -> float | None:
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if abs(value) < float("inf") else None


def _raw(dataset: Dataset, keyword: Keyword) -> RawDataElement | None:
    element: DataElement | RawDataElement | None = dataset.get_item(keyword)
    return element if isinstance(element, RawDataElement) else None
