"""Data sets by name: tiny ones in the real layouts, from a server with every fault."""

import csv
import gzip
import hashlib
import io
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from resnetkit.catalog.datasets import DATASETS
from resnetkit.data.opening import open_data
from resnetkit.data.unpacking import unpack
from resnetkit.errors import DataError, WriteFailed

Server = Any  # tests/conftest.py
RANDOM = np.random.default_rng(0)


def tar_gz(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        folder = tarfile.TarInfo(next(iter(files)).split("/")[0])
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def photo(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 16), (level, 100, 200)).save(buffer, "PNG")
    return buffer.getvalue()


def mat(**arrays: list[int]) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, {name: np.array([values]) for name, values in arrays.items()})
    return buffer.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def cifar(label_bytes: int, counts: Mapping[str, int]) -> tuple[dict[str, bytes], dict[str, np.ndarray]]:
    records = {name: RANDOM.integers(0, 256, (count, label_bytes + 3072), np.uint8) for name, count in counts.items()}
    for values in records.values():
        values[:, :label_bytes] = np.arange(len(values))[:, None] % 3
    return {name: values.tobytes() for name, values in records.items()}, records


@pytest.mark.parametrize(("name", "label_bytes", "names"), [("cifar10", 1, "batches.meta.txt"),
                                                            ("cifar100", 2, "fine_label_names.txt")])  # fmt: skip
def test_cifar(publish: Callable[..., Path], server: Server, name: str, label_bytes: int, names: str) -> None:
    counts = {"b/data_batch_2.bin": 7, "b/data_batch_1.bin": 5, "b/test_batch.bin": 6}
    files, records = cifar(label_bytes, counts)
    home = publish(name, tar_gz({**files, f"b/{names}": b"cat\ndog\nfox\n\n"}))
    data = open_data(name, val_share=0)
    assert data.class_names == ("cat", "dog", "fox")
    train = np.concatenate([records["b/data_batch_1.bin"], records["b/data_batch_2.bin"]])
    for part, expected in (("train", train), ("test", records["b/test_batch.bin"])):
        source = data.split(part)
        assert source.labels.tolist() == expected[:, label_bytes - 1].tolist()
        for index, record in enumerate(expected):
            planes = record[label_bytes:].reshape(3, 32, 32)
            assert np.array_equal(source.image(index), np.moveaxis(planes, 0, -1))
    asked = len(server.requests)
    assert open_data(name, val_share=0).fingerprint == data.fingerprint
    assert len(server.requests) == asked
    assert {path.name for path in home.iterdir() if path.suffix != ".lock"} == {"lock", "ready"}


def test_idx(publish: Callable[..., Path]) -> None:
    def idx(values: np.ndarray) -> bytes:
        shape = np.array(values.shape, ">u4").tobytes()
        return gzip.compress(bytes((0, 0, 8, values.ndim)) + shape + values.tobytes())

    images = RANDOM.integers(0, 256, (30, 28, 28), np.uint8)
    labels = (np.arange(30) % 10).astype(np.uint8)
    publish("fashion-mnist", idx(images[:20]), idx(labels[:20]), idx(images[20:]), idx(labels[20:]))
    data = open_data("fashion-mnist", val_share=0)
    assert data.class_names == DATASETS["fashion-mnist"].classes
    assert np.array_equal(data.split("train").image(3)[..., 0], images[3])
    assert np.array_equal(data.split("test").image(9)[..., 0], images[29])
    assert data.split("test").labels.tolist() == labels[20:].tolist()


def test_medmnist_gets_its_names_and_whether_it_may_be_mirrored(publish: Callable[..., Path]) -> None:
    images = RANDOM.integers(0, 256, (22, 28, 28), np.uint8)
    labels = (np.arange(22)[:, None] % 11).astype(np.uint8)
    publish("organamnist", npz(train_images=images, train_labels=labels, val_images=images, val_labels=labels))
    data = open_data("organamnist")
    assert data.class_names == DATASETS["organamnist"].classes
    assert not data.flip
    several = (RANDOM.random((22, 14)) < 0.3).astype(np.uint8)
    publish("chestmnist", npz(train_images=images, train_labels=several, val_images=images, val_labels=several))
    assert open_data("chestmnist").several_labels


def test_folders(publish: Callable[..., Path], server: Server) -> None:
    files = {f"imagenette2-320/{part}/n0{label}/{index}.JPEG": photo(50 * label + index)
             for part in ("train", "val") for label in (1, 2) for index in range(3)}  # fmt: skip
    home = publish("imagenette", tar_gz(files))
    server.cuts = 2
    news: list[tuple[str, int, int]] = []
    data = open_data("imagenette", progress=lambda *what: news.append(what))
    assert {part: len(source) for part, source in data.splits.items()} == {"train": 6, "val": 6}
    assert data.class_names == ("n01", "n02")
    assert data.split("val").image(0)[0, 0].tolist() == [50, 100, 200]
    assert [part is not None for _, part in server.gets] == [False, True, True]  # resumed
    assert {doing.split()[0] for doing, _, _ in news} == {"downloading", "unpacking"}
    assert any("ImageNet's terms" in note and str(home) in note for note in data.notes)


