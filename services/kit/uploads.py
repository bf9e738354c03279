"""Forms that bring files: received on the disk in bounded memory, and gone with the request."""

import hashlib
from collections.abc import AsyncGenerator, Collection
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from anyio import to_thread
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from services.kit.errors import TooLarge, Unprocessable
from services.kit.scratch import temporary_folder

MULTIPART = b"multipart/form-data"
FILE = "file"
"""The field of the file that every form brings."""
TEXT_LIMIT_BYTES = 64 << 10
"""Of all that is no file: names, text fields, headers of parts."""


class FormUnusable(Unprocessable):
    slug = "form-unusable"
    title = "The body is not a whole form with a file"


class FileTooLarge(TooLarge):
    slug = "file-too-large"
    title = "The file is larger than this installation takes"


@dataclass(frozen=True)
class Received:
    """The text fields of a form, its files on the disk by the field that brought them, and the
    digests of these, by the name that a request knows them by (`sha256` for `file`,
    `reference_sha256` for `reference`; null for one that did not come).
    """

    fields: dict[str, str]
    files: dict[str, Path]
    digests: dict[str, str | None]

    @property
    def told(self) -> dict[str, str | None]:
        """The request that the form is. A text field cannot pass for a digest."""
        return self.fields | self.digests


@asynccontextmanager
async def received(
    request: Request, scratch: Path, limit_bytes: int, more: Collection[str] = ()
) -> AsyncGenerator[Received]:
    """The form that `request` brings: a file under `file`, and under `more` those it may have
    beside it. For `async def` routes.

    Raises `FormUnusable` and `FileTooLarge` (413: counted while it arrives, whatever was said
    of its length).
    """
    content_type, options = parse_options_header(request.headers.get("Content-Type"))
    if content_type != MULTIPART or not options.get(b"boundary"):
        raise FormUnusable("Send a form", accepted=MULTIPART.decode())
    with temporary_folder(scratch, "upload-") as folder, ExitStack() as opened:
        form, size = _Form(options[b"boundary"], {FILE, *more}, folder, opened), 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit_bytes:
                raise FileTooLarge(
                    "Nothing of it was kept",
                    field=FILE,
                    accepted=f"at most {limit_bytes} bytes",
                )
            await to_thread.run_sync(form.write, chunk)
        form.check_whole()
        opened.close()
        digests: dict[str, str | None] = {_digest_name(field): None for field in (FILE, *more)}
        for field, path in form.files.items():
            digests[_digest_name(field)] = await to_thread.run_sync(_digest, path)
        yield Received(form.fields, form.files, digests)


def invalid(errors: list[Any], fields: dict[str, str]) -> RequestValidationError:
    """What pydantic found wrong with a form's fields, told as for any other body."""
    return RequestValidationError(
        [{**error, "loc": ("body", *error["loc"])} for error in errors], body=fields
    )


class _Form:
    """A form in the making: what is no file is small and kept in memory."""

    def __init__(
        self, boundary: bytes, known: Collection[str], folder: Path, opened: ExitStack
    ) -> None:
        self.fields: dict[str, str] = {}
        self.files: dict[str, Path] = {}
        self._known, self._folder, self._opened = known, folder, opened
        self._ended, self._texts = False, 0
        self._header, self._value, self._name, self._text = b"", b"", "", b""
        self._file: BinaryIO | None = None
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
            raise FormUnusable("The end of it is missing", field=FILE)
        if FILE not in self.files:
            raise FormUnusable("Send a file with it", field=FILE)

    def _begin(self) -> None:
        self._name, self._text, self._file = "", b"", None

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            self._name = options.get(b"name", b"").decode("utf-8", "replace")
            if b"filename" in options:
                self._file = self._open(self._name)
        self._count(len(self._header) + len(self._value))
        self._header, self._value = b"", b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])
        else:
            self._count(end - start)
            self._text += data[start:end]

    def _part_end(self) -> None:
        if self._file is None:
            if b"\0" in self._text:
                raise FormUnusable("It holds a NUL character", field=self._name[:100])
            self.fields[self._name] = self._text.decode("utf-8", "replace")

    def _end(self) -> None:
        self._ended = True

    def _open(self, field: str) -> BinaryIO:
        if field not in self._known:
            raise FormUnusable(
                "There is no such file in this form",
                field=field[:100],
                accepted=sorted(self._known),
            )
        if field in self.files:
            raise FormUnusable("Send one file of this name", field=field)
        self.files[field] = self._folder / field
        return self._opened.enter_context(self.files[field].open("wb"))

    def _count(self, size: int) -> None:
        self._texts += size
        if self._texts > TEXT_LIMIT_BYTES:
            raise FormUnusable(f"Its texts have more than {TEXT_LIMIT_BYTES} bytes")


def _digest_name(field: str) -> str:
    return "sha256" if field == FILE else f"{field}_sha256"


def _digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
