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
from resnetkit.data.decode import Pixels
from resnetkit.data.randomness import permutation, uniform
from resnetkit.data.sources import ArraySource, Indices, Source, Weights, taken
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
    whole: int
    """images of the whole batch, of which these are one process's share"""
    targets: Tensor | None = None
    """float32 `N,num_classes` of 0 and 1 where an image may have several classes"""

    @property
    def pixels(self) -> Pixels:
        """The images as `N,h,w,C`, without copying them: what a `Classifier` takes."""
        pixels: Pixels = self.images.permute(0, 2, 3, 1).numpy()
        return pixels


@final
class Loader:
    """Batches of `batch_size` images; the last one is shorter, except that training drops a last batch of one.

    With `shuffle_seed` (training) the order of an epoch is a function of the seed and the epoch, and a sample's random
    numbers of seed, epoch and its position in that order: batches are the same bytes for any number of workers and
    from any step on. A last batch of one image is dropped then, as batch norm has no variance to divide by. Without a
    seed (evaluation) every image comes once, in the source's order.

    `weights` (training only) draw images in proportion, with replacement and as evenly as chance allows, instead of
    each once. `repeats` (training only) puts each image of a batch in it that many times, augmented differently, and
    passes over so many fewer images an epoch (Hoffer et al. 2019, arXiv 1901.09335; with an epoch as long as before,
    as in Touvron et al. 2020, arXiv 2012.12877).

    `share` is this process and the number of processes: each prepares its part of every batch, in the order of the
    whole, and an empty one where a last batch has fewer images than there are processes.

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
        weights: Weights | None = None,
        repeats: int = 1,
        share: tuple[int, int] = (0, 1),
        workers: int | None = None,
    ) -> None:
        if batch_size < 1:
            raise InvalidArgument(f"batch size {batch_size}: it must be at least 1")
        if workers is not None and workers < 0:
            raise InvalidArgument(f"{workers} workers: use 0 for none, or a positive number of threads")
        if repeats < 1:
            raise InvalidArgument(f"{repeats} repeats: an image comes at least once")
        if shuffle_seed is None and (weights is not None or repeats > 1):
            raise InvalidArgument("weights and repeats change the order of training, which needs a shuffle_seed")
        if weights is not None and not (weights.shape == (len(source),) and weights.min() >= 0 and weights.sum() > 0):
            raise InvalidArgument(f"weights of shape {weights.shape} for {len(source)} images: one each, none below 0")
        self.source = source
        self.transform = transform
        self.batch_size = batch_size
        self.shuffle_seed = shuffle_seed
        self.weights = weights
        self.repeats = repeats
        self.share = share
        self.workers = default_workers(source) if workers is None else workers

    def __len__(self) -> int:
        """Batches an epoch."""
        return -(-self._images_an_epoch() // self.batch_size)

    def batches(self, epoch: int = 0, start_step: int = 0) -> Generator[Batch, None, None]:
        """The batches of `epoch` from `start_step` on; close the iterator to stop its threads early."""
        order = self._order(epoch)[: self._images_an_epoch()]
        starts = range(start_step * self.batch_size, len(order), self.batch_size)
        works = (self._share_of(epoch, start, order[start : start + self.batch_size]) for start in starts)
        pieces = ((work, piece) for work in works for piece in work.pieces())
        ahead = _BATCHES_AHEAD * -(-self.batch_size // _PIECE)
        begun = time.perf_counter()
        for work, piece in map_ahead(_prepare, pieces, workers=self.workers, ahead=ahead):
            if piece.stop >= len(work.indices):
                yield work.batch(waited=time.perf_counter() - begun)
                begun = time.perf_counter()

    def _share_of(self, epoch: int, start: int, indices: Indices) -> "_Work":
        which, of = self.share
        first, last = len(indices) * which // of, len(indices) * (which + 1) // of
        return _Work(self, epoch, start + first, indices[first:last], whole=len(indices))

    def _images_an_epoch(self) -> int:
        n = len(self.source)
        alone = n % self.batch_size == 1 and self.batch_size > 1 and self.shuffle_seed is not None
        return n - 1 if alone else n

    def _order(self, epoch: int) -> Indices:
        n = len(self.source)
        if self.shuffle_seed is None:
            return np.arange(n)
        order = permutation("order", self.shuffle_seed, epoch, n)
        if self.weights is not None:
            order = _drawn(self.weights, self.shuffle_seed, epoch)[order]
        if self.repeats > 1:
            order = np.repeat(order[: -(-n // self.repeats)], self.repeats)[:n]
        return order


def _drawn(weights: Weights, seed: int, epoch: int) -> Indices:
    """As many indices as there are weights, in rising order, each in proportion to its weight.

    One number falls into each of N equal parts of the whole weight, so that an image comes as often as it should, or
    one less or more, and not as unevenly as independent draws would have it.
    """
    n = len(weights)
    places = (np.arange(n) + uniform("draw", seed, epoch, count=n)[:, 0]) / n
    places = np.minimum(places, np.nextafter(1.0, 0.0))
    ends = np.cumsum(weights)
    return np.searchsorted(ends / ends[-1], places, side="right").astype(np.int64)


def default_workers(source: Source) -> int:
    """Threads that suit a source on this machine."""
    return 0 if isinstance(source, ArraySource) else min(8, len(os.sched_getaffinity(0)))


@final
class _Work:
    """One batch to be prepared piece by piece."""

    def __init__(self, loader: Loader, epoch: int, start: int, indices: Indices, whole: int) -> None:
        self.source, self.transform, self.indices, self.whole = loader.source, loader.transform, indices, whole
        self.numbers = uniform(
            "augment", loader.shuffle_seed or 0, epoch, start=start, count=len(indices), columns=self.transform.columns
        )
        shape = (len(indices), self.source.channels, *self.transform.size)
        self.images = torch.empty(shape, dtype=torch.uint8, memory_format=torch.channels_last)

    def pieces(self) -> list[slice]:
        n = len(self.indices)
        step = max(1, n) if isinstance(self.source, ArraySource) else _PIECE
        return [slice(start, start + step) for start in range(0, max(1, n), step)]

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
        labels, targets = torch.from_numpy(self.source.labels[self.indices]), taken(self.source.targets, self.indices)
        several = None if targets is None else torch.from_numpy(targets.astype(np.float32))
        return Batch(self.images, labels, self.indices, waited, self.whole, several)


def _prepare(job: tuple[_Work, slice]) -> tuple[_Work, slice]:
    work, piece = job
    work.prepare(piece)
    return job
