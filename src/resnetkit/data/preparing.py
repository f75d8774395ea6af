"""What a `Preprocess` row does to pixels, without torch: resize, crop to the middle, fill up; all on uint8.

Resizing is Pillow's own here. Whoever has torch at hand gives its resize instead (`data.transforms`): within a grey
level of this one where it is bilinear, and in a third of the time.
"""

from collections.abc import Callable
from math import ceil, floor

import numpy as np
from PIL import Image

from resnetkit.catalog.preprocessing import Interpolation, Preprocess
from resnetkit.data.decode import Pixels

Resize = Callable[[Pixels, tuple[int, int], Interpolation], Pixels]
"""uint8 `N,H,W,C`, height and width, interpolation → uint8 `N,h,w,C`"""

_LARGEST = 1 << 24
"""pixels of a resized picture that is made as a whole. One pixel by 65,000, resized to 256, would have 4 billion."""


def resize_with_pillow(pixels: Pixels, size: tuple[int, int], interpolation: Interpolation) -> Pixels:
    """uint8 `N,H,W,C` → `N,*size,C`."""
    return pixels if pixels.shape[1:3] == size else _resized(pixels, size, interpolation)


def _resized(
    pixels: Pixels,
    size: tuple[int, int],
    interpolation: Interpolation,
    box: tuple[float, float, float, float] | None = None,
) -> Pixels:
    """The part of pictures in `box` (left, top, right, bottom), by default all of it, as `N,*size,C`."""
    images = [Image.fromarray(array[..., 0] if array.shape[2] == 1 else array) for array in pixels]
    resized = [image.resize(size[::-1], Image.Resampling[interpolation.upper()], box) for image in images]
    return np.stack([np.asarray(image) for image in resized]).reshape(len(pixels), *size, -1)


def prepare(pixels: Pixels, preprocess: Preprocess, resize: Resize = resize_with_pillow) -> Pixels:
    """uint8 `N,H,W,C`, all of one size → uint8 `N,h,w,C` of the preprocessing's size.

    >>> prepare(np.zeros((1, 375, 500, 3), np.uint8), Preprocess.for_size(224, crop_share=0.875)).shape
    (1, 224, 224, 3)
    """
    size = preprocess.resized(*pixels.shape[1:3])
    if size[0] * size[1] > _LARGEST:
        resized = _middle_of_thin(pixels, size, preprocess)
    else:
        resized = resize(pixels, size, preprocess.interpolation)
    return _filled_up(_middle(resized, preprocess.size), preprocess)


def mean_colour(preprocess: Preprocess) -> tuple[int, ...]:
    """What normalisation maps to zero, nearly: the colour of what is no image.

    >>> mean_colour(Preprocess.for_size(224))
    (124, 116, 104)
    """
    return tuple(round(255 * value) for value in preprocess.mean)


def _middle_of_thin(pixels: Pixels, size: tuple[int, int], preprocess: Preprocess) -> Pixels:
    """What `_middle` keeps of pictures resized to `size`, along their longer side; the rest is never computed."""
    axis = 1 if size[0] > size[1] else 2
    length, scale = size[axis - 1], pixels.shape[axis] / size[axis - 1]
    kept = min(length, preprocess.size[axis - 1])
    begin = _first(length, kept) * scale
    end = begin + kept * scale
    # As far as the filter reaches; given all of it, Pillow would resize the other side last and round otherwise.
    reach = ceil(2 * max(1.0, scale)) + 1
    low, high = max(0, floor(begin) - reach), min(pixels.shape[axis], ceil(end) + reach)
    if axis == 1:
        box = (0.0, begin - low, float(pixels.shape[2]), end - low)
        return _resized(pixels[:, low:high], (kept, size[1]), preprocess.interpolation, box)
    box = (begin - low, 0.0, end - low, float(pixels.shape[1]))
    return _resized(pixels[:, :, low:high], (size[0], kept), preprocess.interpolation, box)


def _first(length: int, kept: int) -> int:
    """Where the middle begins; an odd pixel is cut as torchvision cuts it (halves rounded to even)."""
    return max(0, round((length - kept) / 2))


def _middle(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """The middle, at most `size`."""
    top, left = _first(pixels.shape[1], size[0]), _first(pixels.shape[2], size[1])
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
