"""Previews side by side as one PNG that says what it is."""

import io
import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

COLUMNS = 4
SEEN_PX = 128
"""Smaller images are enlarged by a whole number, up to this: each pixel becomes a square."""
GAP_PX = 2
PAPER = 255


def contact_sheet(images: NDArray[np.uint8], about: Mapping[str, object]) -> bytes:
    """Images (N, size, size) in rows of four; `about` goes into an iTXt chunk `synthorax`."""
    larger = max(1, SEEN_PX // images.shape[1])
    images = images.repeat(larger, axis=1).repeat(larger, axis=2)
    size = images.shape[1]
    rows = -(-len(images) // COLUMNS)
    cell = size + GAP_PX
    paper = np.full((GAP_PX + rows * cell, GAP_PX + COLUMNS * cell), PAPER, np.uint8)
    for place, image in enumerate(images):
        row, column = divmod(place, COLUMNS)
        y, x = GAP_PX + row * cell, GAP_PX + column * cell
        paper[y : y + size, x : x + size] = image
    chunk = PngInfo()
    chunk.add_itxt("synthorax", json.dumps({**about, "synthetic": True}))
    sink = io.BytesIO()
    Image.fromarray(paper).save(sink, "PNG", pnginfo=chunk)
    return sink.getvalue()
