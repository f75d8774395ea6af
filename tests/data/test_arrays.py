import zipfile
from pathlib import Path

import numpy as np
import pytest

from resnetkit.data.opening import open_data
from resnetkit.errors import DataError, LabelMismatch

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 5, 6, 3), dtype=np.uint8)
LABELS = np.arange(12)[:, None] % 3


def write(folder: Path, **arrays: object) -> Path:
    np.savez(folder / "data.npz", **arrays)
    return folder / "data.npz"


def test_medmnist_layout(tmp_path: Path) -> None:
    path = write(
        tmp_path, train_images=IMAGES, train_labels=LABELS, val_images=IMAGES[:3], val_labels=LABELS[:3],
        test_images=IMAGES[:2], test_labels=LABELS[:2],
    )  # fmt: skip
    data = open_data(path)
    assert {name: len(part) for name, part in data.splits.items()} == {"train": 12, "val": 3, "test": 2}
    assert data.class_names is None
    assert data.num_classes == data.split("test").num_classes == 3
    assert data.image_size == (5, 6)
    assert data.split("train").labels.dtype == np.int64
    np.testing.assert_array_equal(data.split("train").image(4), IMAGES[4])
    assert data.split("test").name(1) == "test/1"


def test_grey_and_named_classes(tmp_path: Path) -> None:
    path = write(tmp_path, train_images=IMAGES[..., 0], train_labels=LABELS[:, 0], class_names=["a", "b", "c"])
    data = open_data(path, val_share=0.25)
    assert data.channels == 1
    assert data.class_names == ("a", "b", "c")
    assert len(data.split("val")) == 3
    for part in data.splits.values():
        for index in range(len(part)):
            row = int(part.name(index).removeprefix("train/"))
            assert part.labels[index] == LABELS[row, 0]
            np.testing.assert_array_equal(part.image(index)[..., 0], IMAGES[row, ..., 0])
    assert open_data(path, channels=3).split("train").image(0).shape == (5, 6, 3)


def test_a_test_part_alone_may_lack_classes(tmp_path: Path) -> None:
    data = open_data(write(tmp_path, test_images=IMAGES[:2], test_labels=[0, 2]))
    assert data.num_classes == 3


def test_whole_numbers_stored_as_floats_are_taken(tmp_path: Path) -> None:
    data = open_data(write(tmp_path, train_images=IMAGES, train_labels=LABELS.astype(float)))
    assert data.split("train").labels.dtype == np.int64


def train(images: np.ndarray = IMAGES, labels: object = LABELS, **others: object) -> dict[str, object]:
    return {"train_images": images, "train_labels": labels, **others}


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ({"x": IMAGES, "y": LABELS}, DataError, "no array is called train_images.*it has x, y"),
        ({"train_images": IMAGES}, DataError, "train_images but no train_labels"),
        (train(IMAGES / 255), DataError, "train_images are float64: save them as uint8"),
        (train(IMAGES[..., :2]), DataError, r"train_images have shape \(12, 5, 6, 2\)"),
        (train(IMAGES[0, 0]), DataError, r"train_images have shape \(6, 3\)"),
        (train(IMAGES[:0], LABELS[:0]), DataError, r"train_images have shape \(0, 5, 6, 3\)"),
        (train(labels=LABELS[:5]), DataError, "12 train_images but 5 train_labels"),
        (train(labels=LABELS - 1), DataError, "train_labels hold -1 at image 0"),
        (train(labels=np.where(LABELS == 2, np.nan, 0.0)), DataError, "train_labels hold nan at image 2"),
        (train(labels=LABELS + 0.5), DataError, "train_labels hold 0.5 at image 0"),
        (train(labels=np.repeat(LABELS, 4, 1)), DataError, r"train_labels have shape \(12, 4\)"),
        (train(labels=["a"] * 12), DataError, "expected whole numbers"),
        (train(labels=LABELS * 2), LabelMismatch, "2 of 5 classes have no training image: 1, 3"),
        (train(labels=LABELS * 0), DataError, "only one class"),
        (train(class_names=["a", "b"]), DataError, "hold class 2 at image 2, but class_names names only 0 to 1"),
        (train(class_names=["a", "b", "a"]), DataError, "class_names holds a name twice"),
        (train(test_images=IMAGES, test_labels=LABELS + 1), LabelMismatch, "no training image: 3"),
        (train(test_images=IMAGES[:, 1:], test_labels=LABELS), DataError, "images of different shapes"),
    ],
)
def test_wrong_arrays_are_named(
    tmp_path: Path, arrays: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        open_data(write(tmp_path, **arrays))
    assert "\n" not in str(caught.value)


def test_pickled_objects_are_refused_and_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return Path.write_text, (tmp_path / "sprung", "!")

    path = write(tmp_path, train_images=np.array([Trap()], dtype=object), train_labels=[0])
    with pytest.raises(DataError, match="could run code"):
        open_data(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nonsense", b"some text"])
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"data\.npz is not a readable \.npz file"):
        open_data(tmp_path / "data.npz")


def test_a_damaged_member(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("train_images.npy", b"\x93NUMPY nonsense")
    with pytest.raises(DataError, match="not a readable"):
        open_data(tmp_path / "data.npz")


def test_several_labels_an_image(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    arrays = {}
    for part, n in (("train", 12), ("test", 5)):
        arrays[f"{part}_images"] = random.integers(0, 256, (n, 8, 8), dtype=np.uint8)
        arrays[f"{part}_labels"] = random.integers(0, 2, (n, 4))
    np.savez(tmp_path / "x.npz", **arrays)
    data = open_data(tmp_path / "x.npz")
    assert data.several_labels
    assert data.num_classes == 4
    assert np.array_equal(data.split("test").targets, arrays["test_labels"])
    arrays["test_labels"] = np.arange(5)
    np.savez(tmp_path / "y.npz", **arrays)
    with pytest.raises(DataError, match="labels of its parts differ in their classes"):
        open_data(tmp_path / "y.npz")
