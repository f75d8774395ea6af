"""Random brightness, contrast, saturation and hue: of a photo by Pillow, of a batch of small images all at once."""

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.decode import Pixels
from resnetkit.data.pixel_operations import operate, shift_hue
from resnetkit.data.transforms import Numbers
from resnetkit.errors import InvalidArgument

_ORDERS = tuple(permutations(range(4)))


@dataclass(frozen=True, kw_only=True)
class ColourJitter:
    """Brightness, contrast and saturation times a factor of 1 ± x, hue turned by ± x of the circle, in random order.

    Howard 2013, arXiv 1312.5402, section 2.2 (without hue, which torchvision added).
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.0

    def __post_init__(self) -> None:
        if not all(0 <= value <= 1 for value in (self.brightness, self.contrast, self.saturation, 2 * self.hue)):
            raise InvalidArgument(f"{self}: brightness, contrast and saturation are 0 to 1, hue is 0 to 0.5")

    @property
    def columns(self) -> int:
        """Four changes and their order."""
        return 5

    def changes(self, numbers: Numbers) -> dict[str, float]:
        """The changes of brightness, contrast, saturation and hue, in the order in which they are made."""
        names = ("brightness", "contrast", "saturation", "hue")
        order = _ORDERS[int(numbers[4] * len(_ORDERS))]
        return {names[i]: float((2 * numbers[i] - 1) * getattr(self, names[i])) for i in order}

    def apply(self, pixels: Pixels, numbers: Numbers, fill: tuple[int, ...]) -> Pixels:
        """Pixels `H,W,C` → the same size."""
        for name, change in self.changes(numbers).items():
            if name == "brightness":
                pixels = operate(pixels, "brightness", change, fill)
            elif name == "contrast":
                pixels = operate(pixels, "contrast", change, fill)
            elif name == "saturation":
                pixels = operate(pixels, "colour", change, fill)
            elif change:
                pixels = shift_hue(pixels, change)
        return pixels

    def batch(self, pixels: Pixels, numbers: Numbers) -> Pixels:
        """Pixels `N,H,W,C` → what `apply` makes of each, to the last bit, in a sixth of the time for 32×32.

        Where the hue turns too, one by one.
        """
        if self.hue:
            return np.stack([self.apply(*pair, ()) for pair in zip(pixels, numbers, strict=True)])
        factors = (1 + (2 * numbers[:, :3] - 1) * (self.brightness, self.contrast, self.saturation)).astype(np.float32)
        orders = np.array(_ORDERS)[(numbers[:, 4] * len(_ORDERS)).astype(int)]
        images = pixels.astype(np.float32)
        for turn in orders.T:
            for change, away_from in enumerate((_black, _mean_grey, _grey)):
                chosen = turn == change
                image, factor = images[chosen], factors[chosen, change, None, None, None]
                still = away_from(image)
                images[chosen] = np.floor(np.clip(still + factor * (image - still), 0, 255))
        return images.astype(np.uint8)


_Images = NDArray[np.float32]
"""whole numbers 0 … 255, `N,H,W,C`"""


def _black(images: _Images) -> _Images:
    return np.zeros((len(images), 1, 1, 1), np.float32)


def _grey(images: _Images) -> _Images:
    """`N,H,W,1`; ITU-R 601 in Pillow's whole numbers."""
    if images.shape[3] == 1:
        return images
    weighed = images @ np.array((19595, 38470, 7471), np.float64)
    return np.floor((weighed + 0x8000) / 0x10000)[..., None].astype(np.float32)


def _mean_grey(images: _Images) -> _Images:
    """`N,1,1,1`, the mean rounded."""
    mean: _Images = np.floor(_grey(images).mean((1, 2, 3), np.float64, keepdims=True) + 0.5).astype(np.float32)
    return mean
