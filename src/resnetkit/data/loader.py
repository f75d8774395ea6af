"""Batches of an indexed source: addressed order, addressed augmentation."""

from collections.abc import Generator, Iterator
from typing import final

import numpy as np

from resnetkit.cores import preparing_threads
from resnetkit.data.batching import Batch, Work, images_an_epoch, prepared, share_of
from resnetkit.data.randomness import permutation, uniform
from resnetkit.data.sources import ArraySource, Indices, Source, Weights
from resnetkit.data.transforms import Transform
from resnetkit.errors import InvalidArgument


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
        yield from prepared(self._works(epoch, start_step), self.batch_size, self.workers)

    def _works(self, epoch: int, start_step: int) -> Iterator[Work]:
        order = self.order(epoch)
        for start in range(start_step * self.batch_size, len(order), self.batch_size):
            whole = order[start : start + self.batch_size]
            own = share_of(len(whole), self.share)
            yield Work(
                self.source, self.transform, whole[own],
                seed=self.shuffle_seed or 0, epoch=epoch, start=start + own.start, whole=len(whole),
            )  # fmt: skip

    def _images_an_epoch(self) -> int:
        return images_an_epoch(len(self.source), self.batch_size, training=self.shuffle_seed is not None)

    def order(self, epoch: int) -> Indices:
        """The images of an epoch, as indices of the source."""
        n = len(self.source)
        if self.shuffle_seed is None:
            return np.arange(n)
        order = permutation("order", self.shuffle_seed, epoch, n)
        if self.weights is not None:
            order = _drawn(self.weights, self.shuffle_seed, epoch)[order]
        if self.repeats > 1:
            order = np.repeat(order[: -(-n // self.repeats)], self.repeats)[:n]
        return order[: self._images_an_epoch()]


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
    return 0 if isinstance(source, ArraySource) else preparing_threads()
