"""Data sets as their authors publish them become what is read anyway: an `.npz`, a table, or class folders.

Each function takes the downloaded files, in the order of the catalogue's row, and the folder to write into.
"""

import csv
import gzip
import shutil
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnetkit.catalog.datasets import KnownDataSet, Layout
from resnetkit.data.unpacking import unpack
from resnetkit.errors import DataError

_ARRAYS, _TABLE = "images.npz", "images.csv"
_MOST = 1 << 30  # bytes that an array of these data sets may have

Progress = Callable[[int], None]
Converter = Callable[[Sequence[Path], Path, KnownDataSet, Progress], str]
"""gives the name, within the folder, of what is to be opened"""


def _cifar(label_bytes: int, names_in: str) -> Converter:
    def convert(files: Sequence[Path], into: Path, row: KnownDataSet, progress: Progress) -> str:
        contents: dict[str, bytes] = {}
        with tarfile.open(files[0], "r:gz") as tar:
            for member in tar:
                name = member.name.rsplit("/", 1)[-1]
                if member.isreg() and member.size < _MOST and (name.endswith(".bin") or name == names_in):
                    stream = tar.extractfile(member)
                    assert stream is not None  # of a plain file
                    contents[name] = stream.read()
        arrays: dict[str, NDArray[np.generic]] = {"class_names": np.array(contents.pop(names_in).decode().split())}
        for part in ("train", "test"):
            pieces = [contents[name] for name in sorted(contents) if name.startswith("test") == (part == "test")]
            records = np.frombuffer(b"".join(pieces), np.uint8).reshape(-1, label_bytes + 3 * 32 * 32)
            arrays[f"{part}_labels"] = records[:, label_bytes - 1]  # CIFAR-100: the coarse class stands before it
            planes = records[:, label_bytes:].reshape(-1, 3, 32, 32)
            arrays[f"{part}_images"] = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
        return _save(into, arrays)

    return convert


def _idx(files: Sequence[Path], into: Path, row: KnownDataSet, progress: Progress) -> str:
    """Images and labels of "train", then of "test", in the format of MNIST's page."""
    keys = ("train_images", "train_labels", "test_images", "test_labels")
    arrays: dict[str, NDArray[np.generic]] = {"class_names": np.array(row.classes)}
    for key, path in zip(keys, files, strict=True):
        with gzip.open(path) as stream:
            content = stream.read(_MOST)
        rank = content[3]
        shape = np.frombuffer(content, ">u4", rank, 4).astype(int)
        arrays[key] = np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)
    return _save(into, arrays)


def _npz(files: Sequence[Path], into: Path, row: KnownDataSet, progress: Progress) -> str:
    with np.load(files[0], allow_pickle=False) as arrays:
        return _save(into, {**arrays, "class_names": np.array(row.classes)})


def _folders(files: Sequence[Path], into: Path, row: KnownDataSet, progress: Progress) -> str:
    unpack(files[0], into, progress)
    (folder,) = (path.name for path in into.iterdir() if path.is_dir())
    return folder


def _pets(files: Sequence[Path], into: Path, row: KnownDataSet, progress: Progress) -> str:
    for archive in files:
        unpack(archive, into, progress)
    rows = []
    for file, split in (("trainval.txt", "train"), ("test.txt", "test")):
        for line in (into / "annotations" / file).read_text(encoding="utf-8").splitlines():
            if line.strip() and not line.startswith("#"):
                image = line.split()[0]  # breed_number
                rows.append((f"images/{image}.jpg", image.rsplit("_", 1)[0].replace("_", " "), split))
    shutil.rmtree(into / "annotations")  # outlines, for another task
    return _write_table(into, rows)


def _flowers(files: Sequence[Path], into: Path, row: KnownDataSet, progress: Progress) -> str:
    from scipy.io import loadmat  # half a second, and only this data set needs it

    unpack(files[0], into, progress)
    labels = loadmat(files[1])["labels"].ravel()
    splits = loadmat(files[2])
    rows = [
        (f"jpg/image_{number:05d}.jpg", row.classes[labels[number - 1] - 1], split)
        for split, key in (("train", "trnid"), ("val", "valid"), ("test", "tstid"))
        for number in splits[key].ravel().tolist()
    ]
    return _write_table(into, rows)


_CONVERTERS: Mapping[Layout, Converter] = {
    "cifar10": _cifar(1, "batches.meta.txt"),
    "cifar100": _cifar(2, "fine_label_names.txt"),
    "idx": _idx,
    "npz": _npz,
    "folders": _folders,
    "pets": _pets,
    "flowers": _flowers,
}


def convert(files: Sequence[Path], into: Path, row: KnownDataSet, progress: Progress) -> str:
    """Write the data set into a folder and give the name of what is to be opened there; raises `DataError`."""
    try:
        return _CONVERTERS[row.layout](files, into, row, progress)
    except (ValueError, IndexError, KeyError, EOFError, tarfile.TarError) as error:
        names = ", ".join(path.name for path in files)
        raise DataError(f"{names}: not in the layout that is known of it ({type(error).__name__}: {error})") from error


def _save(into: Path, arrays: Mapping[str, NDArray[np.generic]]) -> str:
    named: dict[str, Any] = dict(arrays)
    np.savez(into / _ARRAYS, **named)
    return _ARRAYS


def _write_table(into: Path, rows: Iterable[tuple[str, str, str]]) -> str:
    with (into / _TABLE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "split"))
        writer.writerows(rows)
    return _TABLE
