"""What training does to the pixels of an image after the crop: policies as frozen rows over addressed random numbers.

Each row says how many numbers an image takes (`columns`) and, from them, what it does (`chosen`, `box`, …), so that a
test can look at the choice without any image.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import ndtri

from resnetkit.data.colour_jitter import ColourJitter
from resnetkit.data.decode import Pixels
from resnetkit.data.greyscale import RandomGreyscale
from resnetkit.data.pixel_operations import SIGNED, Operation, operate
from resnetkit.data.rectangles import NUMBERS, rectangle
from resnetkit.data.transforms import Numbers
from resnetkit.errors import InvalidArgument

_LEVELS = 31  # strengths 0 … 30 that the policies know

Ranges = tuple[tuple[Operation, float, float], ...]
"""operation, its strength at level 0, its strength at the last level"""

_WIDE: Ranges = (
    ("identity", 0, 0), ("shear_x", 0, 0.99), ("shear_y", 0, 0.99), ("translate_x", 0, 32), ("translate_y", 0, 32),
    ("rotate", 0, 135), ("brightness", 0, 0.99), ("colour", 0, 0.99), ("contrast", 0, 0.99), ("sharpness", 0, 0.99),
    ("posterise", 8, 2), ("solarise", 255, 0), ("autocontrast", 0, 0), ("equalise", 0, 0),
)  # fmt: skip
_USUAL: Ranges = (
    ("identity", 0, 0), ("shear_x", 0, 0.3), ("shear_y", 0, 0.3), ("translate_x", 0, 150 / 331),
    ("translate_y", 0, 150 / 331), ("rotate", 0, 30), ("brightness", 0, 0.9), ("colour", 0, 0.9), ("contrast", 0, 0.9),
    ("sharpness", 0, 0.9), ("posterise", 8, 4), ("solarise", 255, 0), ("autocontrast", 0, 0), ("equalise", 0, 0),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrivialAugment:
    """One operation of fourteen at a strength of 31, all equally likely (Müller and Hutter 2021, arXiv 2103.10158).

    The wide space of table 6; strengths of translation are pixels.
    """

    @property
    def columns(self) -> int:
        """Operation, strength, sign."""
        return 3

    def chosen(self, numbers: Numbers) -> tuple[Operation, float]:
        """Operation and signed strength."""
        operation, first, last = _WIDE[int(numbers[0] * len(_WIDE))]
        return operation, _strength(operation, first, last, int(numbers[1] * _LEVELS), numbers[2])

    def apply(self, pixels: Pixels, numbers: Numbers, fill: tuple[int, ...]) -> Pixels:
        """Pixels `H,W,C` → the same size."""
        return operate(pixels, *self.chosen(numbers), fill)


@dataclass(frozen=True, kw_only=True)
class RandAugment:
    """`operations` of fourteen in a row at one `magnitude` of 0 … 30 (Cubuk et al. 2019, arXiv 1909.13719).

    With `deviation` each operation's magnitude is drawn around it from a normal distribution, as in timm's `mstd`.
    Strengths of translation are shares of the image's side.
    """

    operations: int = 2
    magnitude: float = 9
    deviation: float = 0.0

    def __post_init__(self) -> None:
        if self.operations < 1 or not 0 <= self.magnitude < _LEVELS or self.deviation < 0:
            raise InvalidArgument(
                f"RandAugment of {self.operations} operations at magnitude {self.magnitude} ± {self.deviation}: "
                f"at least one operation, a magnitude from 0 to {_LEVELS - 1}, a deviation from 0"
            )

    @property
    def columns(self) -> int:
        """Operation, deviation and sign of each."""
        return 3 * self.operations

    def chosen(self, numbers: Numbers) -> tuple[tuple[Operation, float], ...]:
        """Operations and signed strengths, in order."""
        return tuple(self._one(numbers[3 * i : 3 * i + 3]) for i in range(self.operations))

    def _one(self, numbers: Numbers) -> tuple[Operation, float]:
        operation, first, last = _USUAL[int(numbers[0] * len(_USUAL))]
        level = self.magnitude
        if self.deviation:
            level = min(max(level + self.deviation * float(ndtri(max(numbers[1], 2.0**-54))), 0.0), _LEVELS - 1)
        return operation, _strength(operation, first, last, level, numbers[2])

    def apply(self, pixels: Pixels, numbers: Numbers, fill: tuple[int, ...]) -> Pixels:
        """Pixels `H,W,C` → the same size."""
        for operation, strength in self.chosen(numbers):
            side = {"translate_x": pixels.shape[1], "translate_y": pixels.shape[0]}.get(operation, 1)
            pixels = operate(pixels, operation, strength * side, fill)
        return pixels


def _strength(operation: Operation, first: float, last: float, level: float, sign: float) -> float:
    strength = first + (last - first) * level / (_LEVELS - 1)
    return -strength if operation in SIGNED and sign < 0.5 else strength


@dataclass(frozen=True, kw_only=True)
class RandomErasing:
    """A random rectangle is overwritten (Zhong et al. 2017, arXiv 1708.04896, algorithm 1), in a share of the images.

    `fill` "noise" is the paper's best (random values, table 5), "mean" the colour that normalisation maps to zero.
    As in the paper a rectangle that does not fit is tried again (ten times, then the image stays whole).
    """

    probability: float = 0.25
    scale: tuple[float, float] = (0.02, 1 / 3)
    ratio: tuple[float, float] = (0.3, 1 / 0.3)
    fill: Literal["noise", "mean"] = "noise"

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1 or not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise InvalidArgument(f"random erasing {self.probability} of area {self.scale}: shares between 0 and 1")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise InvalidArgument(f"random erasing of ratio {self.ratio}: give a rising pair above 0")

    @property
    def columns(self) -> int:
        """Whether, where, and the key of the noise."""
        return NUMBERS + 2

    def box(self, height: int, width: int, numbers: Numbers) -> tuple[int, int, int, int] | None:
        """Top, left, height, width of what is erased; None for nothing."""
        if numbers[0] >= self.probability:
            return None
        return rectangle(height, width, self.scale, self.ratio, numbers[2:])

    def apply(self, pixels: Pixels, numbers: Numbers, fill: tuple[int, ...]) -> Pixels:
        """Pixels `H,W,C` → the same size."""
        box = self.box(pixels.shape[0], pixels.shape[1], numbers)
        if box is None:
            return pixels
        top, left, height, width = box
        erased = pixels.copy()
        erased[top : top + height, left : left + width] = (
            _noise(numbers[1], (height, width, pixels.shape[2])) if self.fill == "noise" else fill
        )
        return erased


def _noise(key: float, shape: tuple[int, int, int]) -> Pixels:
    """Random bytes that the number chooses."""
    size = shape[0] * shape[1] * shape[2]
    words = np.random.Philox(key=int(key * 2**53)).random_raw(-(-size // 8))
    return words.view(np.uint8)[:size].reshape(shape)


PixelPolicy = TrivialAugment | RandAugment | ColourJitter | RandomGreyscale | RandomErasing
