"""Every image of a source looked at once: whether it can be decoded, what is odd about it, and what it looks like."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

from resnetkit.catalog.preprocessing import Normalisation
from resnetkit.data.ahead import map_ahead
from resnetkit.data.decode import Pixels, decode, read_whole, reading_failed
from resnetkit.data.duplicates import Likeness, likeness
from resnetkit.data.headers import Trait, traits_of
from resnetkit.data.loader import default_workers
from resnetkit.data.perceptual import LEAST_SIDE, THUMB, Sketches
from resnetkit.data.sources import ArraySource, FileSource, Source
from resnetkit.errors import UndecodableImage

Fault = Literal["empty", "truncated", "missing", "bomb", "undecodable"]

_SAMPLED = 32  # rows and columns of pixels that mean and std are taken from
_PIECE = 256  # images in memory that are sketched at once


@final
@dataclass(frozen=True, slots=True)
class Look:
    """What one image is like; where it has a `fault`, only that and its `reason` mean anything."""

    height: int = 0
    width: int = 0
    """in pixels, upright"""
    format: str = ""
    traits: frozenset[Trait] = frozenset()
    digest: bytes = b""
    """equal for equal content"""
    bits: int = 0
    thumb: bytes = bytes(THUMB * THUMB)
    """see `perceptual`"""
    mean: tuple[float, ...] = ()
    square: tuple[float, ...] = ()
    """mean of the values and of their squares, channel by channel, in shares of 1"""
    fault: Fault | None = None
    reason: str = ""


@final
@dataclass(frozen=True, eq=False)
class Inspection:
    """Looks at the images of a source, in its order."""

    looks: Sequence[Look]

    @property
    def whole(self) -> NDArray[np.bool_]:
        """Which images could be decoded."""
        return np.array([look.fault is None for look in self.looks], np.bool_)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Height and width `N,2`; zero where an image could not be decoded."""
        return np.array([(look.height, look.width) for look in self.looks], np.int64).reshape(-1, 2)

    @property
    def formats(self) -> Mapping[str, int]:
        """How many images of each format, the most frequent first."""
        return dict(Counter(look.format for look in self.looks if look.fault is None).most_common())

    def normalisation(self) -> Normalisation | None:
        """Mean and std of the pixels; None without any image."""
        levels = Levels()
        for look in self.looks:
            levels.add(look)
        return levels.normalisation()


@final
class Levels:
    """Mean and std of the pixels of all images, channel by channel, each image counting the same."""

    def __init__(self) -> None:
        self._n = 0
        self._mean: NDArray[np.float64] = np.zeros(())
        self._square: NDArray[np.float64] = np.zeros(())

    def add(self, look: Look) -> None:
        """One more image; what could not be decoded counts for nothing."""
        if look.fault is None:
            self._n += 1
            self._mean = self._mean + look.mean
            self._square = self._square + look.square

    def normalisation(self) -> Normalisation | None:
        """Of the images so far; None without any."""
        if not self._n:
            return None
        mean = self._mean / self._n
        std = np.sqrt(np.maximum(self._square / self._n - mean**2, 0))
        return tuple(mean.round(4).tolist()), tuple(std.round(4).tolist())


@final
class Album:
    """What is needed of `n` images to find the copies among them, in 300 bytes each."""

    def __init__(self, n: int) -> None:
        self._sketches = Sketches(np.zeros(n, np.uint64), np.zeros((n, THUMB, THUMB), np.uint8))
        self._comparable = np.zeros(n, np.bool_)
        self._digests: list[bytes] = []

    def add(self, look: Look) -> None:
        """The next image."""
        row = len(self._digests)
        self._digests.append(look.digest)
        self._sketches.bits[row] = look.bits
        self._sketches.thumbs[row] = np.frombuffer(look.thumb, np.uint8).reshape(THUMB, THUMB)
        self._comparable[row] = look.fault is None and min(look.height, look.width) >= LEAST_SIDE

    def likeness(self) -> Likeness:
        """Of all images that were added."""
        return likeness(self._digests, self._sketches, self._comparable)


