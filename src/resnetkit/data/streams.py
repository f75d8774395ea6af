"""Labelled images that are iterated over, not indexed: any Python iterable; later a hub's stream or tar shards.

A stream becomes batches on the same path as an indexed source, and the training loop takes them. What needs an index
stays with `Source`: finding broken files and copies beforehand, holding out a part, balancing.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, final

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.batching import Batch, Work, images_an_epoch, prepared, share_of
from resnetkit.data.decode import Channels, Pixels, decode, to_channels
from resnetkit.data.sources import Labelled, Labels, Targets
from resnetkit.data.transforms import Transform
from resnetkit.errors import DataError, InvalidArgument, UndecodableImage

Example = tuple[Pixels | bytes, int]
"""uint8 pixels `H,W,C`, or the bytes of an image file, which a worker decodes; and the class, 0 … num_classes-1"""


class Stream(Labelled, Protocol):
    """`len(stream)` images an epoch. Their order is the stream's own matter, and the same each time for an epoch."""

    def examples(self, epoch: int) -> Iterable[Example]:
        """The images of an epoch; at least `len(self)` of them."""


@final
@dataclass(frozen=True, eq=False)
class IterableStream:
    """Any Python iterable: `examples_of` gives that of an epoch, such as `lambda epoch: shuffled(pairs, epoch)`."""

    examples_of: Callable[[int], Iterable[Example]]
    length: int
    num_classes: int
    class_names: tuple[str, ...] | None = None
    channels: Channels = 3

    def __len__(self) -> int:
        return self.length

    def examples(self, epoch: int) -> Iterable[Example]:
        """The images of an epoch."""
        return self.examples_of(epoch)


@final
class StreamLoader:
    """Batches of a stream, with all that `loader.Loader` promises but the order, which is the stream's.

    With a `seed` (training) what chance does to an image is a function of seed, epoch and position; an epoch that is
    resumed passes over the images before `start_step` without decoding them. `share` and `workers` are as there.
    """

    begins: Sequence[float] = (0.0,)
    class_images: NDArray[np.int64] | None = None
    """known only when an epoch is over"""

    def __init__(
        self, stream: Stream, transform: Transform, batch_size: int,
        *, seed: int | None = None, share: tuple[int, int] = (0, 1), workers: int = 1,
    ) -> None:  # fmt: skip
        if batch_size < 1 or workers < 0:
            raise InvalidArgument(f"batch size {batch_size} and {workers} workers: at least 1, and at least 0")
        self.stream, self.transform, self.batch_size = stream, transform, batch_size
        self.seed, self.share, self.workers = seed, share, workers

    @property
    def images(self) -> int:
        """Images an epoch."""
        return len(self.stream)

    def __len__(self) -> int:
        """Batches an epoch."""
        return -(-self._used() // self.batch_size)

    def name(self, index: int) -> str:
        """A stream's image has no name but its place in the epoch, counted from 1."""
        return _name(index)

    def batches(self, epoch: int = 0, start_step: int = 0, progress: float = 0.0) -> Generator[Batch, None, None]:
        """The batches of `epoch` from `start_step` on; close the iterator to stop its threads early."""
        yield from prepared(self._works(epoch, start_step), self.batch_size, self.workers)

    def _works(self, epoch: int, start_step: int) -> Iterator[Work]:
        examples = iter(self.stream.examples(epoch))
        begin = start_step * self.batch_size
        passed_over = sum(1 for _ in islice(examples, begin))
        for start in range(begin, self._used(), self.batch_size):
            wanted = min(self.batch_size, self._used() - start)
            held = list(islice(examples, wanted))
            if passed_over < begin or len(held) < wanted:
                raise DataError(
                    f"the stream ended after {passed_over + start - begin + len(held)} of the {len(self.stream)} "
                    f"images that it promised for epoch {epoch + 1}"
                )
            own = share_of(wanted, self.share)
            first = start + own.start
            yield Work(
                _Held(held[own], first, self.stream), self.transform, np.arange(own.stop - own.start),
                seed=self.seed or 0, epoch=epoch, start=first, whole=wanted, counted_from=first,
            )  # fmt: skip

    def _used(self) -> int:
        return images_an_epoch(len(self.stream), self.batch_size, training=self.seed is not None)


@final
class _Held:
    """The images of one batch, taken from a stream and not yet decoded."""

    targets: Targets | None = None

    def __init__(self, examples: Sequence[Example], first: int, stream: Stream) -> None:
        self._images = [image for image, _ in examples]
        self._first = first
        self.channels: Channels = stream.channels
        self.labels: Labels = np.array([label for _, label in examples], np.int64)
        for index, label in enumerate(self.labels):
            if not 0 <= label < stream.num_classes:
                raise DataError(f"{self.name(index)} has class {label}: there are {stream.num_classes}, from 0")

    def image(self, index: int) -> Pixels:
        """Decoded, if it is not yet."""
        image = self._images[index]
        if not isinstance(image, bytes):
            return to_channels(image, self.channels)
        try:
            return decode(image, self.channels)
        except UndecodableImage as error:
            raise UndecodableImage(f"{self.name(index)}: {error}") from error

    def name(self, index: int) -> str:
        """Its place in the epoch."""
        return _name(self._first + index)


def _name(position: int) -> str:
    return f"image {position + 1} of the stream"
