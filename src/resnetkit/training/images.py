"""The images of each epoch: of one size throughout, or growing (progressive resizing)."""

from collections.abc import Callable, Generator, Sequence
from typing import Protocol, final

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.balancing import class_counts
from resnetkit.data.batching import Batch
from resnetkit.data.loader import Loader
from resnetkit.data.resident import ResidentLoader

Batches = Loader | ResidentLoader

Size = tuple[int, int]
"""height, width"""


class TrainingImages(Protocol):
    """Batches by epoch: what the loop knows of a loader, be its images indexed or streamed."""

    @property
    def images(self) -> int:
        """Images an epoch."""

    @property
    def class_images(self) -> NDArray[np.int64] | None:
        """Of each class; None where nobody knows beforehand."""

    @property
    def begins(self) -> Sequence[float]:
        """The shares of the training at which images of another size begin; the first is 0."""

    def __len__(self) -> int:
        """Batches an epoch."""

    def name(self, index: int) -> str:
        """What people call the image of this index in a batch."""

    def batches(self, epoch: int = 0, start_step: int = 0, progress: float = 0.0) -> Generator[Batch, None, None]:
        """The batches of `epoch`, which begins at the share `progress` of the training, from `start_step` on."""


@final
class GrowingImages:
    """Small images first, which teach most of what is to be learnt in less time (progressive resizing).

    Howard 2018 (DAWNBench); Tan and Le 2021 (arXiv 2104.00298). Each loader serves the epochs that begin before its
    share of the training, the last one those after. The order of an epoch does not depend on the size.
    """

    def __init__(self, loader_of: Callable[[Size | None], Batches], sizes: Sequence[tuple[float, Size | None]]) -> None:
        self.begins = tuple(begin for begin, _ in sizes)
        self._loaders = tuple(loader_of(size) for _, size in sizes)

    @property
    def images(self) -> int:
        """Images an epoch."""
        return len(self._loaders[-1].source)

    @property
    def class_images(self) -> NDArray[np.int64]:
        """Of each class."""
        return class_counts(self._loaders[-1].source)

    def name(self, index: int) -> str:
        """As its source says."""
        return self._loaders[-1].source.name(index)

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self._loaders[-1])

    def batches(self, epoch: int = 0, start_step: int = 0, progress: float = 0.0) -> Generator[Batch, None, None]:
        """The batches of `epoch` from `start_step` on, in the size that belongs to `progress`."""
        index = sum(progress >= begin for begin in self.begins) - 1
        return self._loaders[index].batches(epoch, start_step)
