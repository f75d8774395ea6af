"""What training does to an image by chance: policies as frozen rows, and their execution on addressed random numbers.

Photos are cut out at random and resized, small images are padded and shifted; both are mirrored where that keeps the
class. The numbers come as a row per sample (`randomness.uniform`), so that who computes it, and when, changes nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.catalog.recipe import PaddingMode
from resnetkit.data.colour_jitter import ColourJitter
from resnetkit.data.decode import Pixels
from resnetkit.data.greyscale import RandomGreyscale
from resnetkit.data.pixel_policies import PixelPolicy
from resnetkit.data.preparing import mean_colour
from resnetkit.data.rectangles import NUMBERS, rectangle
from resnetkit.data.transforms import EvalTransform, Numbers, Transform, as_images, resize
from resnetkit.errors import InvalidArgument

SMALL_IMAGE = 64
"""the longest side in pixels up to which "auto" treats images as small"""


@dataclass(frozen=True, kw_only=True)
class RandomResizedCrop:
    """Cut out a random rectangle and resize it to the input size (Szegedy et al. 2014, arXiv 1409.4842, section 6).

    Its area is a share of the image's, its aspect ratio (width : height) log-uniform. As in torchvision ten rectangles
    are tried; if none lies inside the image, the largest middle one of an allowed ratio is taken.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= 1 or not 0 < self.ratio[0] <= self.ratio[1]:
            raise InvalidArgument(
                f"crop scale {self.scale} and ratio {self.ratio}: give rising pairs, scale within 0–1"
            )