def test_pets(publish: Callable[..., Path]) -> None:
    names = ["Abyssinian_1", "Abyssinian_2", "yorkshire_terrier_10", "yorkshire_terrier_9"]
    images = tar_gz({f"images/{name}.jpg": photo(index) for index, name in enumerate(names)})
    lists = {
        "annotations/list.txt": b"#not needed\n",
        "annotations/trainval.txt": b"#Image CLASS-ID\nAbyssinian_1 1 1 1\nyorkshire_terrier_9 37 2 25\n",
        "annotations/test.txt": b"Abyssinian_2 1 1 1\nyorkshire_terrier_10 37 2 25\n",
    }
    publish("oxford-pets", images, tar_gz(lists))
    data = open_data("oxford-pets", val_share=0)
    assert data.class_names == ("Abyssinian", "yorkshire terrier")
    assert {data.split("train").name(0), data.split("test").name(1)} == {
        "images/Abyssinian_1.jpg", "images/yorkshire_terrier_10.jpg",
    }  # fmt: skip


def test_flowers(publish: Callable[..., Path]) -> None:
    images = tar_gz({f"jpg/image_{number:05d}.jpg": photo(number) for number in range(1, 7)})
    home = publish("flowers102", images, mat(labels=[1, 102, 1, 102, 102, 1]),
                   mat(trnid=[3, 2], valid=[1, 4], tstid=[5, 6]))  # fmt: skip
    data = open_data("flowers102")
    assert data.class_names == ("blackberry lily", "pink primrose")
    with (home / "ready" / "images.csv").open() as file:
        rows = {row["path"][-5]: (row["label"], row["split"]) for row in csv.DictReader(file)}
    assert rows["3"] == ("pink primrose", "train")
    assert rows["5"] == ("blackberry lily", "test")
    assert len(data.split("val")) == 2


def test_a_wrong_hash_or_no_server_is_one_clear_line(publish: Callable[..., Path], server: Server) -> None:
    publish("imagenette", tar_gz({"i/train/a/1.png": photo(1)}))
    server.files["/imagenette2-320.tgz"] += b"!"
    with pytest.raises(DataError, match=r"has SHA-256 .* it was deleted: .* or give the folder, .* of imagenette as"):
        open_data("imagenette")
    del server.files["/imagenette2-320.tgz"]
    with pytest.raises(DataError, match=r"does not exist \(404\), or give"):
        open_data("imagenette")


def test_another_layout_than_known_is_an_error_and_not_kept(publish: Callable[..., Path]) -> None:
    files, _ = cifar(1, {"b/data_batch_1.bin": 3, "b/test_batch.bin": 3})
    home = publish("cifar10", tar_gz({**files, "b/test_batch.bin": b"too short"}))
    with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz: not in the layout .*KeyError"):
        open_data("cifar10")
    home = publish("cifar10", tar_gz({**files, "b/test_batch.bin": b"too short", "b/batches.meta.txt": b"a b c"}))
    (home / "cifar-10-binary.tar.gz").unlink()
    with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz: not in the layout .*ValueError"):
        open_data("cifar10")
    assert not (home / "ready").exists()


def test_a_cache_that_cannot_be_written(publish: Callable[..., Path], tmp_path: Path) -> None:
    publish("cifar10", b"")
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(WriteFailed, match=r"cifar10 cannot be kept there.*RESNETKIT_CACHE"):
        open_data("cifar10")


_PROGRAM = """
import sys
from dataclasses import replace
from resnetkit.catalog.datasets import DATASETS, RemoteFile
from resnetkit.data.opening import open_data
DATASETS["imagenette"] = replace(DATASETS["imagenette"], files=(RemoteFile(url=sys.argv[1], sha256=sys.argv[2]),))
print(len(open_data("imagenette").split("train")))
"""


def test_two_processes_fetch_and_unpack_once(publish: Callable[..., Path], server: Server) -> None:
    content = tar_gz({f"i/{part}/{label}/{index}.png": photo(index)
                      for part in ("train", "val") for label in "ab" for index in range(50)})  # fmt: skip
    publish("imagenette", content)
    words = [sys.executable, "-c", _PROGRAM, f"{server.url}/imagenette2-320.tgz", hashlib.sha256(content).hexdigest()]
    running = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=60)[0] for process in running] == ["100\n"] * 2
    assert len(server.requests) == 1


def hostile(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 3) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname, member.size = kind, link, 0 if link else 3
        tar.addfile(member, None if link else io.BytesIO(b"xyz"))
        if size > 3:
            member = tarfile.TarInfo("large.bin")
            member.size = size
            tar.addfile(member, io.BytesIO(bytes(size)))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (hostile("../outside.txt"), "outside of its folder"),
        (hostile("a/../../outside.txt"), "outside of its folder"),
        (hostile("/tmp/outside.txt"), "outside of its folder"),
        (hostile("a\\..\\outside.txt"), "outside of its folder"),
        (hostile("c:/outside.txt"), "outside of its folder"),
        (hostile("link", tarfile.SYMTYPE, "/etc"), "no plain file"),
        (hostile("link", tarfile.LNKTYPE, "/etc/passwd"), "no plain file"),
        (hostile("pipe", tarfile.FIFOTYPE), "no plain file"),
        (hostile("small.txt", size=65 << 20), "decompression bomb"),
        (hostile("small.txt")[:-30], r"not a whole \.tar\.gz|cut short"),
        (b"no archive", r"not a whole \.tar\.gz"),
    ],
    ids=("up", "around", "absolute", "backslash", "drive", "symlink", "hardlink", "pipe", "bomb", "cut", "other"),
)  # fmt: skip
def test_hostile_archives_write_nothing_outside(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "archive.tar.gz").write_bytes(content)
    with pytest.raises(DataError, match=says):
        unpack(tmp_path / "archive.tar.gz", tmp_path / "in" / "side")
    outside = {path.name for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "in")}
    assert outside == {"archive.tar.gz"}
    assert not (tmp_path / "in" / "side" / "large.bin").exists()
    assert not Path("/tmp/outside.txt").exists()
