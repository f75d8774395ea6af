"""Small images that live on a GPU: shifted, mirrored and coloured there, many batches at a time.

A network for 32 pixels takes an image in less time there than a processor needs to cut it out. The bytes are those of
`Loader`: the same order, the same numbers by chance, and operations that round alike on every device.
"""

from collections.abc import Generator
from typing import final

import numpy as np
import torch

from resnetkit.data.augmentation import on_any_device
from resnetkit.data.batching import Batch, share_of
from resnetkit.data.loader import Loader
from resnetkit.data.randomness import uniform
from resnetkit.data.sources import ArraySource
from resnetkit.data.transforms import EvalTransform

_AT_A_TIME = 8192  # images: enough for a GPU, and at 32 pixels in colour 100 MB in float32
_SHARE = 0.25  # of the free memory


@final
class ResidentLoader:
    """The batches of a training `Loader` whose images, at their size in training, are on a device."""

    def __init__(self, loader: Loader, fitted: EvalTransform, device: torch.device) -> None:
        chance = on_any_device(loader.transform)
        if chance is None or not isinstance(loader.source, ArraySource) or loader.shuffle_seed is None:
            raise TypeError(f"{loader.transform} of {loader.source}: not for a device")
        self.source = loader.source
        self._loader, self._chance, self._device = loader, chance, device
        everything = np.arange(len(loader.source))
        self._images = fitted.batch(loader.source.gather(everything)).permute(0, 2, 3, 1).to(device)
        self._labels = torch.from_numpy(loader.source.labels).to(device)

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self._loader)

    def batches(self, epoch: int = 0, start_step: int = 0) -> Generator[Batch, None, None]:
        """As those of the `Loader`, but on the device."""
        loader, order = self._loader, self._loader.order(epoch)
        size = loader.batch_size
        several = size * max(1, _AT_A_TIME // size)
        for start in range(start_step * size, len(order), several):
            part = order[start : start + several]
            numbers = uniform(
                "augment", loader.shuffle_seed or 0, epoch,
                start=start, count=len(part), columns=loader.transform.columns,
            )  # fmt: skip
            which = torch.from_numpy(part).to(self._device)
            images = self._chance(self._images[which], torch.from_numpy(numbers).to(self._device))
            for first in range(0, len(part), size):
                whole = part[first : first + size]
                own = share_of(len(whole), loader.share)
                mine = slice(first + own.start, first + own.stop)
                yield Batch(
                    images[mine].permute(0, 3, 1, 2), self._labels[which[mine]], whole[own],
                    waited=0.0, whole=len(whole),
                )  # fmt: skip


def fits(loader: Loader, device: torch.device) -> bool:
    """Whether the loader's images can be held on this device, and its augmentation be done there."""
    if device.type != "cuda" or not isinstance(loader.source, ArraySource) or loader.source.targets is not None:
        return False
    height, width = loader.transform.size
    size = len(loader.source) * height * width * loader.source.channels
    return on_any_device(loader.transform) is not None and size < _SHARE * torch.cuda.mem_get_info(device)[0]
