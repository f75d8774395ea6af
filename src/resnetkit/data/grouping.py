"""Files grouped by part and by class become sources, once the parts agree on their classes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from resnetkit.data.decode import printable
from resnetkit.data.sources import FileSource
from resnetkit.errors import DataError, LabelMismatch

PART_NAMES: Mapping[str, str] = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip

Grouped = Mapping[str, Mapping[str, Sequence[str]]]
"""part → class → paths relative to the data set's folder"""


class UnusableClasses(LabelMismatch):
    """Classes that are empty, or not the same in all parts; `.parts` are the sources as they are, for a check."""

    def __init__(self, message: str, parts: Mapping[str, FileSource]) -> None:
        super().__init__(message)
        self.parts = parts


def sources_of(grouped: Grouped, root: Path, where: str) -> dict[str, FileSource]:
    """A source a part, with the same sorted class names; `where` begins each error's line.

    Raises `UnusableClasses`, or `DataError` where there is but one class.
    """
    return _sources(grouped, root, where, _source)


def _source(root: Path, classes: Mapping[str, Sequence[str]], names: tuple[str, ...]) -> FileSource:
    paths = [path for name in names for path in classes.get(name, ())]
    labels = np.repeat(np.arange(len(names)), [len(classes.get(name, ())) for name in names])
    return FileSource(root, paths, labels, tuple(map(printable, names)), len(names))


def sources_of_several(grouped: Grouped, root: Path, where: str) -> dict[str, FileSource]:
    """As `sources_of`, of images that may be in several classes: each comes once, with all of them as its target."""
    return _sources(grouped, root, where, _source_of_several)


def _sources(
    grouped: Grouped, root: Path, where: str,
    source: Callable[[Path, Mapping[str, Sequence[str]], tuple[str, ...]], FileSource],
) -> dict[str, FileSource]:  # fmt: skip
    def with_names(names: tuple[str, ...]) -> dict[str, FileSource]:
        return {part: source(root, classes, names) for part, classes in grouped.items()}

    try:
        return with_names(_agree_on_classes(grouped, where))
    except _Disagreement as error:
        every = {name for classes in grouped.values() for name in classes}
        raise UnusableClasses(str(error), with_names(tuple(sorted(every, key=_in_order)))) from None


class _Disagreement(Exception):
    """What is wrong, in one line."""


def _source_of_several(root: Path, classes: Mapping[str, Sequence[str]], names: tuple[str, ...]) -> FileSource:
    paths = list(dict.fromkeys(path for name in names for path in classes.get(name, ())))
    place = {path: row for row, path in enumerate(paths)}
    targets = np.zeros((len(paths), len(names)), np.uint8)
    for column, name in enumerate(names):
        targets[[place[path] for path in classes.get(name, ())], column] = 1
    labels = targets.argmax(axis=1).astype(np.int64)
    return FileSource(root, paths, labels, tuple(map(printable, names)), len(names), targets=targets)


def _agree_on_classes(grouped: Grouped, where: str) -> tuple[str, ...]:
    empty = [
        printable(name) + ("" if part == "all" else f" ({part})")
        for part, classes in grouped.items()
        for name, paths in classes.items()
        if not paths
    ]
    if empty:
        raise _Disagreement(f"{where}: classes without images: {listed(empty)}; fill or remove them")
    names = tuple(sorted(grouped["train"] if "train" in grouped else next(iter(grouped.values())), key=_in_order))
    for part, classes in grouped.items():
        unknown, missing = sorted(set(classes) - set(names)), sorted(set(names) - set(classes))
        if unknown or (missing and part == "val"):
            raise _Disagreement(
                f"{where}: train and {part} have different classes; only in {part}: {listed(unknown)}; "
                f"only in train: {listed(missing)}; rename or complete them"
            )
    if len(names) < 2 and ("train" in grouped or "all" in grouped):
        raise DataError(f"{where} has only one class ({printable(names[0])}): a classifier needs at least two")
    return names


def _in_order(name: str) -> tuple[int, str]:
    """Numbers by their value, before words."""
    return (int(name), name) if name.isascii() and name.isdigit() and len(name) < 10 else (10**10, name)


def listed(names: Sequence[str], most: int = 20) -> str:
    """Names for one line.

    >>> listed(["cat", "dog", "fox"], most=2)
    'cat, dog and 1 more'
    """
    shown = ", ".join(map(printable, names[:most])) or "none"
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
