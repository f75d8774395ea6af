import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.data.augmentation import PadAndCrop, RandomResizedCrop, train_transform
from resnetkit.data.batching import Batch
from resnetkit.data.loader import Loader
from resnetkit.data.opening import open_data
from resnetkit.data.pixel_policies import ColourJitter, PixelPolicy, RandAugment, RandomErasing, TrivialAugment
from resnetkit.data.sources import ArraySource, Source
from resnetkit.data.transforms import EvalTransform
from resnetkit.errors import DataError, InvalidArgument, UndecodableImage


@pytest.fixture
def files(make_folder: Callable[..., Path]) -> Source:
    return open_data(make_folder({"cat": 23, "dog": 18}, size=(40, 56)), seed=1).split("all")


@pytest.fixture(scope="module")
def array() -> ArraySource:
    pixels = np.random.default_rng(0).integers(0, 256, (41, 16, 16, 3), dtype=np.uint8)
    return ArraySource(pixels, np.arange(41) % 5, None, 5, np.arange(41))


def photo_loader(source: Source, workers: int, batch_size: int = 8, seed: int | None = 3) -> Loader:
    transform = train_transform(RandomResizedCrop(), Preprocess.for_size(24))
    return Loader(source, transform, batch_size, shuffle_seed=seed, workers=workers)


def content(batches: list[Batch]) -> list[tuple[bytes, list[int], list[int]]]:
    return [(batch.images.numpy().tobytes(), batch.labels.tolist(), batch.indices.tolist()) for batch in batches]


POLICIES: dict[str, tuple[PixelPolicy, ...]] = {
    "crop": (),
    "trivial, erasing": (TrivialAugment(), RandomErasing(probability=0.8)),
    "rand, jitter": (RandAugment(deviation=0.5), ColourJitter(hue=0.1)),
}


def full_loader(source: Source, workers: int, policy: str) -> Loader:
    """With everything that chance decides: weights, repeats, crop, mirror and what follows."""
    transform = train_transform(RandomResizedCrop(), Preprocess.for_size(24), POLICIES[policy])
    weights = np.linspace(0.5, 2, len(source))
    return Loader(source, transform, 8, shuffle_seed=3, workers=workers, weights=weights, repeats=2)


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("policy", POLICIES)
def test_batches_are_the_same_bytes_for_any_number_of_workers(files: Source, workers: int, policy: str) -> None:
    alone = content(list(full_loader(files, 0, policy).batches(epoch=2)))
    assert content(list(full_loader(files, workers, policy).batches(epoch=2))) == alone
    assert len({images for images, _, _ in alone}) == 5


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
@pytest.mark.parametrize("step", [0, 1, 3, 4, 5])
@pytest.mark.parametrize("policy", POLICIES)
def test_an_epoch_resumed_at_any_step_gives_the_same_bytes(files: Source, workers: int, step: int, policy: str) -> None:
    whole = content(list(full_loader(files, 0, policy).batches(epoch=1)))
    assert content(list(full_loader(files, workers, policy).batches(epoch=1, start_step=step))) == whole[step:]


def test_augmentation_belongs_to_the_position_not_to_the_batch(files: Source, array: ArraySource) -> None:
    shift = train_transform(PadAndCrop(), Preprocess.for_size(16))
    for loaders in (
        [photo_loader(files, 0, batch_size) for batch_size in (8, 5)],
        [Loader(array, shift, batch_size, shuffle_seed=0) for batch_size in (8, 5)],
    ):
        one, other = (torch.cat([batch.images for batch in loader.batches()]) for loader in loaders)
        assert torch.equal(one, other)


def test_arrays_resume_too(array: ArraySource) -> None:
    transform = train_transform(PadAndCrop(), Preprocess.for_size(16))
    loader = Loader(array, transform, 8, shuffle_seed=0)
    assert loader.workers == 0
    whole = content(list(loader.batches(epoch=4)))
    assert content(list(loader.batches(epoch=4, start_step=2))) == whole[2:]
    assert content(list(Loader(array, transform, 8, shuffle_seed=0, workers=2).batches(epoch=4))) == whole


def test_seed_and_epoch_change_order_and_augmentation(files: Source) -> None:
    def first(seed: int, epoch: int) -> tuple[list[int], bytes]:
        batch = next(photo_loader(files, 0, seed=seed).batches(epoch))
        return batch.indices.tolist(), batch.images.numpy().tobytes()

    assert first(3, 0) == first(3, 0)
    assert first(3, 0)[0] != first(3, 1)[0]
    assert first(3, 0)[0] != first(4, 0)[0]


