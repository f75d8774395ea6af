"""Batches of a source: addressed order, addressed augmentation, prepared ahead by threads.

Threads, not processes: decoding and resizing let go of the interpreter lock, nothing is pickled or copied between
processes, and nothing is left behind when training stops.
"""

import os
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from resnetkit.data.ahead import map_ahead
from resnetkit.data.randomness import permutation, uniform
from resnetkit.data.sources import ArraySource, Indices, Source
from resnetkit.data.transforms import Transform
from resnetkit.errors import DataError, InvalidArgument, ResnetkitError

_PIECE = 8  # images a thread prepares at a time: few enough to share out a batch, enough to be worth the hand-over
_BATCHES_AHEAD = 2


@dataclass(frozen=True)
class Batch:
    """uint8 images `N,C,H,W` in channels-last memory, int64 classes `N`, their indices in the source `N`."""

    images: Tensor
    labels: Tensor
    indices: Indices
    waited: float
    """seconds the consumer waited for this batch"""


@final
class Loader:
    """Batches of `batch_size` images; the last one is shorter, except that training drops a last batch of one.

    With `shuffle_seed` (training) the order of an epoch is a function of the seed and the epoch, and a sample's random
    numbers of seed, epoch and its position in that order: batches are the same bytes for any number of workers and
    from any step on. A last batch of one image is dropped then, as batch norm has no variance to divide by. Without a
    seed (evaluation) every image comes once, in the source's order.

    `workers` threads prepare batches ahead (default: one a core, at most 8; none for images in memory, which are
    prepared as whole batches when asked for).
    """

    def __init__(
        self,
        source: Source,
        transform: Transform,
        batch_size: int,
        *,
        shuffle_seed: int | None = None,
        workers: int | None = None,
    ) -> None:
        if batch_size < 1:
            raise InvalidArgument(f"batch size {batch_size}: it must be at least 1")
        if workers is not None and workers < 0:
            raise InvalidArgument(f"{workers} workers: use 0 for none, or a positive number of threads")
        self.source = source
        self.transform = transform
        self.batch_size = batch_size
        self.shuffle_seed = shuffle_seed
        self.workers = default_workers(source) if workers is None else workers

    def __len__(self) -> int:
        """Batches an epoch."""
        return -(-self._images_an_epoch() // self.batch_size)

    def batches(self, epoch: int = 0, start_step: int = 0) -> Generator[Batch, None, None]:
        """The batches of `epoch` from `start_step` on; close the iterator to stop its threads early."""
        order = self._order(epoch)[: self._images_an_epoch()]
        starts = range(start_step * self.batch_size, len(order), self.batch_size)
        works = (_Work(self, epoch, start, order[start : start + self.batch_size]) for start in starts)
        pieces = ((work, piece) for work in works for piece in work.pieces())
        ahead = _BATCHES_AHEAD * -(-self.batch_size // _PIECE)
        begun = time.perf_counter()
        for work, piece in map_ahead(_prepare, pieces, workers=self.workers, ahead=ahead):
            if piece.stop >= len(work.indices):
                yield work.batch(waited=time.perf_counter() - begun)
                begun = time.perf_counter()

    def _images_an_epoch(self) -> int:
        n = len(self.source)
        alone = n % self.batch_size == 1 and self.batch_size > 1 and self.shuffle_seed is not None
        return n - 1 if alone else n

    def _order(self, epoch: int) -> Indices:
        n = len(self.source)
        return np.arange(n) if self.shuffle_seed is None else permutation("order", self.shuffle_seed, epoch, n)


def default_workers(source: Source) -> int:
    """Threads that suit a source on this machine."""
    return 0 if isinstance(source, ArraySource) else min(8, len(os.sched_getaffinity(0)))


@final
class _Work:
    """One batch to be prepared piece by piece."""

    def __init__(self, loader: Loader, epoch: int, start: int, indices: Indices) -> None:
        self.source, self.transform, self.indices = loader.source, loader.transform, indices
        self.numbers = uniform(
            "augment", loader.shuffle_seed or 0, epoch, start=start, count=len(indices), columns=self.transform.columns
        )
        shape = (len(indices), self.source.channels, *self.transform.size)
        self.images = torch.empty(shape, dtype=torch.uint8, memory_format=torch.channels_last)

    def pieces(self) -> list[slice]:
        n = len(self.indices)
        step = n if isinstance(self.source, ArraySource) else _PIECE
        return [slice(start, start + step) for start in range(0, n, step)]

    def prepare(self, piece: slice) -> None:
        """Fill `images[piece]`."""
        if isinstance(self.source, ArraySource):
            self.images[piece] = self.transform.batch(self.source.gather(self.indices[piece]), self.numbers[piece])
            return
        for slot in range(*piece.indices(len(self.indices))):
            index = int(self.indices[slot])
            try:
                self.images[slot] = self.transform(self.source.image(index), self.numbers[slot])
            except ResnetkitError:
                raise
            except Exception as error:
                raise DataError(f"{self.source.name(index)}: {type(error).__name__}: {error}") from error

    def batch(self, waited: float) -> Batch:
        return Batch(self.images, torch.from_numpy(self.source.labels[self.indices]), self.indices, waited)


def _prepare(job: tuple[_Work, slice]) -> tuple[_Work, slice]:
    work, piece = job
    work.prepare(piece)
    return job
