from math import log

import numpy as np
import pytest
import torch

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.catalog.recipe import PaddingMode
from resnetkit.data.augmentation import (
    PadAndCrop,
    RandomResizedCrop,
    Unaugmented,
    crop_box,
    policy_for,
    train_transform,
)
from resnetkit.data.randomness import uniform
from resnetkit.data.transforms import EvalTransform
from resnetkit.errors import InvalidArgument

GREY = {"mean": (0.5,), "std": (0.25,)}


def numbers(count: int, columns: int) -> np.ndarray:
    return uniform("augment", 0, 0, count=count, columns=columns)


def test_policies_by_image_size() -> None:
    assert policy_for((224, 224)) == RandomResizedCrop()
    assert policy_for((64, 64)) == PadAndCrop()
    assert policy_for((64, 65)) == RandomResizedCrop()
    assert policy_for((224, 224), kind="small", flip=False) == PadAndCrop(flip=False)
    assert policy_for((32, 32), kind="photo") == RandomResizedCrop()
    assert policy_for((32, 32), kind="none") == Unaugmented()


def test_crops_have_the_published_distribution() -> None:
    policy = RandomResizedCrop()
    boxes = np.array([crop_box(1000, 1000, policy, row) for row in numbers(4000, 23)], float)
    top, left, height, width = boxes.T
    share = height * width / 1e6
    ratio = np.log(width / height)
    assert share.min() >= 0.079
    assert share.max() <= 1.0
    assert np.abs(ratio).max() <= log(4 / 3) + 0.01
    # Small crops are never thrown back for not fitting, so there the area is uniform and the ratio log-uniform.
    small = share < 0.5
    counts, _ = np.histogram(share[small], bins=6, range=(0.08, 0.5))
    np.testing.assert_allclose(counts / counts.mean(), 1, atol=0.15)
    counts, _ = np.histogram(ratio[small], bins=6, range=(-log(4 / 3), log(4 / 3)))
    np.testing.assert_allclose(counts / counts.mean(), 1, atol=0.15)
    for start, side in ((top, height), (left, width)):
        place = start[small] / (1000 - side[small])
        assert place.min() >= 0
        assert place.max() <= 1
        assert abs(place.mean() - 0.5) < 0.02


def test_crops_lie_inside_images_of_any_shape() -> None:
    for height, width in ((1, 1), (1, 400), (400, 1), (3, 2), (37, 500)):
        for row in numbers(200, 23):
            top, left, h, w = crop_box(height, width, RandomResizedCrop(), row)
            assert h >= 1
            assert w >= 1
            assert 0 <= top <= height - h
            assert 0 <= left <= width - w


def test_no_rectangle_fits_so_the_middle_is_taken() -> None:
    only_tall = RandomResizedCrop(scale=(1.0, 1.0), ratio=(0.5, 0.5))
    assert crop_box(100, 100, only_tall, numbers(1, 23)[0]) == (0, 25, 100, 50)


@pytest.mark.parametrize("policy", [RandomResizedCrop(), PadAndCrop()])
def test_half_are_mirrored(policy: RandomResizedCrop | PadAndCrop) -> None:
    ramp = np.tile(np.arange(0, 240, 10, dtype=np.uint8)[None, :, None], (24, 1, 1))
    transform = train_transform(policy, Preprocess.for_size(24, **GREY))
    images = [transform(ramp, row)[0, 12, 8:16].int() for row in numbers(600, transform.columns)]
    falling = sum(bool(image[0] > image[-1]) for image in images)
    assert 250 < falling < 350
    never = train_transform(type(policy)(flip=False), Preprocess.for_size(24, **GREY))
    assert all(image[0, 12, 8] <= image[0, 12, 15] for image in (never(ramp, row) for row in numbers(100, 23)))


def test_photo_crop_is_the_rectangle_resized() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    transform = train_transform(RandomResizedCrop(flip=False), Preprocess.for_size(16))
    squash = EvalTransform(Preprocess.for_size(16, crop_mode="squash"))
    for row in numbers(20, transform.columns):
        top, left, height, width = crop_box(50, 70, RandomResizedCrop(), row)
        cut = np.ascontiguousarray(pixels[top : top + height, left : left + width])
        assert torch.equal(transform(pixels, row), squash(cut))


def test_shifts_are_uniform_and_leave_black_behind() -> None:
    dot = np.zeros((8, 8, 1), np.uint8)
    dot[3, 4] = 255
    transform = train_transform(PadAndCrop(flip=False), Preprocess.for_size(8, **GREY))
    seen = np.zeros((8, 8), int)
    for row in numbers(1800, transform.columns):
        seen += transform(dot, row)[0].numpy() == 255
    assert (seen > 0).tolist() == [[2 <= y <= 4 and 3 <= x <= 5 for x in range(8)] for y in range(8)]
    np.testing.assert_allclose(seen[2:5, 3:6], 200, atol=50)
    bright = np.full((32, 32, 1), 255, np.uint8)
    far = train_transform(PadAndCrop(flip=False), Preprocess.for_size(32, **GREY))(bright, np.zeros(3))
    assert (far[0, :4] == 0).all()
    assert (far[0, 4:, 4:] == 255).all()


@pytest.mark.parametrize("mode", ["edge", "reflect", "symmetric"])
def test_borders_are_padded_as_numpy_pads(mode: PaddingMode) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 11, 11, 3), dtype=np.uint8)
    policy = PadAndCrop(share=0.36, mode=mode)  # 4 pixels
    transform = train_transform(policy, Preprocess.for_size(11))
    rows = numbers(40, transform.columns)
    for image, row, cut in zip(pixels, rows, transform.batch(pixels, rows).permute(0, 2, 3, 1), strict=True):
        padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode=mode)
        top, left = int(row[0] * 9), int(row[1] * 9)
        wanted = padded[top : top + 11, left : left + 11]
        assert np.array_equal(cut, wanted[:, ::-1] if row[2] < 0.5 else wanted)


def test_one_pixel_is_padded_with_itself() -> None:
    dot = np.full((1, 1, 1), 77, np.uint8)
    transform = train_transform(PadAndCrop(mode="reflect"), Preprocess.for_size(1, **GREY))
    assert all(transform(dot, row).item() == 77 for row in numbers(20, transform.columns))


def test_a_batch_is_its_images() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 28, 28, 3), dtype=np.uint8)
    for policy in (RandomResizedCrop(), PadAndCrop(), PadAndCrop(mode="reflect"), Unaugmented()):
        transform = train_transform(policy, Preprocess.for_size(32))
        rows = numbers(6, transform.columns)
        each = [transform(image, row) for image, row in zip(pixels, rows, strict=True)]
        assert torch.equal(transform.batch(pixels, rows), torch.stack(each)), policy


def test_impossible_policies_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="scale"):
        RandomResizedCrop(scale=(0.5, 0.1))
    with pytest.raises(InvalidArgument, match="share"):
        PadAndCrop(share=-1)
