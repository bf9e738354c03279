"""How people write the path of an image, and the place by which its import knew it."""

import posixpath
from collections.abc import Iterator
from contextlib import suppress
from pathlib import PurePosixPath

from api_schemas.imports import (
    ChexpertImport,
    DatasetRequest,
    FileImport,
    MimicImport,
    NihImport,
    SeededImport,
    TablesImport,
    VindrImport,
)
from services.datasets.importers.chexpert import inside
from services.datasets.importers.fields import slashed
from services.datasets.importers.files import Roots
from services.datasets.importers.several_tables import prefixes

NIH_FOLDERS = ("images", *(f"images_{n:03d}/images" for n in range(1, 13)))


def places(request: DatasetRequest, roots: Roots, path: str) -> list[str]:
    """The places that an image of `path` may have in the import, the likeliest first."""
    return list(
        dict.fromkeys(
            place
            for start in _starts(request, roots, posixpath.normpath(slashed(path.strip())))
            for place in (start, *_of_format(request, start))
        )
    )


def _starts(request: DatasetRequest, roots: Roots, path: str) -> Iterator[str]:
    """The path itself, and what is left of it below the folder of the images."""
    yield path
    if not isinstance(request, FileImport):
        return
    below = [path]
    below += [path.removeprefix(f"{r}/") for r in roots.folders if path.startswith(f"{r}/")]
    for folder in map(posixpath.normpath, _homes(request)):
        yield from (p.removeprefix(f"{folder}/") for p in below if p.startswith(f"{folder}/"))
    if isinstance(request, TablesImport) and request.paths is not None:
        yield from (prefix + path for prefix in prefixes(request))


def _homes(request: FileImport) -> list[str]:
    """The folders below which the places of the images are."""
    home = getattr(request, "image_root", None)
    if home is not None:
        return [home]
    if isinstance(request, TablesImport) and request.paths is not None:
        folders = [posixpath.dirname(posixpath.normpath(table.path)) for table in request.paths]
        with suppress(ValueError):  # absolute ones and relative ones
            return [posixpath.commonpath(folders)]
        return [""]
    path = getattr(request, "path", "")
    return [path, posixpath.dirname(path)]


def _of_format(request: DatasetRequest, path: str) -> Iterator[str]:
    """What the layout of a format makes of a path in its table, or of the name of a file."""
    match request:
        case ChexpertImport():
            yield inside(path)
        case SeededImport():
            yield f"{path}.png"
        case MimicImport():
            yield path.removeprefix("files/")
        case NihImport():
            yield from (f"{folder}/{PurePosixPath(path).name}" for folder in NIH_FOLDERS)
        case VindrImport():
            name = path.removesuffix(".dicom").removesuffix(".dcm")
            yield from (f"{part}/{name}.dicom" for part in ("train", "test"))
        case _:
            pass
