import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnetkit.data.cache import CachedSource, cached
from resnetkit.data.opening import open_data
from resnetkit.data.sources import FileSource
from resnetkit.errors import UndecodableImage, WriteFailed


@pytest.fixture
def source(make_folder: Callable[..., Path]) -> FileSource:
    whole = open_data(make_folder({"photos/a": 5, "photos/b": 4}, size=(30, 40)) / "photos").split("all")
    assert isinstance(whole, FileSource)
    return whole


def pixels_of(source: FileSource | CachedSource) -> list[list[int]]:
    return [source.image(index).tolist() for index in range(len(source))]


@pytest.mark.parametrize("workers", [0, 2])
def test_small_images_are_kept_as_they_are(source: FileSource, tmp_path: Path, workers: int) -> None:
    copy = cached(source, tmp_path / "cache", short_side=30, workers=workers)
    assert pixels_of(copy) == pixels_of(source)
    assert pixels_of(cached(source, tmp_path / "cache", short_side=45)) == pixels_of(source)
    assert [copy.name(index) for index in range(9)] == [source.name(index) for index in range(9)]
    assert copy.labels.tolist() == source.labels.tolist()
    some = copy.subset(np.array([7, 2]))
    assert (some.name(0), some.labels.tolist()) == (source.name(7), source.labels[[7, 2]].tolist())
    assert some.image(1).tolist() == source.image(2).tolist()


def test_large_images_are_reduced_to_the_short_side(source: FileSource, tmp_path: Path) -> None:
    copy = cached(source, tmp_path / "cache", short_side=15)
    assert {copy.image(index).shape for index in range(9)} == {(15, 20, 3)}
    expected = np.array(Image.fromarray(source.image(0)).resize((20, 15), Image.Resampling.BILINEAR))
    assert np.abs(copy.image(0).astype(int) - expected).max() <= 1


def decoded(source: FileSource, folder: Path, short_side: int = 30) -> int:
    """How many images a call decodes."""
    done: list[int] = []
    cached(source, folder, short_side=short_side, progress=done.append)
    return len(done)


def test_nothing_is_decoded_twice_unless_something_changed(source: FileSource, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    assert decoded(source, folder) == 9
    assert decoded(source, folder) == 0
    assert decoded(source, folder, short_side=20) == 9
    assert decoded(source.with_channels(1), folder) == 9
    os.utime(source.path(3), (0, 0))
    assert decoded(source, folder) == 9
    Image.new("RGB", (8, 8), "red").save(source.path(3))
    assert cached(source, folder, short_side=30).image(3).tolist() == np.full((8, 8, 3), [255, 0, 0]).tolist()


@pytest.mark.parametrize("cut", [1, 24, 30])
def test_an_interrupted_build_goes_on(source: FileSource, tmp_path: Path, cut: int) -> None:
    def stop(done: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    folder = tmp_path / "cache"
    with pytest.raises(KeyboardInterrupt):
        cached(source, folder, short_side=30, progress=stop)
    (place,) = folder.iterdir()
    with (place / "index").open("r+b") as index:  # as a power cut would leave it: the last record half written
        index.truncate(4 * 24 - cut)
    assert decoded(source, folder) == (6 if cut <= 24 else 7)
    assert pixels_of(cached(source, folder, short_side=30)) == pixels_of(source)


def test_writing_to_an_image_leaves_the_cache_alone(source: FileSource, tmp_path: Path) -> None:
    copy = cached(source, tmp_path / "cache", short_side=30)
    before = copy.image(0).tolist()
    copy.image(0)[:] = 0
    assert cached(source, tmp_path / "cache", short_side=30).image(0).tolist() == before


def test_failures_are_named(source: FileSource, tmp_path: Path) -> None:
    Path(source.path(2)).write_bytes(b"")
    with pytest.raises(UndecodableImage, match=r"a/2\.png: the file is empty"):
        cached(source, tmp_path / "cache", short_side=30)
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteFailed, match="the cache cannot be written"):
        cached(source, tmp_path / "file", short_side=30)
