from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from resnetkit.data.opening import open_data
from resnetkit.data.scanning import Scan, scan
from resnetkit.errors import BrokenFiles


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_files_are_listed_with_their_reasons(make_folder: Callable[..., Path], workers: int) -> None:
    folder = make_folder({"train/a": 6, "train/b": 6, "val/a": 2, "val/b": 2}, size=(20, 30))
    (folder / "train/a/1.png").write_bytes(b"")
    cut = (folder / "val/b/0.png").read_bytes()[:300]
    (folder / "val/b/0.png").write_bytes(cut)
    Image.new("L", (30, 20)).save(folder / "train/b/2.png")
    done: list[int] = []
    data = open_data(folder)
    found = scan(*data.splits.values(), workers=workers, progress=done.append)
    assert found.n == 16
    assert list(found.broken) == ["train/a/1.png", "val/b/0.png"]
    assert found.broken["train/a/1.png"] == "the file is empty"
    assert "truncated" in found.broken["val/b/0.png"]
    assert (found.height, found.width, found.grey) == (20, 30, 1)
    assert done == list(range(1, 17))
    with pytest.raises(BrokenFiles, match="2 of 16 images cannot be decoded") as caught:
        found.refuse_broken()
    assert caught.value.files == found.broken
    assert "train/a/1.png: the file is empty" in str(caught.value)
    assert scan(*data.without(found.broken).splits.values(), workers=workers).broken == {}


def test_the_message_lists_twenty_and_counts_the_rest() -> None:
    found = Scan(50, {f"{index}.png": "empty" for index in range(33)}, 0, 0, 0)
    with pytest.raises(BrokenFiles) as caught:
        found.refuse_broken()
    lines = str(caught.value).splitlines()
    assert len(lines) == 22
    assert lines[-1].strip() == "… and 13 more"
    assert len(caught.value.files) == 33


def test_files_that_vanish_are_broken_files(make_folder: Callable[..., Path]) -> None:
    folder = make_folder({"a": 3, "b": 3})
    source = open_data(folder).split("all")
    (folder / "a/0.png").unlink()
    assert scan(source).broken == {"a/0.png": "there is no such file (any more)"}
    assert Scan(3, {}, 1, 1, 0).refuse_broken() is None


def test_all_broken(make_folder: Callable[..., Path]) -> None:
    folder = make_folder({"a": 2, "b": 2})
    for path in folder.glob("*/*.png"):
        path.write_bytes(b"no")
    found = scan(open_data(folder).split("all"))
    assert (len(found.broken), found.height, found.width) == (4, 0, 0)
