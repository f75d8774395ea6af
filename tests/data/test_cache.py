import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.data.augmentation import RandomResizedCrop, train_transform
from resnetkit.data.cache import CachedSource, cached, with_cache
from resnetkit.data.loader import Loader
from resnetkit.data.opening import open_data
from resnetkit.data.scanning import scan
from resnetkit.data.sources import FileSource
from resnetkit.data.transforms import EvalTransform
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
    # Validation of what was reduced to its own size sees the very pixels it would have made itself.
    whole = EvalTransform(Preprocess(size=(12, 12), resize=15))
    for index in range(9):
        assert torch.equal(whole(copy.image(index)), whole(source.image(index)))
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
    assert decoded(source.subset(np.array([8, 1, 4])), folder) == 0
    assert decoded(source, folder, short_side=20) == 9
    assert decoded(source.with_channels(1), folder) == 9
    os.utime(source.path(3), (0, 0))
    assert decoded(source, folder) == 1
    Image.new("RGB", (8, 8), "red").save(source.path(3))
    assert cached(source, folder, short_side=30).image(3).tolist() == np.full((8, 8, 3), [255, 0, 0]).tolist()
    assert pixels_of(cached(source, folder, short_side=30)) == pixels_of(source)


def test_parts_share_a_cache_and_grow_it(source: FileSource, tmp_path: Path) -> None:
    some, others = source.subset(np.array([0, 5])), source.subset(np.array([1, 2, 5]))
    assert decoded(some, tmp_path / "cache") == 2
    early = cached(some, tmp_path / "cache", short_side=30)
    assert decoded(others, tmp_path / "cache") == 2
    assert pixels_of(early) == pixels_of(some)
    assert decoded(source, tmp_path / "cache") == 5
    assert pixels_of(cached(source, tmp_path / "cache", short_side=30)) == pixels_of(source)


def test_what_is_mostly_of_former_files_is_built_anew(source: FileSource, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    old = cached(source, folder, short_side=30)
    before = pixels_of(old)
    sizes = []
    for time in (1, 2, 3):
        for index in range(9):
            os.utime(source.path(index), (time, time))
        assert decoded(source, folder) == 9
        sizes.append(next(folder.iterdir()).joinpath("pixels").stat().st_size // (9 * 30 * 40 * 3))
    assert sizes == [2, 3, 1]
    assert pixels_of(old) == before


def test_a_data_set_is_cached_by_parts_with_one_count(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    dataset = open_data(make_folder({"photos/a": 20, "photos/b": 20}) / "photos", val_share=0.25)
    done: list[int] = []
    copy = with_cache(dataset, tmp_path / "cache", short_side=256, progress=done.append)
    assert done == list(range(1, 41))
    assert copy.fingerprint == dataset.fingerprint
    for part in ("train", "val"):
        assert isinstance(copy.split(part), CachedSource)
        assert pixels_of(copy.split(part)) == pixels_of(dataset.split(part))
    digits = open_data("digits")
    assert with_cache(digits, tmp_path / "cache", short_side=8).splits == digits.splits


def test_batches_from_the_cache_are_those_of_the_files(source: FileSource, tmp_path: Path) -> None:
    transform = train_transform(RandomResizedCrop(), Preprocess.for_size(16))
    copy = cached(source, tmp_path / "cache", short_side=30)
    batches = [[b.images for b in Loader(each, transform, 4, shuffle_seed=0).batches()] for each in (source, copy)]
    assert all(torch.equal(one, other) for one, other in zip(*batches, strict=True))


@pytest.mark.parametrize("cut", [1, 32, 40])
def test_an_interrupted_build_goes_on(source: FileSource, tmp_path: Path, cut: int) -> None:
    def stop(done: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    folder = tmp_path / "cache"
    with pytest.raises(KeyboardInterrupt):
        cached(source, folder, short_side=30, progress=stop)
    (place,) = folder.iterdir()
    with (place / "index").open("r+b") as index:  # as a power cut would leave it: the last record half written
        index.truncate(4 * 32 - cut)
    assert decoded(source, folder) == (6 if cut <= 32 else 7)
    assert pixels_of(cached(source, folder, short_side=30)) == pixels_of(source)


def test_writing_to_an_image_leaves_the_cache_alone(source: FileSource, tmp_path: Path) -> None:
    copy = cached(source, tmp_path / "cache", short_side=30)
    before = copy.image(0).tolist()
    copy.image(0)[:] = 0
    assert cached(source, tmp_path / "cache", short_side=30).image(0).tolist() == before


def test_pixels_that_never_reached_the_disk_are_made_again(source: FileSource, tmp_path: Path) -> None:
    cached(source, tmp_path / "cache", short_side=30)
    (place,) = (tmp_path / "cache").iterdir()
    with (place / "pixels").open("r+b") as pixels:
        pixels.truncate(5 * 30 * 40 * 3 + 7)
    assert decoded(source, tmp_path / "cache") == 4
    assert pixels_of(cached(source, tmp_path / "cache", short_side=30)) == pixels_of(source)


_PROGRAM = """
import sys
from pathlib import Path
from resnetkit.data.cache import cached
from resnetkit.data.opening import open_data
source = open_data(sys.argv[1]).split("all")
done = []
copy = cached(source, Path(sys.argv[2]), short_side=30, progress=done.append)
assert all((copy.image(i) == source.image(i)).all() for i in range(len(source)))
print(len(done))
"""


def test_processes_build_one_cache_together(source: FileSource, tmp_path: Path) -> None:
    words = [sys.executable, "-c", _PROGRAM, str(source.root), str(tmp_path / "cache")]
    running = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    counts = [int(each.communicate(timeout=60)[0]) for each in running]
    assert sorted(counts) == [0, 9]


def test_failures_are_named_when_asked_for(source: FileSource, tmp_path: Path) -> None:
    Path(source.path(2)).write_bytes(b"")
    copy = cached(source, tmp_path / "cache", short_side=30)
    assert decoded(source, tmp_path / "cache") == 0
    with pytest.raises(UndecodableImage, match=r"a/2\.png: the file is empty"):
        copy.image(2)
    assert scan(copy).broken == {"a/2.png": "the file is empty"}
    assert copy.image(3).tolist() == source.image(3).tolist()
    only = source.subset(np.array([2]))
    with pytest.raises(UndecodableImage):
        cached(only, tmp_path / "other", short_side=30).image(0)
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteFailed, match=r"the cache cannot be written.*RESNETKIT_CACHE"):
        cached(source, tmp_path / "file", short_side=30)
