"""What an image file says about its own making: the text chunk `synthorax`, or XMP.

Looks at bytes; decodes no picture. What a chunk says is copied value by value into a model with
bounds, so that nothing else of a stranger's text is kept.
"""

import json
import re
import struct
import zlib
from collections.abc import Iterator
from itertools import islice
from typing import Any, cast

from pydantic import ValidationError

from api_schemas.provenance import ImageOrigin

CHUNK = "synthorax"
XMP_CHUNK = "XML:com.adobe.xmp"
XMP_SEGMENT = b"http://ns.adobe.com/xap/1.0/\x00"
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
CHUNKS_LIMIT = 100_000
TEXT_LIMIT = 1 << 20
SYNTHETIC_MEDIA = re.compile(
    rb"digitalsourcetype/"
    rb"(trainedAlgorithmicMedia|compositeWithTrainedAlgorithmicMedia|compositeSynthetic"
    rb"|algorithmicMedia)\b",
    re.IGNORECASE,
)
"""IPTC's terms for media of which at least a part was made by a model or an algorithm."""
COPIED = ("generator", "generator_digest", "terms", "licence")


def read_origin(content: bytes) -> ImageOrigin | None:
    """The origin that a PNG or JPEG states; None where it says nothing of the kind."""
    by_xmp: ImageOrigin | None = None
    for name, text in _texts(content):
        if name == CHUNK:
            return _origin(text)
        if name == XMP_CHUNK and SYNTHETIC_MEDIA.search(text.replace(b"\x00", b"")):
            by_xmp = ImageOrigin(kind="synthetic")
    return by_xmp


def inscription(origin: ImageOrigin | None) -> dict[str, str] | None:
    """The text chunk of a stored image, so that it says the same when it is exported again."""
    if origin is None:
        return None
    told: dict[str, Any] = {
        "synthetic": origin.kind == "synthetic",
        **origin.model_dump(mode="json", exclude_none=True, exclude={"kind", "cohort"}),
    }
    if origin.cohort is not None:
        told["generation"] = str(origin.cohort)
    return {CHUNK: json.dumps(told, sort_keys=True)}


def _origin(text: bytes) -> ImageOrigin | None:
    """A chunk of ours that cannot be read is one of a synthetic image: no other has it."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return ImageOrigin(kind="synthetic")
    if not isinstance(told, dict):
        return ImageOrigin(kind="synthetic")
    told = cast("dict[str, Any]", told)
    phantom = told.get("phantom") is True
    if told.get("synthetic") is False:
        return ImageOrigin(kind="phantom", phantom=True) if phantom else None
    recipe = told.get("recipe")
    seed = cast("dict[str, Any]", recipe).get("seed") if isinstance(recipe, dict) else None
    stated = {name: told.get(name) for name in COPIED}
    stated |= {"cohort": told.get("generation"), "seed": told.get("seed", seed)}
    usable = {name: value for name, value in stated.items() if _is_usable(name, value)}
    return ImageOrigin.model_validate({"kind": "synthetic", "phantom": phantom, **usable})


def _is_usable(name: str, value: object) -> bool:
    if value is None:
        return False
    try:
        ImageOrigin.model_validate({"kind": "synthetic", name: value})
    except ValidationError:
        return False
    return True


# ---------------------------------------------------------------- where files hold texts


def _texts(content: bytes) -> Iterator[tuple[str, bytes]]:
    if content.startswith(PNG):
        yield from _texts_of_png(content)
    elif content.startswith(JPEG):
        for segment in _segments_of_jpeg(content):
            if segment.startswith(XMP_SEGMENT):
                yield XMP_CHUNK, segment[len(XMP_SEGMENT) :]


def _texts_of_png(content: bytes) -> Iterator[tuple[str, bytes]]:
    for kind, body in islice(_chunks_of_png(content), CHUNKS_LIMIT):
        if kind not in {b"tEXt", b"zTXt", b"iTXt"}:
            continue
        name, _, rest = body.partition(b"\x00")
        if kind == b"iTXt":
            compressed, rest = rest[:1] == b"\x01", rest[2:]
            rest = rest.split(b"\x00", 2)[-1]  # behind language and translated keyword
        else:
            compressed, rest = kind == b"zTXt", rest[1:] if kind == b"zTXt" else rest
        yield name.decode("latin-1"), _inflated(rest) if compressed else rest[:TEXT_LIMIT]


def _chunks_of_png(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(PNG)
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        yield kind, content[at + 8 : at + 8 + length] if kind.endswith(b"Xt") else b""
        at += length + 12


def _inflated(packed: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(packed, TEXT_LIMIT)
    except zlib.error:
        return b""


def _segments_of_jpeg(content: bytes) -> Iterator[bytes]:
    """The segments before the picture itself."""
    at = len(JPEG)
    while at + 4 <= len(content):
        marker, kind, length = struct.unpack_from(">BBH", content, at)
        if marker != 0xFF or kind == 0xDA:  # noqa: PLR2004 - a marker, and the start of the scan
            return
        yield content[at + 4 : at + 2 + length]
        at += 2 + max(length, 2)
