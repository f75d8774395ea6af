"""Pixels of any size become a network's input: resize and crop on uint8, then normalise on the device.

Resizing is torch's antialiased `interpolate` on uint8: in a third of Pillow's time, because the channels-last layout of
a decoded image is what its vector code wants, and bilinear within one grey level of Pillow. Its bicubic strays further
(weights of 16 bits, and overshoot), so where evaluation is bicubic Pillow does it.
"""

from typing import Protocol, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from resnetkit.catalog.preprocessing import Interpolation, Preprocess
from resnetkit.data.decode import Pixels
from resnetkit.data.preparing import prepare, resize_with_pillow

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


def as_images(pixels: Pixels) -> Tensor:
    """Pixels `H,W,C` or `N,H,W,C` as `N,C,H,W` without copying them (so in channels-last memory)."""
    tensor = torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy())
    return (tensor if pixels.ndim == 4 else tensor[None]).permute(0, 3, 1, 2)


@final
class EvalTransform:
    """Preprocessing without chance: resizes and crops as the `Preprocess` row says."""

    columns = 0
    """random numbers an image: none"""

    def __init__(self, preprocess: Preprocess) -> None:
        self.preprocess = preprocess

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
        return as_images(prepare(pixels, self.preprocess, resize_pixels))


def resize_pixels(pixels: Pixels, size: tuple[int, int], interpolation: Interpolation) -> Pixels:
    """uint8 `N,H,W,C` → `N,*size,C`: by torch where it is bilinear, else by Pillow."""
    if interpolation != "bilinear":
        return resize_with_pillow(pixels, size, interpolation)
    resized: Pixels = resize(as_images(pixels), size, interpolation).permute(0, 2, 3, 1).numpy()
    return resized
