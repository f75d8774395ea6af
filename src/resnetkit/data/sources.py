"""Where images come from: an indexed, labelled collection. Nothing downstream minds which kind."""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar, final

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.decode import Channels, Pixels, decode_file, printable, to_channels

Labels = NDArray[np.int64]
Indices = NDArray[np.int64]
Targets = NDArray[np.uint8]
Weights = NDArray[np.float64]
Number = TypeVar("Number", bound=np.generic)


class Labelled(Protocol):
    """`len(it)` images of known classes, in whatever order they may be had."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names by class, or None where the data does not say them."""

    @property
    def num_classes(self) -> int:
        """How many classes there are, whether or not each occurs here."""

    @property
    def channels(self) -> Channels:
        """1 for grey, 3 for RGB."""

    def __len__(self) -> int: ...


class Source(Labelled, Protocol):
    """`len(source)` images of `channels` channels; `labels[i]` is the class of image `i`, 0 … num_classes-1.

    Indexed, because order and augmentation are addressed. What can only be iterated over is a `streams.Stream`: both
    become batches on the same path (`batching`), and what lies above takes batches and minds neither.
    """

    @property
    def labels(self) -> Labels:
        """Classes `N`. Where an image has several (`targets`), the first of them, or 0 for none: a rough stratum."""

    @property
    def targets(self) -> Targets | None:
        """`N,num_classes` of 0 and 1 where an image may have several classes, else None."""

    @property
    def weights(self) -> Weights | None:
        """How often each image is to be drawn in training, in proportion, `N`; None for all alike."""

    def image(self, index: int) -> Pixels:
        """Pixels `H,W,channels`; raises `UndecodableImage` naming the file."""

    def name(self, index: int) -> str:
        """What people call image `index`: printable, unique within its data set."""

    def subset(self, indices: Indices) -> "Source":
        """These images, in this order."""


@final
@dataclass(frozen=True, eq=False)
class ArraySource:
    """Images of one size held in memory: `pixels` `M,H,W,C` uint8, of which `rows` (N indices) belong to the source."""

    pixels: Pixels
    labels: Labels
    class_names: tuple[str, ...] | None
    num_classes: int
    rows: Indices
    prefix: str = ""
    """put before the row's number to name an image, such as "test/" """
    targets: Targets | None = None
    weights: Weights | None = None

    @property
    def channels(self) -> Channels:
        """Last side of the array."""
        return 1 if self.pixels.shape[3] == 1 else 3

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of every image."""
        return self.pixels.shape[1], self.pixels.shape[2]

    def __len__(self) -> int:
        return len(self.rows)

    def image(self, index: int) -> Pixels:
        """Pixels `H,W,C` (a view)."""
        pixels: Pixels = self.pixels[self.rows[index]]
        return pixels

    def gather(self, indices: Indices) -> Pixels:
        """Pixels `N,H,W,C` of several images at once (a copy)."""
        return self.pixels[self.rows[indices]]

    def name(self, index: int) -> str:
        """Its place in the data set's own array."""
        return f"{self.prefix}{self.rows[index]}"

    def subset(self, indices: Indices) -> "ArraySource":
        """These images; the pixels are shared."""
        return replace(
            self, rows=self.rows[indices], labels=self.labels[indices],
            targets=taken(self.targets, indices), weights=taken(self.weights, indices),
        )  # fmt: skip

    def with_channels(self, channels: Channels) -> "ArraySource":
        """The same images in grey or in colour."""
        return replace(self, pixels=to_channels(self.pixels, channels))


@final
@dataclass(frozen=True, eq=False)
class FileSource:
    """Image files below `root`, decoded anew each time one is asked for."""

    root: Path
    paths: Sequence[str]
    """relative to `root`"""
    labels: Labels
    class_names: tuple[str, ...] | None
    num_classes: int
    channels: Channels = 3
    targets: Targets | None = None
    weights: Weights | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def image(self, index: int) -> Pixels:
        """Pixels `H,W,C` of the decoded file; raises `UndecodableImage`."""
        return decode_file(self.path(index), self.channels, name=self.name(index))

    def path(self, index: int) -> str:
        """Where the file is."""
        return os.path.join(self.root, self.paths[index])

    def name(self, index: int) -> str:
        """Its path relative to the data set's folder."""
        return printable(self.paths[index])

    def subset(self, indices: Indices) -> "FileSource":
        """These files."""
        return replace(
            self, paths=[self.paths[index] for index in indices], labels=self.labels[indices],
            targets=taken(self.targets, indices), weights=taken(self.weights, indices),
        )  # fmt: skip

    def with_channels(self, channels: Channels) -> "FileSource":
        """The same images in grey or in colour."""
        return replace(self, channels=channels)


def taken(values: NDArray[Number] | None, indices: Indices) -> NDArray[Number] | None:
    """These rows of what a source may have."""
    return None if values is None else values[indices]


def without(source: Source, names: Collection[str]) -> Source:
    """The source without the images of these names (those that a scan found broken)."""
    left_out = set(names)
    return source.subset(np.array([i for i in range(len(source)) if source.name(i) not in left_out], np.int64))
