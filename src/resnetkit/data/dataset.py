"""A data set as the rest of the package sees it: its parts, its classes, and what was decided about it."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal, final

from resnetkit.catalog.tasks import Task
from resnetkit.data.decode import Channels
from resnetkit.data.sources import ArraySource, FileSource, Source, without
from resnetkit.errors import DataError

SplitName = Literal["train", "val", "test", "all"]


@final
@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Labelled images in parts.

    "all" is there where the data came as one piece: then "train" and "val" are its parts. `val_from_train` says that
    the data has no validation part of its own and gave up a share of its training images by the seed.
    """

    name: str
    splits: Mapping[SplitName, Source]
    class_names: tuple[str, ...] | None
    """None where the data does not name its classes"""
    num_classes: int
    channels: Channels
    fingerprint: str
    """equal for the same images and labels, wherever they lie and whatever the seed"""
    val_from_train: bool = False
    flip: bool = True
    """whether an image's mirror image is of the same class"""
    notes: tuple[str, ...] = ()
    """plain sentences about what was found and decided"""

    def split(self, name: SplitName) -> Source:
        """The part called `name`; raises `DataError` that lists the parts there are."""
        if name not in self.splits:
            raise DataError(f"{self.name} has no {name!r} part; it has {', '.join(self.splits)}")
        return self.splits[name]

    @property
    def task(self) -> Task:
        """The question that its labels answer."""
        return "multilabel" if self.several_labels else "classification"

    @property
    def several_labels(self) -> bool:
        """Whether an image may have several classes, or none (`Source.targets`)."""
        return next(iter(self.splits.values())).targets is not None

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width where all images have the same known size (arrays), else None."""
        source = next(iter(self.splits.values()))
        return source.image_size if isinstance(source, ArraySource) else None

    def without(self, names: Collection[str]) -> "DataSet":
        """The same parts less the images of these names; the fingerprint stays that of the data as found."""
        return replace(self, splits={split: without(source, names) for split, source in self.splits.items()})


def fingerprint(parts: Mapping[str, Source], class_names: tuple[str, ...] | None) -> str:
    """32 hexadecimal digits from the parts as they were found: names and classes of files, pixels of arrays."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr(class_names).encode("utf-8", "backslashreplace"))
    for part, source in sorted(parts.items()):
        digest.update(f"\0{part}\0{len(source)}\0".encode())
        digest.update(source.labels.tobytes())
        for more in (source.targets, source.weights):
            if more is not None:
                digest.update(more.tobytes())
        if isinstance(source, ArraySource):
            digest.update(source.pixels[source.rows].tobytes())
        elif isinstance(source, FileSource):
            digest.update("\0".join(source.name(i) for i in range(len(source))).encode())
    return digest.hexdigest()
