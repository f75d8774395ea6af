import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnetkit.data.opening import open_data
from resnetkit.data.sources import ArraySource
from resnetkit.errors import DataError, InvalidArgument, UnknownName

Make = Callable[..., Path]


def test_digits_have_a_test_part_that_no_seed_changes() -> None:
    first, second = open_data("digits", seed=0), open_data("digits", seed=1)
    tests = [data.split("test") for data in (first, second)]
    assert [len(test) for test in tests] == [360, 360]
    names = [[test.name(index) for index in range(360)] for test in tests]
    assert names[0] == names[1]
    assert np.bincount(tests[0].labels).min() >= 34
    assert first.split("val").name(0) != second.split("val").name(0)
    parts = [first.split(name) for name in ("train", "val", "test")]
    rows = np.concatenate([part.rows for part in parts if isinstance(part, ArraySource)])
    assert sorted(rows.tolist()) == list(range(1797))
    assert first.class_names == tuple("0123456789")
    assert (first.channels, first.image_size, first.flip) == (1, (8, 8), False)
    pixels = first.split("test").image(0)
    assert pixels.dtype == np.uint8
    assert max(first.split("train").image(i).max() for i in range(20)) == 255


def test_digits_in_colour() -> None:
    data = open_data("digits", channels=3)
    assert data.channels == 3
    assert data.split("train").image(0).shape == (8, 8, 3)


def test_a_path_comes_before_a_built_in_name(make_folder: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_folder({"digits/a": 4, "digits/b": 4})
    monkeypatch.chdir(folder)
    data = open_data("digits")
    assert data.class_names == ("a", "b")
    assert data.flip
    assert data.name == "digits"


def test_the_current_folder_has_a_name(make_folder: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_folder({"a": 2, "b": 2}))
    assert open_data(".").name == Path.cwd().name


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("digit", UnknownName, "no data set is called 'digit'; did you mean digits"),
        ("no/such/folder", DataError, "no/such/folder: there is no such file or folder"),
        ("gone.npz", DataError, "there is no such file"),
        ("a\0b", UnknownName, "no data set is called"),
        ("x" * 5000, DataError, "name too long"),
    ],
)
def test_what_is_not_there(spec: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        open_data(spec)


def test_a_file_where_a_folder_is_meant(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"photo\.jpg is a file, not a data set"):
        open_data(tmp_path / "photo.jpg")


def test_impossible_arguments() -> None:
    with pytest.raises(InvalidArgument, match="2 channels"):
        open_data("digits", channels=2)
    with pytest.raises(InvalidArgument, match="val_share"):
        open_data("digits", val_share=1.0)


def test_grey_files_are_one_channel_and_mixed_ones_three(make_folder: Make) -> None:
    folder = make_folder({"a": 4, "b": 4})
    assert open_data(folder).channels == 3
    for path in folder.glob("*/*.png"):
        Image.open(path).convert("L").save(path)
    grey = open_data(folder)
    assert grey.channels == 1
    assert grey.split("train").image(0).shape == (12, 16, 1)
    assert any("grey" in note for note in grey.notes)
    assert open_data(folder, channels=3).split("train").image(0).shape == (12, 16, 3)


def test_the_fingerprint_knows_the_data_wherever_it_lies(make_folder: Make, tmp_path: Path) -> None:
    folder = make_folder({"here/a": 5, "here/b": 5}) / "here"
    fingerprint = open_data(folder).fingerprint
    moved = tmp_path / "there"
    shutil.copytree(folder, moved)
    assert open_data(moved, seed=9, val_share=0.5, channels=1).fingerprint == fingerprint
    (moved / "a" / "0.png").rename(moved / "a" / "first.png")
    assert open_data(moved).fingerprint != fingerprint
    (moved / "a" / "first.png").rename(moved / "b" / "00.png")
    assert open_data(moved).fingerprint not in (fingerprint, open_data(folder).fingerprint)


def test_fingerprints_of_arrays(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 4), dtype=np.uint8)
    labels = np.arange(20) % 2

    def fingerprint(images: np.ndarray, labels: np.ndarray, **options: object) -> str:
        np.savez(tmp_path / "data.npz", train_images=images, train_labels=labels)
        return open_data(tmp_path / "data.npz", **options).fingerprint

    first = fingerprint(images, labels)
    assert fingerprint(images, labels, seed=3, channels=3) == first
    assert fingerprint(images, 1 - labels) != first
    assert fingerprint(255 - images, labels) != first


def test_leaving_out_broken_images_does_not_move_others(make_folder: Make) -> None:
    data = open_data(make_folder({"a": 20, "b": 20}))
    val = data.split("val")
    held = [val.name(index) for index in range(len(val))]
    less = data.without([held[0]])
    assert [less.split("val").name(index) for index in range(len(less.split("val")))] == held[1:]
    assert len(less.split("all")) == 39
    assert less.fingerprint == data.fingerprint


def test_real_data(real_data: Path) -> None:
    imagenette = open_data(real_data / "imagenette")
    assert {name: len(part) for name, part in imagenette.splits.items()} == {"train": 1000, "val": 400}
    assert imagenette.class_names is not None
    assert imagenette.class_names[0] == "n01440764"
    assert imagenette.channels == 3
    cifar = open_data(real_data / "cifar10_20k.npz")
    assert {name: len(part) for name, part in cifar.splits.items()} == {"train": 9000, "val": 1000, "test": 10000}
    assert np.bincount(cifar.split("val").labels).tolist() == [100] * 10
