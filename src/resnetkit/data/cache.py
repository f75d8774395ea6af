"""Decode once: a file of pixels on disk, mapped into memory and shared by all processes that train on the same images.

Two files in a folder of their own: `pixels`, one image after the other, and `index`, one record an image, written after
its pixels are. Both only grow: a build that was interrupted goes on after the last whole record, and a file whose size
or time has changed gets a new record.
"""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, final

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.data.ahead import map_ahead
from resnetkit.data.dataset import DataSet
from resnetkit.data.decode import Channels, Pixels, printable, reading_failed
from resnetkit.data.loader import default_workers
from resnetkit.data.places import ELSEWHERE
from resnetkit.data.sources import FileSource, Indices, Labels, Targets, Weights
from resnetkit.data.transforms import as_images, resize
from resnetkit.errors import UndecodableImage, WriteFailed

_VERSION = 2
_RECORD = np.dtype([("path", "<u8"), ("stamp", "<u8"), ("start", "<i8"), ("height", "<i4"), ("width", "<i4")])

Records = NDArray[np.void]
Progress = Callable[[int], None]


@final
@dataclass(frozen=True, eq=False)
class CachedSource:
    """Images of a file source, decoded beforehand: `records` says where in the mapped `pixels` each of them lies."""

    files: FileSource
    pixels: Pixels
    records: Records

    @property
    def labels(self) -> Labels:
        """Those of the files."""
        return self.files.labels

    @property
    def targets(self) -> Targets | None:
        """Those of the files."""
        return self.files.targets

    @property
    def weights(self) -> Weights | None:
        """Those of the files."""
        return self.files.weights

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Those of the files."""
        return self.files.class_names

    @property
    def num_classes(self) -> int:
        """That of the files."""
        return self.files.num_classes

    @property
    def channels(self) -> Channels:
        """That of the files."""
        return self.files.channels

    def __len__(self) -> int:
        return len(self.files)

    def image(self, index: int) -> Pixels:
        """Pixels `H,W,C` (mapped, not read until used); what could not be decoded raises as its file does."""
        _, _, start, height, width = self.records[index].item()
        if not height:
            return self.files.image(index)
        return self.pixels[start : start + height * width * self.channels].reshape(height, width, self.channels)

    def name(self, index: int) -> str:
        """The file it was decoded from."""
        return self.files.name(index)

    def subset(self, indices: Indices) -> "CachedSource":
        """These images; the pixels are shared."""
        return replace(self, files=self.files.subset(indices), records=self.records[indices])


def with_cache(
    dataset: DataSet, folder: Path, *, short_side: int, workers: int | None = None, progress: Progress | None = None
) -> DataSet:
    """The data set with its training and validation images decoded into `folder`; `progress` gets the images done."""
    splits, done = dict(dataset.splits), 0
    parts: tuple[Literal["train", "val"], ...] = ("train", "val")
    for part in parts:
        source = splits.get(part)
        if isinstance(source, FileSource):
            tell = (lambda n, before=done: progress(before + n)) if progress else None
            splits[part] = cached(source, folder, short_side=short_side, workers=workers, progress=tell)
            done += len(source)
    return replace(dataset, splits=splits)


def cached(
    source: FileSource,
    folder: Path,
    *,
    short_side: int,
    workers: int | None = None,
    progress: Progress | None = None,
) -> CachedSource:
    """The source decoded into `folder`, larger images reduced to `short_side` pixels on their shorter side.

    What is there already is used: the place depends on the folder of the images and the settings, the record on a
    file's path, size and time. One process builds, the others wait for it. `progress` gets the images done. What
    cannot be decoded raises when it is asked for, as it does without a cache. Raises `WriteFailed`.
    """
    place = folder / _address(source, short_side)
    wanted = _wanted(source)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with FileLock(place / "lock"):
            index = _intact(place, source.channels)
            if (_rows(index, wanted) < 0).any() and 2 * len(np.unique(index["path"])) < len(index):
                # More is of files as they were than of files as they are. Who has mapped it keeps what it has.
                for name in ("index", "pixels"):
                    (place / name).unlink(missing_ok=True)
                index = index[:0]
            missing = np.flatnonzero(_rows(index, wanted) < 0)
            _, once = np.unique(wanted["path"][missing], return_index=True)
            _build(source, place, wanted, missing[np.sort(once)], short_side, workers, progress)
            index = np.fromfile(place / "index", _RECORD)
        pixels = _mapped(place / "pixels")
    except OSError as error:
        raise WriteFailed(
            f"{printable(place)}: the cache cannot be written: {reading_failed(error)}; {ELSEWHERE}"
        ) from error
    return CachedSource(source, pixels, index[_rows(index, wanted)])


def _address(source: FileSource, short_side: int) -> str:
    settings = f"{_VERSION} {short_side} {source.channels} "
    return str(hashlib.blake2b(settings.encode() + os.fsencode(source.root.absolute()), digest_size=8).hexdigest())


def _wanted(source: FileSource) -> Records:
    """Records of the source's files as they are now, without a place."""
    wanted = np.zeros(len(source), _RECORD)
    for row, path in enumerate(source.paths):
        stamp = b"gone"
        with suppress(OSError):  # decoding will say what is wrong with it
            status = os.stat(source.path(row))
            stamp = f"{status.st_size} {status.st_mtime_ns}".encode()
        wanted[row]["path"], wanted[row]["stamp"] = _hashed(os.fsencode(path)), _hashed(stamp)
    return wanted


