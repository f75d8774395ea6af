"""What a `Preprocess` row does to pixels, without torch: resize, crop to the middle, fill up; all on uint8.

Resizing is Pillow's own here. Whoever has torch at hand gives its resize instead (`data.transforms`): within a grey
level of this one where it is bilinear, and in a third of the time.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image

from resnetkit.catalog.preprocessing import Interpolation, Preprocess
from resnetkit.data.decode import Pixels

Resize = Callable[[Pixels, tuple[int, int], Interpolation], Pixels]
"""uint8 `N,H,W,C`, height and width, interpolation → uint8 `N,h,w,C`"""


def resize_with_pillow(pixels: Pixels, size: tuple[int, int], interpolation: Interpolation) -> Pixels:
    """uint8 `N,H,W,C` → `N,*size,C`."""
    if pixels.shape[1:3] == size:
        return pixels
    filter_ = Image.Resampling[interpolation.upper()]
    resized = [
        np.asarray(Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).resize(size[::-1], filter_))
        for array in pixels
    ]
    return np.stack(resized).reshape(len(pixels), *size, -1)


def prepare(pixels: Pixels, preprocess: Preprocess, resize: Resize = resize_with_pillow) -> Pixels:
    """uint8 `N,H,W,C`, all of one size → uint8 `N,h,w,C` of the preprocessing's size.

    >>> prepare(np.zeros((1, 375, 500, 3), np.uint8), Preprocess.for_size(224, crop_share=0.875)).shape
    (1, 224, 224, 3)
    """
    resized = resize(pixels, preprocess.resized(*pixels.shape[1:3]), preprocess.interpolation)
    return _filled_up(_middle(resized, preprocess.size), preprocess)


def mean_colour(preprocess: Preprocess) -> tuple[int, ...]:
    """What normalisation maps to zero, nearly: the colour of what is no image.

    >>> mean_colour(Preprocess.for_size(224))
    (124, 116, 104)
    """
    return tuple(round(255 * value) for value in preprocess.mean)


def _middle(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """The middle, at most `size`; an odd pixel is cut as torchvision cuts it (halves rounded to even)."""
    height, width = pixels.shape[1:3]
    top, left = max(0, round((height - size[0]) / 2)), max(0, round((width - size[1]) / 2))
    return pixels[:, top : top + size[0], left : left + size[1]]


def _filled_up(pixels: Pixels, preprocess: Preprocess) -> Pixels:
    """In the middle of the mean colour where it is smaller than wanted; an odd pixel goes right and down."""
    n, height, width, channels = pixels.shape
    wanted = preprocess.size
    if (height, width) == wanted:
        return pixels
    top, left = (wanted[0] - height) // 2, (wanted[1] - width) // 2
    canvas = np.empty((n, *wanted, channels), np.uint8)
    canvas[:] = mean_colour(preprocess)
    canvas[:, top : top + height, left : left + width] = pixels
    return canvas
