from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from resnetkit.catalog.preprocessing import CropMode, Interpolation, Preprocess
from resnetkit.data.decode import Pixels, decode
from resnetkit.data.transforms import EvalTransform, normalise

RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def with_pillow(pixels: Pixels, row: Preprocess) -> Pixels:
    """The same preprocessing, written independently with Pillow."""
    height, width = row.resized(*pixels.shape[:2])
    image = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])
    image = image.resize((width, height), RESAMPLING[row.interpolation])
    top, left = round((height - row.size[0]) / 2), round((width - row.size[1]) / 2)
    if row.crop_mode == "pad":
        canvas = Image.new(image.mode, row.size[::-1], tuple(round(255 * value) for value in row.mean))
        canvas.paste(image, ((row.size[1] - width) // 2, (row.size[0] - height) // 2))
        image = canvas
    else:
        image = image.crop((left, top, left + row.size[1], top + row.size[0]))
    return np.atleast_3d(np.array(image))


def largest_difference(pixels: Pixels, row: Preprocess) -> int:
    ours = EvalTransform(row)(pixels)
    assert ours.dtype == torch.uint8
    assert tuple(ours.shape) == (row.channels, *row.size)
    theirs = with_pillow(pixels, row)
    return int(np.abs(ours.permute(1, 2, 0).numpy().astype(int) - theirs.astype(int)).max())


@settings(max_examples=150, deadline=None)
@given(
    height=st.integers(1, 90), width=st.integers(1, 90), size=st.integers(1, 48),
    crop_mode=st.sampled_from(["centre", "squash", "pad"]), interpolation=st.sampled_from(["bilinear", "bicubic"]),
    crop_share=st.sampled_from([1.0, 0.875, 0.5]), channels=st.sampled_from([1, 3]), seed=st.integers(0, 9),
)  # fmt: skip
def test_within_one_grey_level_of_pillow(
    height: int, width: int, size: int, crop_mode: CropMode, interpolation: Interpolation, crop_share: float,
    channels: int, seed: int,
) -> None:  # fmt: skip
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    row = Preprocess.for_size(
        size, crop_share=crop_share, crop_mode=crop_mode, interpolation=interpolation,
        mean=(0.45,) * channels, std=(0.2,) * channels,
    )  # fmt: skip
    assert largest_difference(pixels, row) <= 1


@pytest.mark.parametrize(
    ("height", "width", "row"),
    [
        # Bicubic overshoots: only the order and the precision of Pillow's passes give Pillow's pixels.
        (80, 17, Preprocess.for_size(36, crop_mode="squash", interpolation="bicubic", mean=(0.5,), std=(0.5,))),
        # In floating point torch 2.13 gets images one pixel wide wrong, in uint8 not.
        (3, 1, Preprocess.for_size(2, crop_mode="pad", mean=(0.5,), std=(0.5,))),
        (7, 7, Preprocess.for_size((5, 1), crop_mode="squash", mean=(0.5,), std=(0.5,))),
        (7, 7, Preprocess.for_size((1, 5), crop_mode="squash", mean=(0.5,), std=(0.5,))),
    ],
)
def test_hard_cases(height: int, width: int, row: Preprocess) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 1), dtype=np.uint8)
    assert largest_difference(pixels, row) <= 1


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("crop_mode", ["centre", "squash", "pad"])
def test_real_photos_within_one_grey_level_of_pillow(
    real_data: Path, crop_mode: CropMode, interpolation: Interpolation
) -> None:
    row = Preprocess.for_size(224, crop_share=0.875, crop_mode=crop_mode, interpolation=interpolation)
    for path in sorted((real_data / "imagenet_photos").glob("*.JPEG"))[:12]:
        assert largest_difference(decode(path), row) <= 1, path.name


def test_the_crop_is_the_middle() -> None:
    pixels = np.zeros((4, 6, 1), np.uint8)
    pixels[1:3, 2:4] = 200
    row = Preprocess(size=(2, 2), resize=4, mean=(0.5,), std=(0.5,))
    assert EvalTransform(row)(pixels).tolist() == [[[200, 200], [200, 200]]]


def test_a_side_that_is_a_half_is_rounded_as_inside_exports() -> None:
    """Half to even: 45 × 224 / 320 is 31.5, which 45 × (224 / 320) falls short of."""
    assert Preprocess.for_size(224, crop_mode="pad").resized(320, 45) == (224, 32)


def test_padding_is_the_mean_colour_on_both_sides() -> None:
    row = Preprocess.for_size(4, crop_mode="pad", mean=(1.0, 0.0, 0.2))
    padded = EvalTransform(row)(np.full((2, 4, 3), 90, np.uint8))
    assert padded[:, 0, 0].tolist() == padded[:, 3, 3].tolist() == [255, 0, 51]
    assert padded[:, 1:3].unique().tolist() == [90]


def test_a_crop_larger_than_the_resized_image_is_filled_up() -> None:
    row = Preprocess(size=(4, 8), resize=4, mean=(0.0,), std=(1.0,))
    filled = EvalTransform(row)(np.full((8, 4, 1), 90, np.uint8))
    assert filled[0].tolist() == [[0, 0, 90, 90, 90, 90, 0, 0]] * 4


def test_a_batch_is_its_images() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 30, 40, 3), dtype=np.uint8)
    transform = EvalTransform(Preprocess.for_size(16, crop_share=0.8))
    assert torch.equal(transform.batch(pixels), torch.stack([transform(each) for each in pixels]))


def test_read_only_pixels_are_taken_without_a_warning() -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels.flags.writeable = False
    assert EvalTransform(Preprocess.for_size(4))(pixels).sum() == 0


def test_normalise_is_the_formula_in_channels_last() -> None:
    row = Preprocess.for_size(5)
    images = torch.randint(0, 256, (2, 3, 5, 5), dtype=torch.uint8)
    result = normalise(images, row)
    mean, std = torch.tensor(row.mean)[:, None, None], torch.tensor(row.std)[:, None, None]
    torch.testing.assert_close(result, (images.float() / 255 - mean) / std, rtol=0, atol=1e-6)
    torch.testing.assert_close(normalise(images.contiguous(), row), result, rtol=0, atol=0)
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert result.dtype == torch.float32


def test_normalise_leaves_its_input_alone() -> None:
    images = torch.full((1, 1, 2, 2), 51.0)
    normalise(images, Preprocess.for_size(2, mean=(0.0,), std=(1.0,)))
    assert images.unique().tolist() == [51.0]
