"""A contact sheet: images in rows, each with a caption below it, as one PNG."""

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

CELL_PX = 160
"""Images are shown at this size, whatever theirs: nearest neighbour up, a box filter down."""
GAP_PX = 10
LINE_PX = 15
LINES = 3
FONT_PX = 12
PAPER, INK, MUTED = 255, 20, 95

Pixels = npt.NDArray[np.uint8]


def sheet(title: str, images: Sequence[tuple[Pixels, Sequence[str]]], columns: int) -> bytes:
    """The sheet of `images`, each with up to `LINES` lines of caption, below a title."""
    rows = -(-len(images) // columns)
    height = CELL_PX + LINES * LINE_PX + GAP_PX
    top = 2 * GAP_PX + LINE_PX
    paper = Image.new("L", (GAP_PX + columns * (CELL_PX + GAP_PX), top + rows * height), PAPER)
    pen = ImageDraw.Draw(paper)
    font = ImageFont.load_default(FONT_PX)
    pen.text((GAP_PX, GAP_PX), _fitting(title, font, paper.width - 2 * GAP_PX), INK, font)
    for place, (pixels, caption) in enumerate(images):
        row, column = divmod(place, columns)
        x, y = GAP_PX + column * (CELL_PX + GAP_PX), top + row * height
        paper.paste(_shown(pixels), (x, y))
        for n, line in enumerate(caption[:LINES]):
            at = (x, y + CELL_PX + 2 + n * LINE_PX)
            pen.text(at, _fitting(line, font, CELL_PX), INK if n == 0 else MUTED, font)
    sink = io.BytesIO()
    paper.save(sink, "PNG")
    return sink.getvalue()


def _shown(pixels: Pixels) -> Image.Image:
    smaller = max(pixels.shape) <= CELL_PX
    how = Image.Resampling.NEAREST if smaller else Image.Resampling.BOX
    return Image.fromarray(pixels).resize((CELL_PX, CELL_PX), how)


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """`text`, cut where it would run over `width`."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