def inspect(source: Source, *, workers: int | None = None, progress: Callable[[int], None] | None = None) -> Inspection:
    """Look at all images of a source on `workers` threads; `progress` is called with how many more are done.

    >>> from resnetkit.data.opening import open_data
    >>> inspection = inspect(open_data("digits").split("test"))
    >>> inspection.sizes[0].tolist(), bool(inspection.whole.all()), inspection.normalisation()
    ([8, 8], True, ((0.3052,), (0.3749,)))
    """
    seen = []
    for look in looks(source, workers=workers):
        seen.append(look)
        if progress:
            progress(1)
    return Inspection(seen)


def looks(source: Source, *, workers: int | None = None) -> Iterator[Look]:
    """A look at each image of a source, in its order, prepared ahead by `workers` threads."""
    threads = default_workers(source) if workers is None else workers
    step = _PIECE if isinstance(source, ArraySource) else 1
    pieces = (np.arange(start, min(start + step, len(source))) for start in range(0, len(source), step))
    for piece in map_ahead(partial(_look_at, source), pieces, workers=threads, ahead=64):
        yield from piece


def _look_at(source: Source, indices: NDArray[np.int64]) -> list[Look]:
    if isinstance(source, ArraySource):
        return _seen(source.gather(indices), [("", frozenset())] * len(indices))
    index = int(indices[0])
    try:
        if isinstance(source, FileSource):
            return [_look_at_file(source.path(index), source)]
        return _seen(source.image(index)[None], [("", frozenset())])
    except OSError as error:
        return [Look(fault="missing", reason=reading_failed(error))]
    except UndecodableImage as error:
        return [Look(fault=_fault(str(error)), reason=str(error).removeprefix(f"{source.name(index)}: "))]


def _look_at_file(path: str, source: FileSource) -> Look:
    data = read_whole(path)
    pixels = decode(data, source.channels)
    try:
        header = traits_of(data, path)
    except Exception:  # decoded by another library than Pillow, which cannot read it
        header = ("", frozenset[Trait]())
    return _seen(pixels[None], [header], blake2b(data, digest_size=16).digest())[0]


def _seen(pixels: Pixels, headers: list[tuple[str, frozenset[Trait]]], digest: bytes | None = None) -> list[Look]:
    """Looks at decoded images `N,H,W,C`."""
    sketches = Sketches.of(pixels)
    height, width = pixels.shape[1:3]
    sample = pixels[:, :: max(1, height // _SAMPLED), :: max(1, width // _SAMPLED)].astype(np.float32)
    values = sample.reshape(len(pixels), -1, pixels.shape[3]) / 255
    # Means as products of matrices: with the channels innermost numpy's own would take thrice as long.
    share = np.full(values.shape[1], 1 / values.shape[1], np.float32)
    means, squares = share @ values, share @ (values * values)
    return [
        Look(
            height=height,
            width=width,
            format=headers[row][0],
            traits=headers[row][1] | ({"grey"} if _is_grey(pixels[row]) else frozenset()),
            digest=digest or blake2b(pixels[row].data, digest_size=16).digest(),
            bits=int(sketches.bits[row]),
            thumb=sketches.thumbs[row].tobytes(),
            mean=tuple(means[row].tolist()),
            square=tuple(squares[row].tolist()),
        )
        for row in range(len(pixels))
    ]


def _is_grey(pixels: Pixels) -> bool:
    if pixels.shape[2] == 1:
        return True
    # A few rows tell a colour photo at once; only what looks grey is compared wholly.
    sample = pixels[:: max(1, len(pixels) // 8)]
    return all(bool((part[..., :1] == part).all()) for part in (sample, pixels))


def _fault(reason: str) -> Fault:
    words: Mapping[str, Fault] = {"is empty": "empty", "truncat": "truncated", "bomb": "bomb"}
    return next((fault for word, fault in words.items() if word in reason.lower()), "undecodable")
