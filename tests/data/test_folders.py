import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from resnetkit.data.opening import open_data
from resnetkit.errors import DataError, LabelMismatch

Make = Callable[..., Path]


def names(folder: Path, split: str = "all", **options: object) -> list[str]:
    source = open_data(folder, **options).split(split)
    return [source.name(index) for index in range(len(source))]


def test_class_folders_alone_are_split_by_the_seed(make_folder: Make) -> None:
    folder = make_folder({"dog": 20, "cat": 30})
    data = open_data(folder, seed=1)
    assert data.class_names == ("cat", "dog")
    assert {name: len(part) for name, part in data.splits.items()} == {"train": 45, "val": 5, "all": 50}
    assert np.bincount(data.split("val").labels).tolist() == [3, 2]
    assert data.val_from_train
    assert "5 of 50 training images are held out for validation (seed 1)" in data.notes
    assert sorted(names(folder, "train", seed=1) + names(folder, "val", seed=1)) == sorted(names(folder))
    assert names(folder, "val", seed=1) == names(folder, "val", seed=1)
    assert names(folder, "val", seed=1) != names(folder, "val", seed=2)
    for part in data.splits.values():
        for index in range(len(part)):
            assert part.name(index).split("/")[0] == data.class_names[part.labels[index]]


@pytest.mark.parametrize("val", ["val", "valid", "validation", "VAL"])
def test_parts_in_folders(make_folder: Make, val: str) -> None:
    data = open_data(make_folder({"train/a": 3, "train/b": 2, f"{val}/a": 1, f"{val}/b": 2, "test/a": 2, "test/b": 1}))
    assert {name: len(part) for name, part in data.splits.items()} == {"train": 5, "val": 3, "test": 3}
    assert not data.val_from_train
    assert data.split("val").labels.tolist() == [0, 1, 1]


def test_a_missing_validation_part_comes_from_train_never_from_test(make_folder: Make) -> None:
    folder = make_folder({"train/a": 30, "train/b": 20, "test/a": 10, "test/b": 10})
    data = open_data(folder, val_share=0.2)
    assert {name: len(part) for name, part in data.splits.items()} == {"train": 40, "val": 10, "test": 20}
    assert all(name.startswith("train/") for name in names(folder, "val", val_share=0.2))
    assert all(name.startswith("test/") for name in names(folder, "test"))
    assert set(open_data(folder, val_share=0).splits) == {"train", "test"}


def test_a_lone_test_part_can_be_evaluated_but_not_trained_on(make_folder: Make) -> None:
    data = open_data(make_folder({"test/a": 2, "test/b": 2}))
    assert set(data.splits) == {"test"}
    with pytest.raises(DataError, match="no 'train' part; it has test"):
        data.split("train")


def test_class_folders_may_be_called_test(make_folder: Make) -> None:
    data = open_data(make_folder({"test": 3, "control": 3}))
    assert data.class_names == ("control", "test")


def test_images_are_found_deeper_and_strangers_are_counted(make_folder: Make) -> None:
    folder = make_folder({"cat/indoors/night": 2, "cat": 1, "dog": 2, ".cache/cat": 3, "__MACOSX": 1})
    (folder / "cat" / "._0.png").write_bytes(b"")
    (folder / "cat" / "notes.txt").write_text("fine cats")
    (folder / "README.md").write_text("cats and dogs")
    assert names(folder) == [
        "cat/0.png",
        "cat/indoors/night/0.png",
        "cat/indoors/night/1.png",
        "dog/0.png",
        "dog/1.png",
    ]
    notes = " ".join(open_data(folder).notes)
    assert "left out 2 files that are no images or in no class folder (.md, .txt)" in notes
    assert "left out 3 hidden files and folders" in notes


def test_upper_case_suffixes_count(make_folder: Make) -> None:
    folder = make_folder({"cat": 2, "dog": 2})
    (folder / "cat" / "1.png").rename(folder / "cat" / "1.JPEG")
    assert len(open_data(folder).split("all")) == 4


