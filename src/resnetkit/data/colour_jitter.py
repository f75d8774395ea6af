"""Random brightness, contrast, saturation and hue: of a photo by Pillow, of a batch of small images all at once."""

from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from torch import Tensor

from resnetkit.data.decode import Pixels
from resnetkit.data.greyscale import grey
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

    @property
    def on_any_device(self) -> bool:
        """Whether `batch` takes tensors of a GPU as well."""
        return not self.hue

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

    def batch(self, images: Tensor, numbers: Tensor) -> Tensor:
        """uint8 images `N,H,W,C` and float64 numbers → what `apply` makes of each, to the last bit.

        On any device, for 32×32 in a sixth of its time; where the hue turns too, on the processor and one by one.
        """
        if self.hue:
            each = zip(images.numpy(), numbers.numpy(), strict=True)
            return torch.from_numpy(np.stack([self.apply(*pair, ()) for pair in each]))
        most = numbers.new_tensor((self.brightness, self.contrast, self.saturation))
        factors = (1 + (2 * numbers[:, :3] - 1) * most).float()
        orders = torch.tensor(_ORDERS, device=images.device)[(numbers[:, 4] * len(_ORDERS)).long()]
        changed = images.float()
        for turn in orders.T:
            for change, away_from in enumerate((_black, _mean_grey, grey)):
                chosen = (turn == change).nonzero()[:, 0]
                image, factor = changed[chosen], factors[chosen, change, None, None, None]
                still = away_from(image)
                changed[chosen] = torch.floor(torch.clamp(still + factor * (image - still), 0, 255))
        return changed.to(torch.uint8)


# Of float32 images `N,H,W,C` that hold whole numbers 0 … 255.


def _black(images: Tensor) -> Tensor:
    return images.new_zeros(())


def _mean_grey(images: Tensor) -> Tensor:
    """`N,1,1,1`, the mean rounded."""
    return torch.floor(grey(images).double().mean((1, 2, 3), keepdim=True) + 0.5).float()
