"""Random rectangles inside an image, from addressed numbers: what a crop keeps and what erasing overwrites."""

from math import exp, log, sqrt

import numpy as np
from numpy.typing import NDArray

ATTEMPTS = 10
NUMBERS = 2 * ATTEMPTS + 2
"""random numbers a rectangle takes"""


def rectangle(
    height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float], numbers: NDArray[np.float64]
) -> tuple[int, int, int, int] | None:
    """Top, left, height, width: an area uniform in `scale` of the image's, a width : height log-uniform in `ratio`.

    Ten are tried; None if not one of them lies inside an image of `height` × `width`.
    """
    low, high = log(ratio[0]), log(ratio[1])
    for attempt in range(ATTEMPTS):
        area = height * width * (scale[0] + numbers[2 * attempt] * (scale[1] - scale[0]))
        shape = exp(low + numbers[2 * attempt + 1] * (high - low))
        w, h = round(sqrt(area * shape)), round(sqrt(area / shape))
        if 0 < w <= width and 0 < h <= height:
            top = int(numbers[2 * ATTEMPTS] * (height - h + 1))
            left = int(numbers[2 * ATTEMPTS + 1] * (width - w + 1))
            return top, left, h, w
    return None