@dataclass(frozen=True, kw_only=True)
class PadAndCrop:
    """Pad all sides by `share` of them and cut the input size out of that at random.

    He et al. 2015 (arXiv 1512.03385, section 4.2): 4 black pixels around CIFAR's 32. `mode` has numpy's names.
    """

    share: float = 1 / 8
    mode: PaddingMode = "constant"
    flip: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise InvalidArgument(f"padding share {self.share} is not between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class Unaugmented:
    """Every epoch sees the same pixels."""


Policy = RandomResizedCrop | PadAndCrop | Unaugmented

_BY_THE_BATCH = (ColourJitter, RandomGreyscale)
"""policies that change all images of a batch at once"""

ByChance = Callable[[Tensor, Tensor], Tensor]
"""uint8 images `N,h,w,C` and float64 numbers `N,columns` on the same device → uint8 images of the same shape"""


def policy_for(
    size: tuple[int, int], *, kind: Literal["auto", "photo", "small", "none"] = "auto", flip: bool = True
) -> Policy:
    """The usual policy for inputs of `size` (height, width).

    >>> policy_for((32, 32))
    PadAndCrop(share=0.125, mode='constant', flip=True)
    >>> policy_for((224, 224), flip=False).scale
    (0.08, 1.0)
    """
    if kind == "none":
        return Unaugmented()
    if kind == "small" or (kind == "auto" and max(size) <= SMALL_IMAGE):
        return PadAndCrop(flip=flip)
    return RandomResizedCrop(flip=flip)


def train_transform(policy: Policy, preprocess: Preprocess, then: Sequence[PixelPolicy] = ()) -> Transform:
    """The policy for inputs of this preprocessing's size and interpolation, and what is done to the pixels `then`."""
    match policy:
        case RandomResizedCrop():
            cut: Transform = _CropTransform(policy, preprocess)
        case PadAndCrop():
            cut = _ShiftTransform(policy, preprocess)
        case Unaugmented():
            cut = EvalTransform(preprocess)
    return _Chain(cut, tuple(then), mean_colour(preprocess)) if then else cut


def on_any_device(transform: Transform) -> ByChance | None:
    """What a transform of `train_transform` does by chance, for images that are of its size and wherever they are.

    None where that takes a processor: random resized crops, and all that is not done by the batch.
    """
    if isinstance(transform, _ShiftTransform):
        return transform.shift
    if isinstance(transform, _Chain) and isinstance(transform.cut, _ShiftTransform) and transform.on_any_device:
        shift, columns = transform.cut.shift, transform.cut.columns
        return lambda images, numbers: transform.change(shift(images, numbers[:, :columns]), numbers)
    return None


@final
class _Chain:
    """A cut, then policies that change pixels; each has columns of its own, so that one changes no other's choice."""

    def __init__(self, cut: Transform, then: tuple[PixelPolicy, ...], fill: tuple[int, ...]) -> None:
        self.cut, self._fill = cut, fill
        ends = np.cumsum([cut.columns, *(policy.columns for policy in then)]).tolist()
        self._policies = [*zip(then, map(slice, ends, ends[1:]), strict=False)]
        self.columns = ends[-1]
        self.size = cut.size

    def __call__(self, pixels: Pixels, numbers: Numbers) -> Tensor:
        image = self.cut(pixels, numbers[: self.cut.columns])
        changed: Pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        for policy, columns in self._policies:
            changed = policy.apply(changed, numbers[columns], self._fill)
        return as_images(changed)[0]

    def batch(self, pixels: Pixels, numbers: Numbers) -> Tensor:
        images = self.cut.batch(pixels, numbers[:, : self.cut.columns]).permute(0, 2, 3, 1).contiguous()
        return self.change(images, torch.from_numpy(numbers)).permute(0, 3, 1, 2)

    @property
    def on_any_device(self) -> bool:
        return all(isinstance(policy, _BY_THE_BATCH) and policy.on_any_device for policy, _ in self._policies)

    def change(self, images: Tensor, numbers: Tensor) -> Tensor:
        """uint8 images `N,h,w,C` and float64 numbers → the same shape; on any device if `on_any_device`."""
        for policy, columns in self._policies:
            theirs = numbers[:, columns]
            if isinstance(policy, _BY_THE_BATCH):
                images = policy.batch(images, theirs)
            else:
                each = zip(images.numpy(), theirs.numpy(), strict=True)
                images = torch.from_numpy(np.stack([policy.apply(*pair, self._fill) for pair in each]))
        return images


@final
class _CropTransform:
    columns = NUMBERS + 1

    def __init__(self, policy: RandomResizedCrop, preprocess: Preprocess) -> None:
        self.policy = policy
        self.size = preprocess.size
        self._interpolation = preprocess.interpolation

    def __call__(self, pixels: Pixels, numbers: Numbers) -> Tensor:
        top, left, height, width = crop_box(pixels.shape[0], pixels.shape[1], self.policy, numbers)
        # The cut is a view: its pixels are read once, by the resize.
        cut = as_images(pixels)[:, :, top : top + height, left : left + width]
        resized = resize(cut, self.size, self._interpolation)[0]
        return resized.flip(-1) if self.policy.flip and numbers[-1] < 0.5 else resized

    def batch(self, pixels: Pixels, numbers: Numbers) -> Tensor:
        return torch.stack([self(*pair) for pair in zip(pixels, numbers, strict=True)])


def crop_box(height: int, width: int, policy: RandomResizedCrop, numbers: Numbers) -> tuple[int, int, int, int]:
    """Top, left, height, width of the rectangle that 22 numbers choose in an image of `height` × `width`."""
    box = rectangle(height, width, policy.scale, policy.ratio, numbers)
    if box is not None:
        return box
    ratio = min(max(width / height, policy.ratio[0]), policy.ratio[1])
    w, h = min(width, max(1, round(height * ratio))), min(height, max(1, round(width / ratio)))
    return (height - h) // 2, (width - w) // 2, h, w


@final
class _ShiftTransform:
    """Works on whole batches: one gather of pixels, shifted and mirrored by their indices."""

    columns = 3

    def __init__(self, policy: PadAndCrop, preprocess: Preprocess) -> None:
        self.policy = policy
        self.size = preprocess.size
        self._resize = EvalTransform(preprocess)

    def __call__(self, pixels: Pixels, numbers: Numbers) -> Tensor:
        return self.batch(pixels[None], numbers[None])[0]

    def batch(self, pixels: Pixels, numbers: Numbers) -> Tensor:
        images = self._resize.batch(pixels).permute(0, 2, 3, 1)
        return self.shift(images, torch.from_numpy(numbers)).permute(0, 3, 1, 2)

    def shift(self, images: Tensor, numbers: Tensor) -> Tensor:
        """uint8 images `N,h,w,C` of the input's size and float64 numbers, both on any device → the same shape."""
        n, height, width, channels = images.shape
        pad_y, pad_x = (max(1, round(self.policy.share * side)) if self.policy.share else 0 for side in self.size)
        top, left = (numbers[:, 0] * (2 * pad_y + 1)).long(), (numbers[:, 1] * (2 * pad_x + 1)).long()
        every, down, across = (torch.arange(count, device=images.device) for count in (n, height, width))
        columns = across.expand(n, -1)
        if self.policy.flip:
            columns = torch.where(numbers[:, 2:3] < 0.5, columns.flip(1), columns)
        rows, columns = top[:, None] + down, left[:, None] + columns  # of the padded images
        if self.policy.mode == "constant":
            images = F.pad(images, (0, 0, pad_x, pad_x, pad_y, pad_y))
        else:
            rows, columns = self._inside(height, pad_y, rows), self._inside(width, pad_x, columns)
        rows += every[:, None] * images.shape[1]
        which = rows[:, :, None] * images.shape[2] + columns[:, None, :]
        return images.reshape(-1, channels).index_select(0, which.flatten()).view(n, height, width, channels)

    def _inside(self, side: int, pad: int, places: Tensor) -> Tensor:
        """Which pixel of an image's `side` stands at these places of the padded one."""
        assert self.policy.mode != "constant"
        return torch.from_numpy(np.pad(np.arange(side), pad, mode=self.policy.mode)).to(places.device)[places]