def test_looping_links_end(make_folder: Make) -> None:
    folder = make_folder({"cat": 2, "dog": 2})
    (folder / "cat" / "again").symlink_to(folder / "cat", target_is_directory=True)
    (folder / "cat" / "up").symlink_to(folder, target_is_directory=True)
    (folder / "dog" / "self").symlink_to(folder / "dog" / "self")
    (folder / "dog" / "gone.png").symlink_to(folder / "nowhere.png")
    os.mkfifo(folder / "dog" / "pipe.png")
    found = names(folder)
    assert [name for name in found if name.startswith("cat/") and "up" not in name] == ["cat/0.png", "cat/1.png"]
    assert [name for name in found if name.startswith("dog/")] == ["dog/0.png", "dog/1.png", "dog/gone.png"]


def test_linked_class_folders_are_followed(make_folder: Make, tmp_path: Path) -> None:
    folder = make_folder({"data/cat": 2, "elsewhere": 3}) / "data"
    (folder / "dog").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert names(folder) == ["cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png", "dog/2.png"]


def test_odd_names_stay_printable_and_readable(make_folder: Make) -> None:
    folder = make_folder({"cat": 1, "dog": 1})
    odd = os.fsencode(folder / "cat") + b"/two\nlines caf\xe9.png"
    os.rename(folder / "cat" / "0.png", odd)
    os.rename(folder / "dog", os.fsencode(folder) + b"/d\xf6g")
    data = open_data(folder, val_share=0)
    assert data.class_names == ("cat", r"d\xf6g")
    assert names(folder, val_share=0) == [r"cat/two\nlines caf\xe9.png", r"d\xf6g/0.png"]
    assert data.split("all").image(0).shape == (12, 16, 3)


@pytest.mark.parametrize(
    ("counts", "error", "message"),
    [
        ({}, DataError, "holds no images in class folders"),
        ({"cat": 0, "dog": 0}, DataError, "holds no images in class folders"),
        ({".": 3}, DataError, "holds no images in class folders"),
        ({"cat": 3}, DataError, r"only one class \(cat\)"),
        ({"train/cat": 3, "val/cat": 2}, DataError, r"only one class \(cat\)"),
        ({"cat": 3, "dog": 0, "fox": 0}, DataError, "classes without images: dog, fox"),
        ({"train/a": 1, "train/b": 1, "val/a": 1, "val/b": 0}, DataError, r"without images: b \(val\)"),
        ({"train/a": 1, "train/b": 1, "val/a": 1, "val/c": 1}, LabelMismatch, "only in val: c; only in train: b"),
        ({"train/a": 1, "train/b": 1, "val/a": 1}, LabelMismatch, "only in val: none; only in train: b"),
        ({"train/a": 1, "train/b": 1, "test/c": 1}, LabelMismatch, "only in test: c; only in train: a, b"),
        ({"train/a": 1, "train/b": 1, "val/a": 1, "valid/a": 1}, DataError, "more than one val part: val/, valid/"),
        ({"cat": 1, "dog": 1}, DataError, "no class has a second image"),
        ({"train": 5, "val/a": 1, "val/b": 1}, DataError, "train/ holds no class folders"),
    ],
)
def test_what_cannot_be_used_says_so_in_one_line(
    make_folder: Make, counts: dict[str, int], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        open_data(make_folder(counts))
    assert "\n" not in str(caught.value)


def test_a_class_with_one_image_stays_in_training(make_folder: Make) -> None:
    data = open_data(make_folder({"common": 30, "rare": 1}))
    assert np.bincount(data.split("train").labels).tolist() == [27, 1]
    assert any("one image" in note and "rare" in note for note in data.notes)


def test_a_flat_test_part_is_left_out(make_folder: Make) -> None:
    data = open_data(make_folder({"train/a": 4, "train/b": 4, "test": 5}))
    assert set(data.splits) == {"train", "val"}
    assert any("the test part has no class folders" in note for note in data.notes)


def test_folders_beside_the_parts_are_named(make_folder: Make) -> None:
    data = open_data(make_folder({"train/a": 4, "train/b": 4, "annotations": 1}))
    assert "left out beside the parts: annotations" in data.notes


def test_no_permission(make_folder: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_folder({"cat": 1, "dog": 1})
    scandir = os.scandir

    def refuse(path: Path | str) -> object:  # root, whom the tests may run as, is refused nothing
        if Path(path).name == "cat":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match="cat: no permission to read it"):
        open_data(folder)
