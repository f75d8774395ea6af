"""Pixels of any size become a network's input: resize and crop on uint8, then normalise on the device.

Resizing is torch's antialiased `interpolate` on uint8: in a third of Pillow's time, because the channels-last layout of
a decoded image is what its vector code wants, and bilinear within one grey level of Pillow. Its bicubic strays further
(weights of 16 bits, and overshoot), so where evaluation is bicubic Pillow does it.
"""

from typing import Protocol, final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from resnetkit.catalog.preprocessing import Interpolation, Preprocess
from resnetkit.data.decode import Pixels

Numbers = NDArray[np.float64]


class Transform(Protocol):
    """Pixels and `columns` random numbers an image → the network's input, uint8."""

    @property
    def columns(self) -> int:
        """Random numbers an image."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the result."""

    def __call__(self, pixels: Pixels, numbers: Numbers) -> Tensor:
        """uint8 `H,W,C` of any size and `columns` numbers in [0, 1) → uint8 `C,h,w`."""

    def batch(self, pixels: Pixels, numbers: Numbers) -> Tensor:
        """uint8 `N,H,W,C`, all of one size, and numbers `N,columns` → uint8 `N,C,h,w`."""


def normalise(images: Tensor, preprocess: Preprocess) -> Tensor:
    """uint8 `N,C,H,W` → float32 `N,C,H,W` in channels-last memory: (x / 255 - mean) / std, on the images' device.

    >>> grey = Preprocess.for_size(1, mean=(0.5,), std=(0.25,))
    >>> normalise(torch.tensor([[[[0]]], [[[255]]]], dtype=torch.uint8), grey).flatten().round(decimals=3).tolist()
    [-2.0, 2.0]
    """
    n, channels, height, width = images.shape
    mean, std = torch.tensor(preprocess.mean), torch.tensor(preprocess.std)
    # A row of pixels is one vector: with only three channels innermost the processor's vector units would idle.
    rows = images.permute(0, 2, 3, 1).reshape(n, height, width * channels).to(torch.float32, copy=True)
    scale = (1 / (255 * std)).repeat(width).to(images.device)
    shift = (-mean / std).repeat(width).to(images.device)
    return torch.addcmul(shift, rows, scale, out=rows).view(n, height, width, channels).permute(0, 3, 1, 2)


def resize(images: Tensor, size: tuple[int, int], interpolation: Interpolation) -> Tensor:
    """uint8 `N,C,H,W` → `N,C,*size`, antialiased. Bilinear is within a grey level of Pillow, bicubic nearly so."""
    if images.shape[-2:] == size:
        return images
    return F.interpolate(images, size, mode=interpolation, antialias=True)


def resize_with_pillow(images: Tensor, size: tuple[int, int], interpolation: Interpolation) -> Tensor:
    """As `resize`, by Pillow itself: slower, and exactly its own pixels."""
    arrays = images.permute(0, 2, 3, 1).numpy()
    filter_ = Image.Resampling[interpolation.upper()]
    resized = [
        np.asarray(Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).resize(size[::-1], filter_))
        for array in arrays
    ]
    return as_images(np.stack(resized).reshape(len(arrays), *size, -1))


def as_images(pixels: Pixels) -> Tensor:
    """Pixels `H,W,C` or `N,H,W,C` as `N,C,H,W` without copying them (so in channels-last memory)."""
    tensor = torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy())
    return (tensor if pixels.ndim == 4 else tensor[None]).permute(0, 3, 1, 2)


def mean_colour(preprocess: Preprocess) -> tuple[int, ...]:
    """What normalisation maps to zero, nearly: the colour of what is no image.

    >>> mean_colour(Preprocess.for_size(224))
    (124, 116, 104)
    """
    return tuple(round(255 * value) for value in preprocess.mean)


@final
class EvalTransform:
    """Preprocessing without chance: resizes and crops as the `Preprocess` row says."""

    columns = 0
    """random numbers an image: none"""

    def __init__(self, preprocess: Preprocess) -> None:
        self.preprocess = preprocess
        self._fill = mean_colour(preprocess)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the result."""
        return self.preprocess.size

    def __call__(self, pixels: Pixels, numbers: Numbers | None = None) -> Tensor:
        """uint8 `H,W,C` of any size → uint8 `C,h,w`.

        >>> EvalTransform(Preprocess.for_size(224, crop_share=0.875))(np.zeros((375, 500, 3), np.uint8)).shape
        torch.Size([3, 224, 224])
        """
        return self.batch(pixels[None])[0]

    def batch(self, pixels: Pixels, numbers: Numbers | None = None) -> Tensor:
        """uint8 `N,H,W,C`, all of one size → uint8 `N,C,h,w`."""
        images = as_images(pixels)
        height, width = images.shape[-2:]
        scale = resize if self.preprocess.interpolation == "bilinear" else resize_with_pillow
        resized = scale(images, self.preprocess.resized(height, width), self.preprocess.interpolation)
        return self._filled_up(_center_crop(resized, self.size))

    def _filled_up(self, images: Tensor) -> Tensor:
        """In the middle of the mean colour where it is smaller than wanted; an odd pixel goes right and down."""
        height, width = images.shape[-2:]
        if (height, width) == self.size:
            return images
        top, left = (self.size[0] - height) // 2, (self.size[1] - width) // 2
        canvas = torch.tensor(self._fill, dtype=torch.uint8).view(1, -1, 1, 1).expand(len(images), -1, *self.size)
        canvas = canvas.contiguous(memory_format=torch.channels_last)
        canvas[:, :, top : top + height, left : left + width] = images
        return canvas


def _center_crop(images: Tensor, size: tuple[int, int]) -> Tensor:
    """The middle, at most `size`; an odd pixel is cut as torchvision cuts it (halves rounded to even)."""
    height, width = images.shape[-2:]
    top, left = max(0, round((height - size[0]) / 2)), max(0, round((width - size[1]) / 2))
    return images[:, :, top : top + size[0], left : left + size[1]]
