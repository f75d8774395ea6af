"""Images that come as arrays: the embedded digits, and `.npz` files in MedMNIST's layout."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resnetkit.catalog.datasets import DATASETS
from resnetkit.data.decode import Pixels, printable, reading_failed
from resnetkit.data.sources import ArraySource, Labels, Targets
from resnetkit.data.splitting import hold_out
from resnetkit.errors import DataError, LabelMismatch

_DIGITS_TEST = 360  # a fifth of the 1797
_DIGITS_TEST_SEED = 0  # the test part is the same for every run


def digits() -> dict[str, ArraySource]:
    """scikit-learn's 1797 handwritten digits, 8×8 grey: "train" (1437) and a fixed stratified "test" (360)."""
    from sklearn.datasets import load_digits  # a second to import, and only this data set needs it

    values, labels = load_digits(return_X_y=True)
    pixels = np.round(values.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    names = DATASETS["digits"].classes
    whole = ArraySource(pixels, labels.astype(np.int64), names, len(names), np.arange(len(labels)))
    train, test = hold_out(whole.labels, _DIGITS_TEST, _DIGITS_TEST_SEED)
    return {"train": whole.subset(train), "test": whole.subset(test)}


def npz_parts(path: Path) -> dict[str, ArraySource]:
    """Parts "train", "val", "test" of a file with arrays `train_images` (N,H,W or N,H,W,C uint8) and `train_labels`.

    Labels are class numbers, N or N,1, or N,classes of 0 and 1 where an image may have several; an array `class_names`
    of strings may name the classes. Raises `DataError` naming the array at fault.
    """
    arrays = _read(path)
    where = printable(path.name)
    found = {part: _part(arrays, part, where) for part in ("train", "val", "test") if f"{part}_images" in arrays}
    if not found:
        raise DataError(
            f"{where}: no array is called train_images, val_images or test_images; it has {', '.join(arrays) or 'none'}"
        )
    shapes = {part: one.images.shape[1:] for part, one in found.items()}
    if len(set(shapes.values())) > 1:
        raise DataError(f"{where}: its parts hold images of different shapes: {shapes}")
    names = _class_names(arrays, where)
    num_classes = _count_classes(found, names, where)
    for part, one in found.items():
        _check_range(one.labels, num_classes, names, f"{where}: {part}_labels")
    if "train" in found:
        if num_classes < 2:
            raise DataError(f"{where} has only one class: a classifier needs at least two")
        if found["train"].targets is None:
            _check_every_class(found["train"].labels, num_classes, where)
    return {
        part: ArraySource(
            one.images, one.labels, names, num_classes, np.arange(len(one.labels)), f"{part}/", targets=one.targets
        )
        for part, one in found.items()
    }


@dataclass(frozen=True)
class _Part:
    images: Pixels
    labels: Labels
    targets: Targets | None


def _count_classes(found: Mapping[str, _Part], names: tuple[str, ...] | None, where: str) -> int:
    widths = {one.targets.shape[1] if one.targets is not None else 0 for one in found.values()}
    if widths == {0}:
        return len(names) if names else 1 + max(int(one.labels.max()) for one in found.values())
    if len(widths) > 1 or (names and len(names) not in widths):
        raise DataError(f"{where}: labels of its parts{' and class_names' if names else ''} differ in their classes")
    return widths.pop()


def _read(path: Path) -> dict[str, NDArray[np.generic]]:
    try:
        # Opened here, because numpy leaves a damaged archive open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except OSError as error:
        raise DataError(f"{printable(path)}: {reading_failed(error)}") from error
    except Exception as error:  # zip and numpy headers raise whatever the bytes lead them to
        reason = "it holds pickled objects, which could run code" if "pickle" in str(error).lower() else str(error)
        raise DataError(f"{printable(path)} is not a readable .npz file: {reason}") from error


def _part(arrays: dict[str, NDArray[np.generic]], part: str, where: str) -> _Part:
    images = arrays[f"{part}_images"]
    if images.dtype != np.uint8:
        raise DataError(f"{where}: {part}_images are {images.dtype}: save them as uint8, 0 to 255")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape:
        raise DataError(f"{where}: {part}_images have shape {images.shape}: expected N,H,W or N,H,W,3")
    if f"{part}_labels" not in arrays:
        raise DataError(f"{where}: there are {part}_images but no {part}_labels")
    values, what = arrays[f"{part}_labels"], f"{where}: {part}_labels"
    targets = _several(values, what) if values.ndim == 2 and values.shape[1] > 1 else None
    labels = _labels(values, what) if targets is None else targets.argmax(axis=1).astype(np.int64)
    if len(labels) != len(images):
        raise DataError(f"{where}: {len(images)} {part}_images but {len(labels)} {part}_labels")
    return _Part(images.astype(np.uint8, copy=False), labels, targets)


def _several(values: NDArray[np.generic], what: str) -> Targets:
    """`N,classes` of 0 and 1, as the chest radiographs of MedMNIST have them."""
    if not np.isin(values, (0, 1)).all():
        raise DataError(f"{what} have shape {values.shape} and hold more than 0 and 1: give one class number an image")
    return values.astype(np.uint8)


def _labels(values: NDArray[np.generic], what: str) -> Labels:
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise DataError(f"{what} have shape {values.shape}: expected one class number an image, N or N,1")
    if not np.issubdtype(values.dtype, np.number):
        raise DataError(f"{what} are {values.dtype}: expected whole numbers from 0 on")
    numbers = values.astype(np.int64) if np.issubdtype(values.dtype, np.integer) else _whole(values, what)
    if numbers.min() < 0:
        raise DataError(f"{what} hold {int(numbers.min())} at image {int(numbers.argmin())}: classes count from 0 on")
    return numbers


def _whole(values: NDArray[np.generic], what: str) -> Labels:
    floats = values.astype(np.float64)
    with np.errstate(invalid="ignore"):
        numbers = floats.astype(np.int64)
    wrong = np.flatnonzero(~np.isfinite(floats) | (numbers != floats))
    if len(wrong):
        raise DataError(f"{what} hold {floats[wrong[0]]} at image {wrong[0]}: expected whole numbers from 0 on")
    return numbers


def _class_names(arrays: dict[str, NDArray[np.generic]], where: str) -> tuple[str, ...] | None:
    if "class_names" not in arrays:
        return None
    names = tuple(str(name) for name in arrays["class_names"].ravel())
    if len(set(names)) != len(names):
        raise DataError(f"{where}: class_names holds a name twice")
    return names


def _check_range(labels: Labels, num_classes: int, names: tuple[str, ...] | None, what: str) -> None:
    if labels.max() >= num_classes:
        raise DataError(
            f"{what} hold class {int(labels.max())} at image {int(labels.argmax())}, "
            f"but class_names names only 0 to {num_classes - 1}"
        )


def _check_every_class(labels: Labels, num_classes: int, where: str) -> None:
    missing = np.setdiff1d(np.arange(num_classes), labels)
    if len(missing):
        shown = ", ".join(map(str, missing[:10])) + (" …" if len(missing) > 10 else "")
        raise LabelMismatch(
            f"{where}: {len(missing)} of {num_classes} classes have no training image: {shown}; "
            "number classes without gaps"
        )
