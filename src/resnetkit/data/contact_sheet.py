"""Many small images and what they are called on one picture."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_COLUMNS = 8
_GAP, _LINE, _MARGIN = 8, 18, 16
_LEAST, _MOST = 112, 160  # pixels of a side: small images are enlarged, large ones reduced, so that captions fit below


def contact_sheet(images: Tensor, captions: Sequence[tuple[str, str]], title: str) -> Image.Image:
    """uint8 images `N,C,H,W`, two lines below each, and a title above.

    >>> import torch
    >>> contact_sheet(torch.zeros(10, 3, 32, 32, dtype=torch.uint8), [("cat", "1.png")] * 10, "ten cats").size
    (856, 348)
    """
    height, width = _shown_size(*images.shape[-2:])
    cell_height, cell_width = height + 2 * _LINE + _GAP, width + _GAP
    columns = min(_COLUMNS, len(images))
    rows = -(-len(images) // columns)
    top = _MARGIN + 2 * _LINE
    size = (2 * _MARGIN + columns * cell_width - _GAP, top + _MARGIN + rows * cell_height)
    sheet = Image.new("RGB", (max(size[0], 640), size[1]), "white")
    pen = ImageDraw.Draw(sheet)
    bold, plain = ImageFont.load_default(15), ImageFont.load_default(12)
    pen.text((_MARGIN, _MARGIN - 4), title, "black", bold)
    for place, (image, (label, name)) in enumerate(zip(images, captions, strict=True)):
        x = _MARGIN + place % columns * cell_width
        y = top + place // columns * cell_height
        sheet.paste(_picture(image, height, width), (x, y))
        pen.text((x, y + height + 3), _fitting(pen, label, plain, width), "black", plain)
        pen.text((x, y + height + 3 + _LINE), _fitting(pen, name, plain, width), "grey", plain)
    return sheet


def _shown_size(height: int, width: int) -> tuple[int, int]:
    longest = max(height, width)
    scale = max(1, _LEAST // longest) if longest < _LEAST else min(1.0, _MOST / longest)
    return round(height * scale), round(width * scale)


def _picture(image: Tensor, height: int, width: int) -> Image.Image:
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
    # Pixels of small images stay pixels; photos are reduced smoothly.
    enlarged = height > picture.height
    return picture.resize((width, height), Image.Resampling.NEAREST if enlarged else Image.Resampling.BOX)


def _fitting(
    pen: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int
) -> str:
    """The end of the text, which tells files apart, where it is too long."""
    if pen.textlength(text, font) <= width:
        return text
    while text and pen.textlength("…" + text, font) > width:
        text = text[1:]
    return "…" + text
