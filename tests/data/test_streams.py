"""Images that can only be iterated over become the very batches of an indexed source."""

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.data.augmentation import RandomResizedCrop, train_transform
from resnetkit.data.batching import Batch
from resnetkit.data.loader import Loader
from resnetkit.data.opening import open_data
from resnetkit.data.randomness import permutation
from resnetkit.data.sources import Source
from resnetkit.data.streams import Example, IterableStream, StreamLoader
from resnetkit.data.transforms import EvalTransform
from resnetkit.errors import DataError, InvalidArgument, UndecodableImage

TRANSFORM = train_transform(RandomResizedCrop(), Preprocess.for_size(24))


@pytest.fixture
def files(make_folder: Callable[..., Path]) -> Source:
    return open_data(make_folder({"cat": 23, "dog": 18}, size=(40, 56))).split("all")


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def shuffled(source: Source, encoded: bool) -> IterableStream:
    """The source's images one after the other, in the order that a Loader with seed 3 has."""

    def examples_of(epoch: int) -> Iterator[Example]:
        for index in permutation("order", 3, epoch, len(source)):
            pixels = source.image(int(index))
            yield png(pixels) if encoded else pixels, int(source.labels[index])

    return IterableStream(examples_of, len(source), 2, ("cat", "dog"))


def content(batches: Iterator[Batch]) -> list[tuple[bytes, list[int], int]]:
    return [(batch.images.numpy().tobytes(), batch.labels.tolist(), batch.whole) for batch in batches]


@pytest.mark.parametrize("encoded", [False, True], ids=["pixels", "files"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_gives_the_bytes_of_an_indexed_source(files: Source, workers: int, encoded: bool) -> None:
    for batch_size in (8, 7):  # of 41 images: the last one is left out, or there are six at the end
        indexed = Loader(files, TRANSFORM, batch_size, shuffle_seed=3, workers=0)
        streamed = StreamLoader(shuffled(files, encoded), TRANSFORM, batch_size, seed=3, workers=workers)
        assert len(streamed) == len(indexed)
        for epoch, step in ((0, 0), (2, 0), (2, 3), (2, 5)):
            wanted = content(indexed.batches(epoch, step))
            assert content(streamed.batches(epoch, step)) == wanted, (batch_size, epoch, step)


def test_the_shares_of_processes_and_evaluation(files: Source) -> None:
    stream = shuffled(files, encoded=False)
    for share in ((0, 3), (1, 3), (2, 3)):
        one = StreamLoader(stream, TRANSFORM, 10, seed=3, share=share).batches(1)
        assert content(one) == content(Loader(files, TRANSFORM, 10, shuffle_seed=3, share=share).batches(1))
    plain = EvalTransform(Preprocess.for_size(24))
    in_order = IterableStream(lambda _: [(files.image(i), int(files.labels[i])) for i in range(41)], 41, 2)
    batches = list(StreamLoader(in_order, plain, 8).batches())
    assert content(iter(batches)) == content(Loader(files, plain, 8).batches())
    assert np.concatenate([batch.indices for batch in batches]).tolist() == list(range(41))


def test_what_is_wrong_is_said_with_its_place(files: Source) -> None:
    examples: list[Example] = [(files.image(index), 0) for index in range(20)]

    def batches(length: int = 20, start_step: int = 0, **at_9: object) -> list[Batch]:
        odd = at_9.get("image", examples[9][0]), at_9.get("label", 0)
        stream = IterableStream(lambda _: [*examples[:9], odd, *examples[10:]], length, 2)
        return list(StreamLoader(stream, TRANSFORM, 8, seed=0, workers=2).batches(1, start_step))

    assert len(batches(length=12)) == 2, "more images than promised are left for the next time"
    with pytest.raises(DataError, match="ended after 20 of the 30 images that it promised for epoch 2"):
        batches(length=30)
    with pytest.raises(DataError, match="ended after 20 of the 50 images"):
        batches(length=50, start_step=4)
    with pytest.raises(DataError, match="image 10 of the stream has class 2: there are 2"):
        batches(label=2)
    with pytest.raises(UndecodableImage, match="image 10 of the stream: it is not an image"):
        batches(image=b"no image")
    with pytest.raises(InvalidArgument, match="batch size 0"):
        StreamLoader(shuffled(files, encoded=False), TRANSFORM, 0)
    assert [thread for thread in threading.enumerate() if thread.name.startswith("resnetkit")] == []


def test_closing_early_closes_the_stream_and_takes_no_more_than_is_prepared_ahead(files: Source) -> None:
    taken: list[int] = []

    def endless() -> Iterator[Example]:
        try:
            while True:
                taken.append(1)
                yield files.image(0), 0
        finally:
            taken.append(-1)

    batches = StreamLoader(IterableStream(lambda _: endless(), 10**9, 2), TRANSFORM, 8, seed=0, workers=2).batches()
    next(batches)
    assert len(taken) <= 8 * 6
    batches.close()
    assert taken[-1] == -1
