"""What an image looks like in 64 bits and in 16 × 16 grey pixels, so that copies of it can be found among many.

The bits are the "pHash" of Zauner 2010 ("Implementation and benchmarking of perceptual image hash functions", section
3.2.1, after Krawetz 2011): they say which of the 8 × 8 lowest frequencies of the reduced image are above the median.
Compression, resizing and grey copies change few of them; the thumbnail then tells a copy from a mere likeness.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.decode import Pixels, to_channels
from resnetkit.data.transforms import as_images, resize

_SIDE, _LOW, THUMB = 32, 8, 16
_WAVES: NDArray[np.float32] = np.cos(
    np.pi * (2 * np.arange(_SIDE) + 1) * np.arange(_LOW)[:, None] / (2 * _SIDE), dtype=np.float32
)
"""the 8 lowest waves of the discrete cosine transform over 32 pixels, one a row"""

MOST_BITS = 7
"""of 64, in which two copies may differ: 99 % of copies at JPEG quality 30, at half size or brightened by a fifth do"""
LEAST_CORRELATION = 0.96
"""of two copies' thumbnails"""
LEAST_SIDE = 16
"""pixels; smaller images are alike too easily (handwritten digits of 8 × 8), and only exact copies are told"""


@final
@dataclass(frozen=True, eq=False)
class Sketches:
    """Of N images: `bits` N uint64, `thumbs` N,16,16 uint8."""

    bits: NDArray[np.uint64]
    thumbs: Pixels

    @classmethod
    def of(cls, pixels: Pixels) -> "Sketches":
        """From uint8 `N,H,W,C`, all of one size.

        >>> ramp = np.linspace(0, 255, 64 * 64).astype(np.uint8).reshape(1, 64, 64, 1)
        >>> bool(Sketches.of(ramp).bits == Sketches.of(np.repeat(ramp, 3, axis=3)).bits)
        True
        """
        reduced = resize(as_images(pixels), (_SIDE, _SIDE), "bilinear").permute(0, 2, 3, 1).numpy()
        grey = to_channels(reduced, 1)[..., 0].astype(np.float32)
        low = (_WAVES @ grey @ _WAVES.T).reshape(len(grey), _LOW * _LOW)
        # The first is the mean brightness, which says nothing of what is to be seen.
        above = low > np.median(low[:, 1:], axis=1, keepdims=True)
        bits = np.packbits(above, axis=1).view(np.uint64)[:, 0]
        blocks = grey.reshape(len(grey), THUMB, _SIDE // THUMB, THUMB, _SIDE // THUMB)
        return cls(bits, np.round(blocks.mean(axis=(2, 4))).astype(np.uint8))


def correlations(a: Pixels, b: Pixels) -> NDArray[np.float32]:
    """Of pairs of thumbnails `N,16,16`; two images without any structure are alike where their grey is.

    >>> flat = np.full((1, 16, 16), 200, np.uint8)
    >>> correlations(flat, flat).tolist(), correlations(flat, flat // 2).tolist()
    ([1.0], [0.0])
    """
    x, y = (thumbs.reshape(len(thumbs), -1).astype(np.float32) for thumbs in (a, b))
    brightness = np.abs(x.mean(axis=1) - y.mean(axis=1))
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    powers = np.stack([(x * x).mean(axis=1), (y * y).mean(axis=1)])
    structured: NDArray[np.float32] = (x * y).mean(axis=1) / np.sqrt(np.maximum(powers, 1e-6)).prod(axis=0)
    flat = powers.max(axis=0) < _FLAT**2
    return np.where(flat, (brightness < _FLAT).astype(np.float32), structured)


_FLAT = 1.0  # grey levels; deviations below it are rounding and noise
