"""Decode once: a file of pixels on disk, mapped into memory and shared by all processes that train on the same images.

Two files in a folder of their own: `pixels`, one image after the other, and `index`, one record an image, written after
its pixels are. A build that was interrupted goes on after the last whole record.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.ahead import map_ahead
from resnetkit.data.decode import Channels, Pixels, printable, reading_failed
from resnetkit.data.loader import default_workers
from resnetkit.data.sources import FileSource, Indices, Labels, Targets, Weights, taken
from resnetkit.data.transforms import as_images, resize
from resnetkit.errors import WriteFailed

_VERSION = 1
_RECORD = np.dtype([("start", "<i8"), ("height", "<i8"), ("width", "<i8")])


@final
@dataclass(frozen=True, eq=False)
class CachedSource:
    """Images of a file source, decoded beforehand: `rows` of a mapped file of pixels."""

    pixels: Pixels
    index: NDArray[np.void]
    """a record an image: where its pixels start, height, width"""
    names: tuple[str, ...]
    labels: Labels
    class_names: tuple[str, ...] | None
    num_classes: int
    channels: Channels
    rows: Indices
    targets: Targets | None = None
    weights: Weights | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def image(self, index: int) -> Pixels:
        """Pixels `H,W,C` (mapped, not read until used)."""
        start, height, width = (int(value) for value in self.index[self.rows[index]])
        return self.pixels[start : start + height * width * self.channels].reshape(height, width, self.channels)

    def name(self, index: int) -> str:
        """The file it was decoded from."""
        return self.names[int(self.rows[index])]

    def subset(self, indices: Indices) -> "CachedSource":
        """These images; the pixels are shared."""
        return replace(
            self, rows=self.rows[indices], labels=self.labels[indices],
            targets=taken(self.targets, indices), weights=taken(self.weights, indices),
        )  # fmt: skip


def cached(
    source: FileSource,
    folder: Path,
    *,
    short_side: int,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> CachedSource:
    """The source decoded into `folder`, larger images reduced to `short_side` pixels on their shorter side.

    What is there already is used, unless a file's size or time, the files or the settings have changed: then it is
    built anew. One process builds, the others wait for it. `progress` gets the images done.
    Raises `UndecodableImage` naming the file, `WriteFailed`.
    """
    place = folder / _address(source, short_side)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with (place / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _discard_if_changed(place, _signature(source))
            _build(source, place, short_side, workers, progress)
        index = np.fromfile(place / "index", _RECORD)
        # Copy-on-write: the arrays are writable, as torch wants them, and the file stays as it is.
        pixels: Pixels = np.memmap(place / "pixels", np.uint8, mode="c")
    except OSError as error:
        raise WriteFailed(f"{printable(place)}: the cache cannot be written: {reading_failed(error)}") from error
    names = tuple(source.name(row) for row in range(len(source)))
    return CachedSource(
        pixels, index, names, source.labels, source.class_names, source.num_classes, source.channels,
        np.arange(len(source)), source.targets, source.weights,
    )  # fmt: skip


def _address(source: FileSource, short_side: int) -> str:
    settings = f"{_VERSION} {short_side} {source.channels} "
    return str(hashlib.blake2b(settings.encode() + os.fsencode(source.root.absolute()), digest_size=8).hexdigest())


def _signature(source: FileSource) -> str:
    """Of all files' names, sizes and times."""
    digest = hashlib.blake2b(digest_size=16)
    for row in range(len(source)):
        path = source.path(row)
        digest.update(os.fsencode(path) + b"\0")
        with suppress(OSError):  # decoding will say what is wrong with it
            status = os.stat(path)
            digest.update(f"{status.st_size} {status.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def _discard_if_changed(place: Path, signature: str) -> None:
    stamp = place / "signature"
    if stamp.exists() and stamp.read_text() == signature:
        return
    for name in ("signature", "index", "pixels"):
        (place / name).unlink(missing_ok=True)
    stamp.write_text(signature)


def _build(
    source: FileSource, place: Path, short_side: int, workers: int | None, progress: Callable[[int], None] | None
) -> None:
    """Append what is missing; each record follows its pixels, so that a record tells the truth."""
    with (place / "pixels").open("ab") as pixels, (place / "index").open("ab") as index:
        done = index.tell() // _RECORD.itemsize
        index.truncate(done * _RECORD.itemsize)
        start = _end(place, done, source.channels)
        pixels.truncate(start)
        threads = default_workers(source) if workers is None else workers
        decode = partial(_reduced, source, short_side)
        for image in map_ahead(decode, range(done, len(source)), workers=threads, ahead=64):
            pixels.write(image.data)
            pixels.flush()
            index.write(np.array([(start, *image.shape[:2])], _RECORD).tobytes())
            start += image.size
            done += 1
            if progress:
                progress(done)


def _end(place: Path, done: int, channels: int) -> int:
    if not done:
        return 0
    start, height, width = (int(value) for value in np.fromfile(place / "index", _RECORD)[done - 1])
    return start + height * width * channels


def _reduced(source: FileSource, short_side: int, row: int) -> Pixels:
    pixels = source.image(row)
    height, width = pixels.shape[:2]
    if min(height, width) <= short_side:
        return pixels
    scale = short_side / min(height, width)
    size = max(short_side, round(height * scale)), max(short_side, round(width * scale))
    return np.ascontiguousarray(resize(as_images(pixels), size, "bilinear")[0].permute(1, 2, 0).numpy())