def test_a_picture_drawn_twice_is_not_augmented_alike(files: Source) -> None:
    twice = files.subset(np.zeros(8, np.int64))
    images = next(photo_loader(twice, 0).batches()).images
    assert len({image.numpy().tobytes() for image in images}) == 8


def test_every_image_comes_once_with_its_label(array: ArraySource) -> None:
    loader = Loader(array, EvalTransform(Preprocess.for_size(16)), 10)
    batches = list(loader.batches())
    assert [len(batch.labels) for batch in batches] == [10, 10, 10, 10, 1]
    assert len(loader) == 5
    assert np.concatenate([batch.indices for batch in batches]).tolist() == list(range(41))
    for batch in batches:
        assert batch.images.dtype == torch.uint8
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert batch.labels.dtype == torch.int64
        assert batch.labels.tolist() == array.labels[batch.indices].tolist()
        assert batch.waited >= 0
        np.testing.assert_array_equal(batch.images.permute(0, 2, 3, 1), array.pixels[batch.indices])


@pytest.mark.parametrize("workers", [0, 2])
def test_files_arrive_at_their_own_place(files: Source, workers: int) -> None:
    loader = Loader(files, EvalTransform(Preprocess.for_size((40, 56), crop_mode="squash")), 16, workers=workers)
    images = torch.cat([batch.images for batch in loader.batches()]).permute(0, 2, 3, 1).numpy()
    for index in range(len(files)):
        np.testing.assert_array_equal(images[index], files.image(index))


def test_training_drops_a_last_batch_of_one_and_no_other(array: ArraySource) -> None:
    transform = train_transform(PadAndCrop(), Preprocess.for_size(16))
    for batch_size, sizes in ((8, [8] * 5), (10, [10] * 4), (7, [7] * 5 + [6]), (1, [1] * 41), (64, [41])):
        loader = Loader(array, transform, batch_size, shuffle_seed=0)
        assert [len(batch.labels) for batch in loader.batches()] == sizes
        assert len(loader) == len(sizes)
    dropped = [set(range(41)) - set(np.concatenate([b.indices for b in Loader(array, transform, 8, shuffle_seed=0)
               .batches(epoch)]).tolist()) for epoch in range(4)]  # fmt: skip
    assert all(len(one) == 1 for one in dropped)
    assert len(set.union(*dropped)) > 1


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_file_is_named(make_folder: Callable[..., Path], workers: int) -> None:
    folder = make_folder({"cat": 9, "dog": 9})
    (folder / "cat" / "4.png").write_bytes(b"no image")
    source = open_data(folder).split("all")
    with pytest.raises(UndecodableImage, match=r"^cat/4\.png: it is not an image"):
        list(Loader(source, EvalTransform(Preprocess.for_size(8)), 4, workers=workers).batches())
    assert loader_threads() == []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_fault_of_a_transform_names_the_image(files: Source, workers: int) -> None:
    class Faulty:
        columns, size = 0, (8, 8)

        def __call__(self, pixels: object, numbers: object) -> torch.Tensor:
            raise ZeroDivisionError("so it is")

        batch = __call__

    with pytest.raises(DataError, match=r"^cat/0\.png: ZeroDivisionError: so it is"):
        list(Loader(files, Faulty(), 4, workers=workers).batches())


def test_closing_early_leaves_no_thread_and_torchs_threads_as_they_were(files: Source) -> None:
    torch.set_num_threads(2)
    try:
        batches = photo_loader(files, 3).batches()
        next(batches)
        assert len(loader_threads()) > 0
        batches.close()
        assert loader_threads() == []
        assert torch.get_num_threads() == 2
        seen: list[int] = []
        thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert seen == [2]
    finally:
        torch.set_num_threads(1)


def loader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("resnetkit")]


