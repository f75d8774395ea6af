from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from scipy import stats

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.data.augmentation import PadAndCrop, RandomResizedCrop, train_transform
from resnetkit.data.colour_jitter import ColourJitter
from resnetkit.data.greyscale import RandomGreyscale
from resnetkit.data.pixel_operations import SIGNED, Operation, operate, shift_hue
from resnetkit.data.pixel_policies import PixelPolicy, RandAugment, RandomErasing, TrivialAugment
from resnetkit.data.randomness import uniform
from resnetkit.errors import InvalidArgument

FILL = (10, 20, 30)
ALL: tuple[PixelPolicy, ...] = (
    TrivialAugment(), RandAugment(), RandAugment(operations=3, magnitude=7, deviation=0.5),
    ColourJitter(hue=0.1), RandomErasing(probability=1.0), RandomErasing(probability=1.0, fill="mean"),
)  # fmt: skip


def table(columns: int, count: int = 6000) -> np.ndarray:
    return uniform("augment", 5, 0, count=count, columns=columns)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """Smooth colours with an edge, so that an operation has something to do."""
    y, x = np.mgrid[0:48, 0:64]
    pixels = np.stack([y * 4, x * 3, (x + y) * 2], axis=-1).astype(np.uint8)
    pixels[10:20, 12:30] = (250, 20, 90)
    return pixels


@pytest.mark.parametrize("policy", ALL)
@pytest.mark.parametrize("channels", [1, 3])
def test_any_image_keeps_its_size_and_is_changed(policy: PixelPolicy, channels: int, photo: np.ndarray) -> None:
    pixels = np.ascontiguousarray(photo[..., :channels])
    before = pixels.copy()
    results = [policy.apply(pixels, row, FILL[:channels]) for row in table(policy.columns, 60)]
    assert {(each.shape, each.dtype) for each in results} == {(pixels.shape, pixels.dtype)}
    assert np.array_equal(pixels, before)
    assert len({each.tobytes() for each in results}) > 15


def test_trivial_augment_is_uniform_over_operations_and_31_strengths() -> None:
    chosen = [TrivialAugment().chosen(row) for row in table(3)]
    counts = Counter(operation for operation, _ in chosen)
    assert len(counts) == 14
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3
    rotations = np.array([strength for operation, strength in chosen if operation == "rotate"])
    assert np.abs(rotations).max() == 135
    assert len(np.unique(np.abs(rotations).round(6))) == 31
    assert abs((rotations < 0).mean() - 0.5) < 0.1
    bits = {round(strength) for operation, strength in chosen if operation == "posterise"}
    assert bits == set(range(2, 9))
    thresholds = [strength for operation, strength in chosen if operation == "solarise"]
    assert (min(thresholds), max(thresholds)) == (0, 255)
    assert all(strength >= 0 for operation, strength in chosen if operation not in SIGNED)


def test_rand_augment_takes_its_operations_at_one_magnitude() -> None:
    chosen = [RandAugment(operations=2, magnitude=9).chosen(row) for row in table(6)]
    assert {len(each) for each in chosen} == {2}
    for place in (0, 1):
        counts = Counter(each[place][0] for each in chosen)
        assert len(counts) == 14
        assert stats.chisquare(list(counts.values())).pvalue > 1e-3
    strengths = {(operation, round(abs(strength), 9)) for each in chosen for operation, strength in each}
    assert len(strengths) == 14  # one each
    assert ("rotate", 9.0) in strengths
    assert ("shear_x", 0.09) in strengths


def test_rand_augments_deviation_is_normal_around_the_magnitude() -> None:
    policy = RandAugment(operations=1, magnitude=15, deviation=2.0)
    chosen = [policy.chosen(row)[0] for row in table(3, 20000)]
    levels = np.array([abs(strength) for operation, strength in chosen if operation == "rotate"])
    assert stats.kstest(levels, stats.norm(15, 2).cdf).pvalue > 1e-3
    edge = RandAugment(operations=1, magnitude=30, deviation=5.0)
    assert max(abs(edge.chosen(row)[0][1]) for row in table(3) if edge.chosen(row)[0][0] == "rotate") == 30


def test_colour_jitter_is_uniform_and_in_any_order() -> None:
    policy = ColourJitter(brightness=0.4, contrast=0.3, saturation=0.2, hue=0.1)
    changes = [policy.changes(row) for row in table(5)]
    for name, most in (("brightness", 0.4), ("contrast", 0.3), ("saturation", 0.2), ("hue", 0.1)):
        values = [each[name] for each in changes]
        assert stats.kstest(values, stats.uniform(-most, 2 * most).cdf).pvalue > 1e-3
    orders = Counter(tuple(each) for each in changes)
    assert len(orders) == 24
    assert stats.chisquare(list(orders.values())).pvalue > 1e-3


