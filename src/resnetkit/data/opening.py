"""`open_data`: the one place that tells what a DATA argument is."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from resnetkit.catalog.datasets import DATASETS, KnownDataSet
from resnetkit.data.arrays import digits, npz_parts
from resnetkit.data.dataset import DataSet, SplitName, fingerprint
from resnetkit.data.decode import Channels, is_grey_file, printable, reading_failed
from resnetkit.data.folders import folder_parts
from resnetkit.data.known import Progress, local_copy
from resnetkit.data.sources import ArraySource, FileSource, Source
from resnetkit.data.splitting import hold_out
from resnetkit.data.tables import TABLE_SUFFIXES, table_parts
from resnetkit.errors import DataError, InvalidArgument, UnknownName

_LOOKED_AT = 64  # files looked at to tell grey data from colour

Parts = Mapping[str, ArraySource | FileSource]


def open_data(
    spec: str | os.PathLike[str],
    *,
    channels: int | None = None,
    seed: int = 0,
    val_share: float = 0.1,
    progress: Progress | None = None,
) -> DataSet:
    """Open a folder of class folders, an `.npz` in MedMNIST's layout, a table of paths and labels, or a built-in name.

    `channels` None keeps what the data has. Where there is no validation part, `val_share` of the training images
    (stratified, chosen by `seed`) becomes it; a test part is never touched. A name that is both is the path.
    A built-in data set is downloaded the first time, of which `progress` is told. Raises `DataError`, `LabelMismatch`,
    `UnknownName`.

    >>> data = open_data("digits", seed=3)
    >>> {name: len(part) for name, part in data.splits.items()}
    {'train': 1293, 'val': 144, 'test': 360}
    """
    if channels not in (None, 1, 3):
        raise InvalidArgument(f"{channels} channels: images are grey (1) or colour (3)")
    if not 0 <= val_share < 1:
        raise InvalidArgument(f"val_share {val_share} is not a share of the training images between 0 and 1")
    parts, notes, known = _find(spec, progress)
    known_by = fingerprint(parts, next(iter(parts.values())).class_names)
    parts, more = _with_channels(parts, cast(Channels | None, channels))
    first = next(iter(parts.values()))
    dataset = DataSet(
        name=Path(spec).resolve().name,
        splits={cast(SplitName, name): part for name, part in parts.items()},
        class_names=first.class_names,
        num_classes=first.num_classes,
        channels=first.channels,
        fingerprint=known_by,
        flip=known.flip if known else True,
        notes=(*notes, *more),
    )
    return with_validation(dataset, seed, val_share)


def _find(
    spec: str | os.PathLike[str], progress: Progress | None
) -> tuple[Parts, tuple[str, ...], KnownDataSet | None]:
    """The parts as the data has them, notes, and the catalogue's row of a built-in name."""
    path, name = Path(spec), os.fspath(spec)
    try:
        if (found := _at(path)) is not None:
            return *found, None
        if path.exists():
            raise DataError(
                f"{printable(path)} is a file, not a data set: "
                "give a folder of class folders, a table (.csv), or an .npz of image arrays"
            )
    except OSError as error:
        raise DataError(f"{printable(path)}: {reading_failed(error)}") from error
    if name in DATASETS:
        return *_known(name, progress), DATASETS[name]
    if os.sep in name or path.suffix:
        raise DataError(f"{printable(path)}: there is no such file or folder")
    raise UnknownName("data set", name, DATASETS, "and there is no folder of that name here")


def _at(path: Path) -> tuple[Parts, tuple[str, ...]] | None:
    """What a path holds; None where it is nothing that is known."""
    if path.is_dir():
        return folder_parts(path)
    if path.is_file() and path.suffix.lower() == ".npz":
        return npz_parts(path), ()
    if path.is_file() and path.suffix.lower() in TABLE_SUFFIXES:
        return table_parts(path)
    return None


def _known(name: str, progress: Progress | None) -> tuple[Parts, tuple[str, ...]]:
    row = DATASETS[name]
    if row.layout == "digits":
        return digits(), ()
    copy = local_copy(name, row, progress)
    found = _at(copy)
    if found is None:
        raise DataError(f"{printable(copy.parent)} was damaged: delete it, and {name} is downloaded again")
    parts, notes = found
    return parts, (f"{name}: {row.source}; licence: {row.licence}; kept in {printable(copy.parent.parent)}", *notes)


def _with_channels(parts: Parts, channels: Channels | None) -> tuple[Parts, tuple[str, ...]]:
    first = next(iter(parts.values()))
    notes: tuple[str, ...] = ()
    if channels is None and isinstance(first, FileSource):
        channels = 1 if all(_looks_grey(part) for part in parts.values() if isinstance(part, FileSource)) else 3
        if channels == 1:
            notes = ("all images looked at are grey: one channel is used",)
    if channels is None or channels == first.channels:
        return parts, notes
    return {name: part.with_channels(channels) for name, part in parts.items()}, notes


def _looks_grey(source: FileSource) -> bool:
    """Whether the images of a sample, evenly spread over the source, are all grey."""
    sample = np.unique(np.linspace(0, len(source) - 1, _LOOKED_AT).astype(np.int64))
    return all(is_grey_file(source.path(int(index))) for index in sample)


def with_validation(dataset: DataSet, seed: int, val_share: float, together: Sequence[Sequence[int]] = ()) -> DataSet:
    """The data set with "train" and "val" cut out of its training images where it has no "val" of its own.

    `together` are groups of indices among the training images, of copies of each other, that go to one side.
    """
    whole = dataset.splits.get("train", dataset.splits.get("all"))
    if "val" in dataset.splits or whole is None:
        return dataset
    count = round(val_share * len(whole))
    kept, held = np.arange(len(whole)), np.empty(0, np.int64)
    if val_share:
        kept, held = hold_out(whole.labels, count, seed, together)
        if not len(held):
            raise DataError("no class has a second image to hold out for validation: add images to each class")
    parts: dict[SplitName, Source] = {**dataset.splits, "train": whole.subset(kept)}
    notes = []
    if len(held):
        parts["val"] = whole.subset(held)
        notes.append(f"{len(held)} of {len(whole)} training images are held out for validation (seed {seed})")
    if len(held) and together:
        copies = sum(map(len, together))
        notes.append(f"{copies} images have copies or near copies among them, which went to one side of that split")
    alone = np.flatnonzero(np.bincount(whole.labels, minlength=whole.num_classes) == 1)
    if len(alone) and val_share:
        names = [whole.class_names[label] if whole.class_names else str(label) for label in alone]
        notes.append(
            f"classes with one image, which stays in training, so that validation cannot see them: {', '.join(names)}"
        )
    order: tuple[SplitName, ...] = ("train", "val", "test", "all")
    return replace(
        dataset,
        splits={name: parts[name] for name in order if name in parts},
        val_from_train=bool(len(held)),
        notes=(*dataset.notes, *notes),
    )
