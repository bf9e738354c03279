"""Images that say that no patient is on them: synthetic ones and drawn phantoms, imported again."""

import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import polars as pl
import pytest
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from api_schemas.datasets import DatasetView
from api_schemas.generation import Condition, Environment, Provenance, Recipe, Sampler
from api_schemas.manifest import MANIFEST, from_parquet
from api_schemas.terms import Licence
from services.datasets.importers.provenance import inscription, read_origin
from services.generation.service.rendering import png

GENERATOR, COHORT = UUID(int=1), UUID(int=2)
LICENCE = Licence(name="Agreement", may_export=False, may_share_derived=True, notes="Lab only.")
TERMS = "Derived from site A, research only."
TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description '
    'Iptc4xmpExt:DigitalSourceType="{}"/></rdf:RDF></x:xmpmeta>'
)


def grey(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (32, 32), dtype=np.uint8)


def told(**changes: Any) -> Provenance:
    """What our own generation writes into its PNGs."""
    fields: dict[str, Any] = {
        "phantom": False,
        "generation": COHORT,
        "index": 0,
        "generator": GENERATOR,
        "generator_digest": "a" * 64,
        "recipe": Recipe(condition=Condition(), seed=7),
        "sampler": Sampler(),
        "batch": 8,
        "environment": Environment(device="cpu", torch="2", diffusers="1", numpy="2", threads=1),
        "pixel_sha256": "b" * 64,
        "terms": TERMS,
        "licence": LICENCE,
        "manifest": f"/generations/{COHORT}/manifest",
    }
    return Provenance(**fields | changes)


def plain(seed: int, **texts: str) -> bytes:
    """A PNG by Pillow, with text chunks."""
    info = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        info.add_itxt(name.replace("__", ":").replace("_", "."), text)
    sink = io.BytesIO()
    Image.fromarray(grey(seed)).save(sink, "PNG", pnginfo=info)
    return sink.getvalue()


def chunk_at_the_end(content: bytes, kind: bytes, body: bytes) -> bytes:
    """`content`, a PNG, with one more chunk behind its pixels."""
    crc = struct.pack(">I", zlib.crc32(kind + body))
    end = content.rindex(b"IEND") - 4
    return content[:end] + struct.pack(">I", len(body)) + kind + body + crc + content[end:]


# ---------------------------------------------------------------- what a file says


def test_our_own_chunk_says_everything() -> None:
    origin = read_origin(png(grey(1), told()))
    assert origin is not None
    assert origin.model_dump() == {
        "kind": "synthetic",
        "phantom": False,
        "generator": GENERATOR,
        "generator_digest": "a" * 64,
        "cohort": COHORT,
        "seed": 7,
        "terms": TERMS,
        "licence": LICENCE.model_dump(),
    }
    again = inscription(origin)
    assert again is not None
    assert read_origin(plain(1, **again)) == origin


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"synthetic": true}', "synthetic"),
        ('{"synthetic": true, "phantom": true}', "synthetic"),
        ('{"synthetic": false, "phantom": true}', "phantom"),
        ('{"synthetic": false, "phantom": false}', None),
        ('{"synthetic": false}', None),
        ("{", "synthetic"),
        ("", "synthetic"),
        ("[]", "synthetic"),
        ("null", "synthetic"),
        ("[" * 100_000, "synthetic"),
        ('{"synthetic": true, "generator": "no id", "terms": 7, "seed": -1}', "synthetic"),
        ('{"synthetic": true, "recipe": [], "licence": "free"}', "synthetic"),
        ('{"synthetic": true, "terms": "' + "x" * 3000 + '"}', "synthetic"),
    ],
)
def test_a_chunk_that_is_odd_still_says_synthetic(text: str, kind: str | None) -> None:
    origin = read_origin(plain(1, synthorax=text))
    assert (origin and origin.kind) == kind
    if origin is not None and kind == "synthetic":
        assert (origin.generator, origin.terms, origin.seed) == (None, "", None)


