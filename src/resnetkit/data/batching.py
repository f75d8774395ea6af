"""Batches prepared ahead by threads, piece by piece: the one path on which images become a network's input.

Threads, not processes: decoding and resizing let go of the interpreter lock, nothing is pickled or copied between
processes, and nothing is left behind when training stops.
"""

import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Protocol, final

import numpy as np
import torch
from torch import Tensor

from resnetkit.data.ahead import map_ahead
from resnetkit.data.decode import Channels, Pixels
from resnetkit.data.randomness import uniform
from resnetkit.data.sources import ArraySource, Indices, Labels, Targets, taken
from resnetkit.data.transforms import Transform
from resnetkit.errors import DataError, ResnetkitError

_PIECE = 8  # images a thread prepares at a time: few enough to share out a batch, enough to be worth the hand-over
_BATCHES_AHEAD = 2


@dataclass(frozen=True)
class Batch:
    """uint8 images `N,C,H,W` in channels-last memory, int64 classes `N`, their indices in the source `N`."""

    images: Tensor
    labels: Tensor
    indices: Indices
    """of a stream's images their positions in the epoch"""
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


class Pictures(Protocol):
    """What a batch is made from: a whole source, or as many images of a stream as the batch takes."""

    @property
    def labels(self) -> Labels:
        """Classes."""

    @property
    def targets(self) -> Targets | None:
        """As `Source.targets`."""

    @property
    def channels(self) -> Channels:
        """1 for grey, 3 for RGB."""

    def image(self, index: int) -> Pixels:
        """Pixels `H,W,channels`."""

    def name(self, index: int) -> str:
        """What people call it."""


@final
class Work:
    """One batch to be prepared: `indices` of `pictures`, whose random numbers are those from position `start` on.

    `whole` is the number of images of the batch of which these are one process's share; `counted_from` is added to the
    indices that the batch tells.
    """

    def __init__(
        self, pictures: Pictures, transform: Transform, indices: Indices,
        *, seed: int, epoch: int, start: int, whole: int, counted_from: int = 0,
    ) -> None:  # fmt: skip
        self._pictures, self._transform, self._indices = pictures, transform, indices
        self._whole, self._counted_from = whole, counted_from
        self._numbers = uniform(
            "augment", seed, epoch, start=start, count=len(indices), columns=transform.columns
        )  # fmt: skip
        shape = (len(indices), pictures.channels, *transform.size)
        self._images = torch.empty(shape, dtype=torch.uint8, memory_format=torch.channels_last)

    def __len__(self) -> int:
        return len(self._indices)

    def pieces(self) -> list[slice]:
        """What threads can do at the same time, in order."""
        n = len(self)
        step = max(1, n) if isinstance(self._pictures, ArraySource) else _PIECE
        return [slice(start, start + step) for start in range(0, max(1, n), step)]

    def prepare(self, piece: slice) -> None:
        """Fill the images of `piece`."""
        pictures = self._pictures
        if isinstance(pictures, ArraySource):
            self._images[piece] = self._transform.batch(pictures.gather(self._indices[piece]), self._numbers[piece])
            return
        for slot in range(*piece.indices(len(self))):
            index = int(self._indices[slot])
            try:
                self._images[slot] = self._transform(pictures.image(index), self._numbers[slot])
            except ResnetkitError:
                raise
            except Exception as error:
                raise DataError(f"{pictures.name(index)}: {type(error).__name__}: {error}") from error

    def batch(self, waited: float) -> Batch:
        """The prepared batch."""
        labels, targets = (
            torch.from_numpy(self._pictures.labels[self._indices]), taken(self._pictures.targets, self._indices)
        )  # fmt: skip
        several = None if targets is None else torch.from_numpy(targets.astype(np.float32))
        return Batch(self._images, labels, self._indices + self._counted_from, waited, self._whole, several)


def prepared(works: Iterable[Work], batch_size: int, workers: int) -> Generator[Batch, None, None]:
    """The batches of `works`, some of them prepared by `workers` threads before they are asked for."""
    pieces = ((work, piece) for work in works for piece in work.pieces())
    ahead = _BATCHES_AHEAD * -(-batch_size // _PIECE)
    begun = time.perf_counter()
    for work, piece in map_ahead(_prepare, pieces, workers=workers, ahead=ahead):
        if piece.stop >= len(work):
            yield work.batch(waited=time.perf_counter() - begun)
            begun = time.perf_counter()


def share_of(n: int, share: tuple[int, int]) -> slice:
    """Which of a batch's `n` images one process prepares, `share` being its rank and the number of processes."""
    which, of = share
    return slice(n * which // of, n * (which + 1) // of)


def images_an_epoch(n: int, batch_size: int, *, training: bool) -> int:
    """All `n`, but that training drops a last batch of one image: batch norm has no variance to divide by."""
    return n - 1 if training and batch_size > 1 and n % batch_size == 1 else n


def _prepare(job: tuple[Work, slice]) -> tuple[Work, slice]:
    work, piece = job
    work.prepare(piece)
    return job
