"""Forms that bring a file: received on the disk in bounded memory, and gone with the request."""

import hashlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from anyio import to_thread
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from services.kit.errors import TooLarge, Unprocessable

MULTIPART = b"multipart/form-data"
TEXT_LIMIT_BYTES = 64 << 10
"""Of all that is not the file: names, text fields, headers of parts."""


class FormUnusable(Unprocessable):
    slug = "form-unusable"
    title = "The body is not a whole form with a file"


class FileTooLarge(TooLarge):
    slug = "file-too-large"
    title = "The file is larger than this installation takes"


@dataclass(frozen=True)
class Received:
    """The text fields of a form, and its one file on the disk."""

    fields: dict[str, str]
    path: Path
    sha256: str


@asynccontextmanager
async def received(
    request: Request, scratch: Path, field: str, limit_bytes: int
) -> AsyncGenerator[Received]:
    """The form that `request` brings, with its file under `field`. For `async def` routes.

    Raises `FormUnusable` and `FileTooLarge` (413: counted while it arrives, whatever was said
    of its length).
    """
    content_type, options = parse_options_header(request.headers.get("Content-Type"))
    if content_type != MULTIPART or not options.get(b"boundary"):
        raise FormUnusable("Send a form", accepted=MULTIPART.decode())
    await to_thread.run_sync(lambda: scratch.mkdir(parents=True, exist_ok=True))
    with TemporaryDirectory(dir=scratch, prefix="upload-") as folder:
        path, size = Path(folder) / "file", 0
        with path.open("wb") as file:
            form = _Form(options[b"boundary"], field, file)
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit_bytes:
                    raise FileTooLarge(
                        "Nothing of it was kept",
                        field=field,
                        accepted=f"at most {limit_bytes} bytes",
                    )
                await to_thread.run_sync(form.write, chunk)
        form.check_whole()
        digest = await to_thread.run_sync(_digest, path)
        yield Received(form.fields, path, digest)


def invalid(errors: list[Any], fields: dict[str, str]) -> RequestValidationError:
    """What pydantic found wrong with a form's fields, told as for any other body."""
    return RequestValidationError(
        [{**error, "loc": ("body", *error["loc"])} for error in errors], body=fields
    )


class _Form:
    """A form in the making: what is not the file is small and kept in memory."""

    def __init__(self, boundary: bytes, field: str, file: BinaryIO) -> None:
        self.fields: dict[str, str] = {}
        self._field, self._file = field, file
        self._files, self._ended, self._texts = 0, False, 0
        self._header, self._value, self._name, self._text = b"", b"", "", b""
        self._of_file = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_part_data": self._data,
                "on_part_end": self._part_end,
                "on_end": self._end,
            },
        )

    def write(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise FormUnusable("It cannot be taken apart") from error

    def check_whole(self) -> None:
        if not self._ended:
            raise FormUnusable("The end of it is missing", field=self._field)
        if self._files != 1:
            raise FormUnusable("Send one file with it", field=self._field)

    def _begin(self) -> None:
        self._name, self._text, self._of_file = "", b"", False

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            self._name = options.get(b"name", b"").decode("utf-8", "replace")
            self._of_file = b"filename" in options
            if self._of_file and self._name != self._field:
                raise FormUnusable("There is no such file in this form", field=self._name[:100])
            self._files += self._of_file
        self._count(len(self._header) + len(self._value))
        self._header, self._value = b"", b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._of_file:
            self._file.write(data[start:end])
        else:
            self._count(end - start)
            self._text += data[start:end]

    def _part_end(self) -> None:
        if not self._of_file:
            self.fields[self._name] = self._text.decode("utf-8", "replace")

    def _end(self) -> None:
        self._ended = True

    def _count(self, size: int) -> None:
        self._texts += size
        if self._texts > TEXT_LIMIT_BYTES:
            raise FormUnusable(f"Its texts have more than {TEXT_LIMIT_BYTES} bytes")


def _digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