def test_the_chunk_is_found_wherever_and_however_it_is_written() -> None:
    text = b'{"synthetic": true, "terms": "T"}'
    bare = plain(1)
    packed = zlib.compress(text)
    for kind, body in (
        (b"tEXt", b"synthorax\x00" + text),
        (b"zTXt", b"synthorax\x00\x00" + packed),
        (b"iTXt", b"synthorax\x00\x00\x00\x00\x00" + text),
        (b"iTXt", b"synthorax\x00\x01\x00en\x00Herkunft\x00" + packed),
    ):
        origin = read_origin(chunk_at_the_end(bare, kind, body))
        assert origin is not None, kind
        assert origin.terms == "T"
    assert read_origin(bare) is None
    bomb = b"synthorax\x00\x00" + zlib.compress(b"0" * 2**26)
    odd = read_origin(chunk_at_the_end(bare, b"zTXt", bomb))
    assert odd is not None
    assert odd.kind == "synthetic"


@pytest.mark.parametrize(
    ("source", "synthetic"),
    [
        (TRAINED, True),
        (TRAINED.replace("trained", "compositeWithTrained"), True),
        (TRAINED.replace("trainedA", "a"), True),
        (TRAINED.replace("trainedAlgorithmicMedia", "digitalCapture"), False),
        (TRAINED.replace("trainedAlgorithmicMedia", "algorithmicallyEnhanced"), False),
    ],
)
def test_xmp_says_it_in_png_and_jpeg(source: str, synthetic: bool) -> None:
    packet = XMP.format(source)
    jpeg = io.BytesIO()
    Image.fromarray(grey(1)).save(jpeg, "JPEG", xmp=packet.encode())
    for content in (plain(1, XML__com_adobe_xmp=packet), jpeg.getvalue()):
        origin = read_origin(content)
        assert (origin is not None and origin.kind == "synthetic") is synthetic


@pytest.mark.parametrize("cut", [0, 1, 8, 9, 30, 60])
def test_a_file_that_is_cut_off_says_nothing_and_breaks_nothing(cut: int) -> None:
    assert read_origin(plain(1)[:cut]) is None
    sink = io.BytesIO()
    Image.fromarray(grey(1)).save(sink, "JPEG")
    assert read_origin(sink.getvalue()[:cut]) is None
    assert read_origin(b"\xff\xd8" + b"\xff\xe1\x00\x00" * 10) is None


# ---------------------------------------------------------------- what a dataset says then


@pytest.fixture
def bring(
    http: TestClient, ingest: Callable[..., int], import_root: Path
) -> Callable[..., DatasetView]:
    """Import PNGs as a CheXpert-style CSV: `bring([bytes, ...], licence=...)`."""

    def make(images: list[bytes], table: str | None = None, **more: Any) -> DatasetView:
        folder = import_root / uuid4().hex[:8]
        folder.mkdir()
        for n, content in enumerate(images):
            (folder / f"{n}.png").write_bytes(content)
        rows = "".join(
            f"{n}.png,p{n},1,{'test' if n % 2 else 'train'}\n" for n in range(len(images))
        )
        (folder / "t.csv").write_text(table or "Path,PID,Edema,Split\n" + rows)
        body = {"format": "chexpert_csv", "name": "again", "site": "here", "size_px": 32}
        made = http.post("/datasets", json=body | {"path": f"{folder.name}/t.csv"} | more)
        assert made.status_code == 202, made.text
        ingest()
        view = DatasetView.model_validate(http.get(f"/datasets/{made.json()['id']}").json())
        assert view.job.state == "succeeded", view.job.problem
        return view

    return make


def rows_of(http: TestClient, dataset: UUID) -> pl.DataFrame:
    content = http.get(f"/datasets/{dataset}/manifest").content
    return pl.DataFrame(pl.from_arrow(from_parquet(content, MANIFEST)))


def test_synthetic_images_come_back_as_synthetic_with_their_origin(
    http: TestClient, bring: Callable[..., DatasetView]
) -> None:
    recipes = [Recipe(condition=Condition(), seed=n) for n in range(4)]
    view = bring([png(grey(n), told(recipe=recipe)) for n, recipe in enumerate(recipes)])
    assert view.kind == "synthetic"
    assert view.origins is not None
    assert (view.origins.synthetic, view.origins.images, view.origins.drawn) == (4, 4, 0)
    assert (view.origins.generators, view.origins.cohorts) == ([GENERATOR], [COHORT])
    assert view.terms == TERMS
    assert view.licence == LICENCE.model_copy(update={"may_export": True})
    assert (
        f"synthetic images, by their own word: 4 of 4; generators: {GENERATOR}; cohorts: {COHORT}"
        in view.notes
    )
    rows = rows_of(http, view.id)
    assert rows["generator_id"].to_list() == [str(GENERATOR)] * 4
    assert rows["seed"].to_list() == [0, 1, 2, 3]
    one = http.get(f"/datasets/{view.id}/samples/{rows['sample_id'][2]}.png").content
    kept = read_origin(one)
    assert kept is not None
    assert (kept.seed, kept.generator, kept.cohort, kept.licence) == (
        2,
        GENERATOR,
        COHORT,
        LICENCE,
    )