@pytest.mark.parametrize("policy", [ColourJitter(brightness=0.9, contrast=0.6, saturation=0.8), ColourJitter(hue=0.2)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_is_jittered_to_the_bit_as_one_by_one(policy: ColourJitter, channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (200, 12, 9, channels), dtype=np.uint8)
    before = pixels.copy()
    together = policy.batch(torch.from_numpy(pixels), torch.from_numpy(table(5, 200))).numpy()
    each = np.stack([policy.apply(*pair, FILL[:channels]) for pair in zip(pixels, table(5, 200), strict=True)])
    assert np.array_equal(together, each)
    assert (each != pixels).any(axis=(1, 2, 3)).mean() > 0.9
    assert np.array_equal(pixels, before)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_share_loses_its_colours_alike_by_the_batch_one_by_one_and_in_pillow(channels: int) -> None:
    policy = RandomGreyscale(share=0.3)
    pixels = np.random.default_rng(0).integers(0, 256, (200, 12, 9, channels), dtype=np.uint8)
    before = pixels.copy()
    together = policy.batch(torch.from_numpy(pixels), torch.from_numpy(table(1, 200))).numpy()
    each = np.stack([policy.apply(*pair, FILL[:channels]) for pair in zip(pixels, table(1, 200), strict=True)])
    assert np.array_equal(together, each)
    assert np.array_equal(pixels, before)
    if channels == 3:
        changed = (each != pixels).any(axis=(1, 2, 3))
        assert np.array_equal(changed, table(1, 200)[:, 0] < 0.3)
        for was, is_ in zip(pixels[changed], each[changed], strict=True):
            assert np.array_equal(is_, np.asarray(Image.fromarray(was).convert("L").convert("RGB")))


def test_erasing_has_the_papers_area_and_ratio() -> None:
    policy = RandomErasing(probability=0.25)
    boxes = [policy.box(1000, 1000, row) for row in table(policy.columns)]
    found = np.array([box for box in boxes if box is not None], float)
    assert abs(len(found) / len(boxes) - 0.25) < 0.02
    top, left, height, width = found.T
    area = height * width / 1e6
    assert stats.kstest(area[area < 0.25], stats.uniform(0.02, 0.23).cdf).pvalue > 1e-3  # these always fit
    ratio = np.log(width / height)[area < 0.25]
    assert stats.kstest(ratio, stats.uniform(np.log(0.3), -2 * np.log(0.3)).cdf).pvalue > 1e-3
    assert (top + height).max() <= 1000
    assert (left + width).max() <= 1000
    assert stats.kstest(top / (1000 - height + 1), "uniform").pvalue > 1e-3


def test_erasing_fills_with_noise_or_the_mean_and_touches_nothing_else(photo: np.ndarray) -> None:
    for row in table(24, 20):
        for fill in ("noise", "mean"):
            policy = RandomErasing(probability=1.0, fill=fill)
            top, left, height, width = policy.box(48, 64, row) or (0, 0, 0, 0)
            erased = policy.apply(photo, row, FILL)
            inside = erased[top : top + height, left : left + width].copy()
            erased[top : top + height, left : left + width] = photo[top : top + height, left : left + width]
            assert np.array_equal(erased, photo)
            if fill == "mean":
                assert (inside == FILL).all()
            else:
                assert len(np.unique(inside)) > min(inside.size, 256) / 4


@pytest.mark.parametrize(
    ("operation", "strength", "expected"),
    [
        ("identity", 0, lambda p: p),
        ("solarise", 100, lambda p: np.where(p >= 100, 255 - p, p)),
        ("posterise", 3, lambda p: p & 0b11100000),
        ("translate_x", 5, lambda p: moved(p, 0, 5)),
        ("translate_y", -7, lambda p: moved(p, -7, 0)),
        ("brightness", -0.25, lambda p: np.floor(p * 0.75)),
        ("shear_x", 0.5, lambda p: sheared(p, 0.5)),
        ("autocontrast", 0, lambda p: np.stack([stretched(p[..., c]) for c in range(3)], -1)),
    ],
)
def test_operations_do_what_their_names_say(operation: Operation, strength: float, expected, photo) -> None:
    np.testing.assert_allclose(operate(photo, operation, strength, FILL).astype(float), expected(photo), atol=1)


def moved(pixels: np.ndarray, down: int, right: int) -> np.ndarray:
    result = np.empty_like(pixels)
    result[:] = FILL
    h, w = pixels.shape[:2]
    result[max(0, down) : h + min(0, down), max(0, right) : w + min(0, right)] = pixels[
        max(0, -down) : h - max(0, down), max(0, -right) : w - max(0, right)
    ]
    return result


def sheared(pixels: np.ndarray, slope: float) -> np.ndarray:
    result = np.empty_like(pixels)
    for y in range(len(pixels)):
        for x in range(pixels.shape[1]):
            source = int(np.floor(x + 0.5 + slope * (y + 0.5)))
            result[y, x] = pixels[y, source] if 0 <= source < pixels.shape[1] else FILL
    return result


def stretched(channel: np.ndarray) -> np.ndarray:
    low, high = int(channel.min()), int(channel.max())
    return np.floor((channel.astype(float) - low) * 255 / (high - low))


def test_rotation_is_counter_clockwise_about_the_middle(photo: np.ndarray) -> None:
    square = np.ascontiguousarray(photo[:, :48])
    np.testing.assert_array_equal(operate(square, "rotate", 90, FILL), np.rot90(square))
    assert (operate(square, "rotate", 45, FILL)[0, 0] == FILL).all()


def test_equalising_makes_values_equally_frequent(photo: np.ndarray) -> None:
    dark = (photo // 4)[:, :, :1].copy()
    values = operate(dark, "equalise", 0, (0,))
    counts, _ = np.histogram(values, bins=4, range=(0, 256))
    assert counts.min() > 0.15 * values.size


def test_factors_of_colour_contrast_and_sharpness_are_pillows(photo: np.ndarray) -> None:
    image = Image.fromarray(photo)
    for name, enhance in (
        ("colour", ImageEnhance.Color), ("contrast", ImageEnhance.Contrast), ("sharpness", ImageEnhance.Sharpness),
    ):  # fmt: skip
        np.testing.assert_array_equal(operate(photo, name, 0.4, FILL), np.asarray(enhance(image).enhance(1.4)))


def test_hue_turns_red_to_green() -> None:
    red = np.array([[[200, 0, 0]]], np.uint8)
    turned = shift_hue(red, 1 / 3)[0, 0].astype(int)
    assert np.abs(turned - (0, 200, 0)).max() <= 3
    assert np.array_equal(shift_hue(red, 0.0), red)
    assert np.array_equal(shift_hue(red[..., :1], 0.3), red[..., :1])


@pytest.mark.parametrize("cut", [RandomResizedCrop(), PadAndCrop()])
def test_what_follows_the_crop_changes_neither_crop_nor_mirror(cut: RandomResizedCrop | PadAndCrop) -> None:
    """Columns of a policy are its own: with erasing, all that is not erased is as without."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 40, 40, 3), dtype=np.uint8)
    preprocess = Preprocess.for_size(32)
    bare = train_transform(cut, preprocess)
    erasing = RandomErasing(probability=1.0, fill="mean")
    chained = train_transform(cut, preprocess, (TrivialAugment(), erasing))
    numbers = uniform("augment", 0, 0, count=6, columns=chained.columns)
    numbers[:, bare.columns] = 0.0  # TrivialAugment's choice: identity
    mean = torch.tensor([124, 116, 104], dtype=torch.uint8).view(3, 1, 1)
    one = chained.batch(pixels, numbers)
    other = bare.batch(pixels, numbers[:, : bare.columns])
    assert one.shape == other.shape
    assert one.is_contiguous(memory_format=torch.channels_last)
    erased = (one == mean).all(dim=1, keepdim=True)
    assert 0 < erased.float().mean() < 0.5
    assert torch.equal(torch.where(erased, mean, one), torch.where(erased, mean, other))
    for slot in range(6):
        assert torch.equal(chained(pixels[slot], numbers[slot]), one[slot])


def test_impossible_settings_are_refused() -> None:
    for make in (
        lambda: RandAugment(magnitude=31),
        lambda: RandAugment(operations=0),
        lambda: ColourJitter(hue=0.6),
        lambda: RandomErasing(probability=2),
        lambda: RandomErasing(scale=(0.3, 0.1)),
        lambda: RandomErasing(ratio=(0.0, 1.0)),
    ):
        with pytest.raises(InvalidArgument):
            make()