def _hashed(value: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(value, digest_size=8).digest(), "little")


def _rows(index: Records, wanted: Records) -> Indices:
    """The newest row of the index for each record wanted; -1 where there is none of its path and stamp."""
    if not len(index):
        return np.full(len(wanted), -1)
    order = np.argsort(index["path"], kind="stable")
    last = np.searchsorted(index["path"][order], wanted["path"], side="right") - 1
    rows = order[np.maximum(last, 0)]
    same = (index["path"][rows] == wanted["path"]) & (index["stamp"][rows] == wanted["stamp"])
    return np.where(same, rows, -1)


def _intact(place: Path, channels: int) -> Records:
    """The index as far as it is whole; what an interrupted build left behind the last whole record is cut off."""
    with (place / "pixels").open("ab") as pixels, (place / "index").open("ab") as records:
        index = np.fromfile(place / "index", _RECORD)
        ends = index["start"] + index["height"].astype(np.int64) * index["width"] * channels
        index = index[: np.searchsorted(ends, pixels.tell(), side="right")]
        records.truncate(index.nbytes)
        pixels.truncate(int(ends[len(index) - 1]) if len(index) else 0)
    return index


def _build(
    source: FileSource, place: Path, wanted: Records, missing: Indices, short_side: int, workers: int | None,
    progress: Progress | None,
) -> None:  # fmt: skip
    """Append the missing images; each record follows its pixels, so that a record tells the truth."""
    done = len(source) - len(missing)
    threads = default_workers(source) if workers is None else workers
    with (place / "pixels").open("ab") as pixels, (place / "index").open("ab") as index:
        start = pixels.tell()
        images = map_ahead(partial(_reduced, source, short_side), missing.tolist(), workers=threads, ahead=64)
        for row, image in zip(missing, images, strict=True):
            record = wanted[row : row + 1].copy()
            record["start"], record["height"], record["width"] = start, *image.shape[:2]
            pixels.write(image.data)
            pixels.flush()
            index.write(record.tobytes())
            start += image.size
            done += 1
            if progress:
                progress(done)


def _mapped(pixels: Path) -> Pixels:
    if not pixels.stat().st_size:  # not one image could be decoded
        return np.empty(0, np.uint8)
    # Copy-on-write: the arrays are writable, as torch wants them, and the file stays as it is.
    return np.asarray(np.memmap(pixels, np.uint8, mode="c"))


def _reduced(source: FileSource, short_side: int, row: int) -> Pixels:
    """The image at most as large as wanted, its sides as preprocessing would round them; empty if undecodable."""
    try:
        pixels = source.image(row)
    except UndecodableImage:
        return np.empty((0, 0, source.channels), np.uint8)
    height, width = pixels.shape[:2]
    if min(height, width) <= short_side:
        return pixels
    size = Preprocess(size=(short_side, short_side), resize=short_side).resized(height, width)
    return np.ascontiguousarray(resize(as_images(pixels), size, "bilinear")[0].permute(1, 2, 0).numpy())