def test_what_is_exported_a_second_time_still_says_it(
    http: TestClient, bring: Callable[..., DatasetView]
) -> None:
    first = bring([png(grey(n), told()) for n in range(3)])
    samples = rows_of(http, first.id)["sample_id"]
    stored = [http.get(f"/datasets/{first.id}/samples/{s}.png").content for s in samples]
    again = bring(stored)
    assert (again.kind, again.terms, again.licence) == (first.kind, first.terms, first.licence)
    assert again.origins == first.origins


def test_a_table_that_mixes_real_and_synthetic_images_says_so(
    http: TestClient, bring: Callable[..., DatasetView]
) -> None:
    real = [plain(n) for n in range(3)]
    view = bring([*real, png(grey(8), told()), plain(9, synthorax='{"synthetic": true}')])
    assert view.kind == "mixed"
    assert view.origins is not None
    assert (view.origins.synthetic, view.origins.generators_unnamed) == (2, 1)
    assert (
        "the table mixes images of several kinds: 2 synthetic, 0 drawn, 3 that say nothing of "
        "their making and count as real" in view.notes
    )
    assert rows_of(http, view.id)["generator_id"].to_list() == [
        *[None] * 3,
        str(GENERATOR),
        "unnamed",
    ]
    body = {"name": "its test set", "where": {"split": ["test"]}}
    derived = http.post(f"/datasets/{view.id}/views", json=body).json()
    assert derived["kind"] == "mixed"


def test_the_stricter_of_what_is_stated_and_what_the_images_say_holds(
    bring: Callable[..., DatasetView],
) -> None:
    strict = Licence(name="Strict", may_export=False, may_share_derived=False)
    free = {"name": "Free", "may_export": True, "may_share_derived": True}
    view = bring(
        [png(grey(n), told(licence=strict)) for n in range(3)], licence=free, terms="Mine."
    )
    assert (view.licence.may_export, view.licence.may_share_derived) == (False, False)
    assert view.licence.name == "Free; Strict"
    assert view.terms == f"Mine.; {TERMS}"


def test_drawn_phantoms_that_are_imported_again_are_phantoms(
    http: TestClient, bring: Callable[..., DatasetView], phantoms: Callable[..., DatasetView]
) -> None:
    base = phantoms(patients=10)
    samples = rows_of(http, base.id)["sample_id"][:6]
    drawn = [http.get(f"/datasets/{base.id}/samples/{s}.png").content for s in samples]
    view = bring(drawn)
    assert (view.kind, view.phantom) == ("phantom", True)
    assert rows_of(http, view.id)["generator_id"].null_count() == 6
    mixed = bring([*drawn, png(grey(1), told(phantom=True))])
    assert (mixed.kind, mixed.phantom) == ("mixed", True)


def test_real_images_are_real_and_say_nothing(
    http: TestClient, bring: Callable[..., DatasetView]
) -> None:
    odd = plain(1, Comment="synthetic", parameters="Steps: 20", XML__com_adobe_xmp="<x/>")
    view = bring([plain(0), odd, plain(2, synthorax='{"synthetic": false}')])
    assert (view.kind, view.origins, view.terms) == ("real", None, "")
    assert rows_of(http, view.id)["seed"].null_count() == 3


def test_what_a_strangers_chunk_says_beside_is_not_kept(
    http: TestClient, bring: Callable[..., DatasetView]
) -> None:
    canary = json.dumps({"synthetic": True, "patient": "CANARY^NAME", "index": "CANARY"})
    view = bring([plain(n, synthorax=canary) for n in range(3)])
    sample = rows_of(http, view.id)["sample_id"][0]
    assert b"CANARY" not in http.get(f"/datasets/{view.id}/samples/{sample}.png").content
    assert "CANARY" not in view.model_dump_json()
