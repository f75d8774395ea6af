"""Pictures without their colours, some of them by chance."""

from dataclasses import dataclass

import torch
from torch import Tensor

from resnetkit.data.decode import Pixels, to_channels
from resnetkit.data.transforms import Numbers
from resnetkit.errors import InvalidArgument


@dataclass(frozen=True, kw_only=True)
class RandomGreyscale:
    """A share of the pictures lose their colours (Chen et al. 2020, arXiv 2002.05709, appendix A: 0.2 of them)."""

    share: float

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise InvalidArgument(f"greyscale {self.share}: a share of the pictures is between 0 and 1")

    @property
    def columns(self) -> int:
        """Whether it does."""
        return 1

    @property
    def on_any_device(self) -> bool:
        """Whether `batch` takes tensors of a GPU as well."""
        return True

    def apply(self, pixels: Pixels, numbers: Numbers, fill: tuple[int, ...]) -> Pixels:
        """Pixels `H,W,C` → the same size."""
        return to_channels(to_channels(pixels, 1), pixels.shape[2]) if numbers[0] < self.share else pixels

    def batch(self, images: Tensor, numbers: Tensor) -> Tensor:
        """uint8 images `N,H,W,C` and float64 numbers → what `apply` makes of each, to the last bit."""
        chosen = numbers[:, 0] < self.share
        changed = images.clone()
        changed[chosen] = grey(images[chosen].float()).to(torch.uint8)
        return changed


def grey(images: Tensor) -> Tensor:
    """float32 images `N,H,W,C` of whole numbers 0 … 255 → `N,H,W,1`; ITU-R 601 in Pillow's whole numbers."""
    if images.shape[3] == 1:
        return images
    # In double, where these sums are exact, so that every device rounds alike.
    weighed = images.double() @ images.new_tensor((19595, 38470, 7471), dtype=torch.float64)
    return torch.floor((weighed + 0x8000) / 0x10000)[..., None].float()