@pytest.mark.parametrize("workers", [0, 2])
def test_ctrl_c_ends_the_process_at_once(make_folder: Callable[..., Path], workers: int) -> None:
    folder = make_folder({"cat": 10, "dog": 10})
    # The handler is set anew: a test run in the background of a shell hands its children an ignored SIGINT.
    program = f"""
import signal
from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.data.loader import Loader
from resnetkit.data.opening import open_data
from resnetkit.data.transforms import EvalTransform
signal.signal(signal.SIGINT, signal.default_int_handler)
loader = Loader(open_data({str(folder)!r}).split("all"), EvalTransform(Preprocess.for_size(64)), 4, workers={workers})
print("ready", flush=True)
while True:
    for batch in loader.batches():
        pass
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=20)
        finally:
            process.kill()
        assert process.stderr.read().rstrip().endswith("KeyboardInterrupt")


def test_impossible_settings_are_refused(array: ArraySource) -> None:
    transform = EvalTransform(Preprocess.for_size(16))
    with pytest.raises(InvalidArgument, match="batch size 0"):
        Loader(array, transform, 0)
    with pytest.raises(InvalidArgument, match="-1 workers"):
        Loader(array, transform, 1, workers=-1)


def drawn(array: ArraySource, epochs: int = 1, **settings: object) -> np.ndarray:
    loader = Loader(array, train_transform(PadAndCrop(), Preprocess.for_size(16)), 1, shuffle_seed=0, **settings)
    return np.stack([np.concatenate([b.indices for b in loader.batches(epoch)]) for epoch in range(epochs)])


def test_images_are_drawn_in_proportion_to_their_weights(array: ArraySource) -> None:
    weights = np.where(np.arange(41) % 5 == 0, 3.0, 0.5)
    weights[-1] = weights[7] = 0.0
    orders = drawn(array, 40, weights=weights)
    times = np.stack([np.bincount(order, minlength=41) for order in orders])
    exact = weights / weights.sum() * 41
    assert (np.abs(times - exact) < 2).all()
    np.testing.assert_allclose(times.mean(axis=0), exact, atol=0.25)
    assert times[:, 7].sum() == times[:, 40].sum() == 0
    assert len({order.tobytes() for order in orders}) == 40
    assert (np.diff(orders[0]) < 0).any()  # shuffled


def test_repeats_stand_side_by_side_and_are_augmented_differently(array: ArraySource) -> None:
    (order,) = drawn(array, repeats=3)
    assert len(order) == 41
    firsts = order[::3]
    assert len(set(firsts)) == 14
    assert np.array_equal(order, np.repeat(firsts, 3)[:41])
    loader = Loader(array, train_transform(RandomResizedCrop(), Preprocess.for_size(16)), 6, shuffle_seed=0, repeats=3)
    images = next(loader.batches()).images
    assert len({image.numpy().tobytes() for image in images}) == 6


def test_several_labels_arrive_with_their_images(array: ArraySource) -> None:
    targets = np.random.default_rng(0).integers(0, 2, (41, 5)).astype(np.uint8)
    source = ArraySource(array.pixels, array.labels, None, 5, np.arange(41), targets=targets)
    for batch in Loader(source, train_transform(PadAndCrop(), Preprocess.for_size(16)), 8, shuffle_seed=0).batches():
        assert batch.targets is not None
        assert batch.targets.dtype == torch.float32
        assert np.array_equal(batch.targets, targets[batch.indices])
    assert next(Loader(array, EvalTransform(Preprocess.for_size(16)), 8).batches()).targets is None


def test_weights_and_repeats_are_for_training_and_must_fit(array: ArraySource) -> None:
    transform = EvalTransform(Preprocess.for_size(16))
    for wrong in ({"repeats": 2}, {"weights": np.ones(41)}):
        with pytest.raises(InvalidArgument, match="shuffle_seed"):
            Loader(array, transform, 8, **wrong)
    for weights in (np.ones(40), np.zeros(41), np.full(41, -1.0)):
        with pytest.raises(InvalidArgument, match="weights of shape"):
            Loader(array, transform, 8, shuffle_seed=0, weights=weights)
    with pytest.raises(InvalidArgument, match="0 repeats"):
        Loader(array, transform, 8, shuffle_seed=0, repeats=0)


@pytest.mark.parametrize("count", [2, 3, 7])
def test_the_shares_of_several_processes_are_the_batch_of_one(array: ArraySource, count: int) -> None:
    transform = train_transform(PadAndCrop(), Preprocess.for_size(16))

    def batches(share: tuple[int, int]) -> list[Batch]:
        # 41 images in batches of 13: the last has two, fewer than there may be processes.
        return list(Loader(array, transform, 13, shuffle_seed=0, share=share, workers=0).batches(epoch=1))

    alone, shares = batches((0, 1)), [batches((each, count)) for each in range(count)]
    assert all(len(each) == len(alone) for each in shares)
    for step, whole in enumerate(alone):
        parts = [each[step] for each in shares]
        assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
        assert torch.equal(torch.cat([part.labels for part in parts]), whole.labels)
        assert {part.whole for part in parts} == {len(whole.labels)}
