"""A contact sheet: images in rows, each with a caption below it, as one PNG."""

import io
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

CELL_PX = 160
"""Images are shown at this size, whatever theirs: nearest neighbour up, a box filter down."""
GAP_PX = 10
LINE_PX = 15
LINES = 5
FONT_PX = 12
PAPER, INK, MUTED = 255, 20, 95

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Pixels = npt.NDArray[np.uint8]


def sheet(title: str, images: Sequence[tuple[Pixels, Sequence[str]]], columns: int) -> bytes:
    """The sheet of `images` below a title. Each has a caption of some texts, in `LINES` lines."""
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
        lines = [(line, n == 0) for n, text in enumerate(caption) for line in _lines(text, font)]
        for n, (line, first) in enumerate(lines[:LINES]):
            pen.text((x, y + CELL_PX + 2 + n * LINE_PX), line, INK if first else MUTED, font)
    sink = io.BytesIO()
    paper.save(sink, "PNG")
    return sink.getvalue()


def _shown(pixels: Pixels) -> Image.Image:
    smaller = max(pixels.shape) <= CELL_PX
    how = Image.Resampling.NEAREST if smaller else Image.Resampling.BOX
    return Image.fromarray(pixels).resize((CELL_PX, CELL_PX), how)


def _lines(text: str, font: Font) -> Iterator[str]:
    """`text` in lines of a cell's width, broken after commas; what does not fit a line is cut."""
    line = ""
    for part in text.split(", "):
        longer = f"{line}, {part}" if line else part
        if line and font.getlength(f"{longer},") > CELL_PX:
            yield f"{line},"
            longer = part
        line = longer
    if line:
        yield _fitting(line, font, CELL_PX)


def _fitting(text: str, font: Font, width: int) -> str:
    """`text`, cut where it would run over `width`."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
