"""What the automatic policies do to an image, by name and signed strength: Pillow's own operations on uint8.

The published policies were tuned on Pillow's pixels, and each operation takes a fraction of decoding a photo's time.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from resnetkit.data.decode import Pixels

Operation = Literal[
    "identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "colour", "contrast",
    "sharpness", "posterise", "solarise", "autocontrast", "equalise",
]  # fmt: skip
SIGNED: frozenset[Operation] = frozenset(
    ("shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "colour", "contrast", "sharpness")
)
"""those whose strength is negated at even odds"""


def operate(pixels: Pixels, operation: Operation, strength: float, fill: tuple[int, ...]) -> Pixels:
    """The operation on pixels `H,W,C`; `fill` is the colour of what comes in from outside.

    `strength` is a slope (shear), pixels (translate), degrees (rotate, counter-clockwise), change of a factor of 1
    (brightness, colour, contrast, sharpness), bits kept (posterise), the least value inverted (solarise).
    """
    if operation == "identity":
        return pixels
    image = to_pillow(pixels)
    return from_pillow(_OPERATIONS[operation](image, strength, fill))


def shift_hue(pixels: Pixels, turn: float) -> Pixels:
    """Turn the hue by a share of the circle; grey images have none."""
    if pixels.shape[2] == 1:
        return pixels
    hue, saturation, value = to_pillow(pixels).convert("HSV").split()
    turned = Image.fromarray(np.asarray(hue) + np.uint8(round(turn * 255) % 256))
    return from_pillow(Image.merge("HSV", (turned, saturation, value)).convert("RGB"))


def to_pillow(pixels: Pixels) -> Image.Image:
    """Pixels `H,W,1` or `H,W,3` as a Pillow image."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def from_pillow(image: Image.Image) -> Pixels:
    """A grey or RGB Pillow image as pixels `H,W,C`."""
    return np.atleast_3d(np.array(image))


def _affine(image: Image.Image, matrix: tuple[float, ...], fill: tuple[int, ...]) -> Image.Image:
    """Nearest pixels; the matrix says where each one comes from."""
    return image.transform(image.size, Image.Transform.AFFINE, matrix, fillcolor=_colour(fill))


def _colour(fill: tuple[int, ...]) -> int | tuple[int, ...]:
    return fill[0] if len(fill) == 1 else fill


_OPERATIONS: Mapping[Operation, Callable[[Image.Image, float, tuple[int, ...]], Image.Image]] = {
    "shear_x": lambda image, slope, fill: _affine(image, (1, slope, 0, 0, 1, 0), fill),
    "shear_y": lambda image, slope, fill: _affine(image, (1, 0, 0, slope, 1, 0), fill),
    "translate_x": lambda image, pixels, fill: _affine(image, (1, 0, -round(pixels), 0, 1, 0), fill),
    "translate_y": lambda image, pixels, fill: _affine(image, (1, 0, 0, 0, 1, -round(pixels)), fill),
    "rotate": lambda image, degrees, fill: image.rotate(degrees, fillcolor=_colour(fill)),
    "brightness": lambda image, change, _: ImageEnhance.Brightness(image).enhance(1 + change),
    "colour": lambda image, change, _: ImageEnhance.Color(image).enhance(1 + change),
    "contrast": lambda image, change, _: ImageEnhance.Contrast(image).enhance(1 + change),
    "sharpness": lambda image, change, _: ImageEnhance.Sharpness(image).enhance(1 + change),
    "posterise": lambda image, bits, _: ImageOps.posterize(image, round(bits)),
    "solarise": lambda image, threshold, _: ImageOps.solarize(image, round(threshold)),
    "autocontrast": lambda image, _, __: ImageOps.autocontrast(image),
    "equalise": lambda image, _, __: ImageOps.equalize(image),
}
