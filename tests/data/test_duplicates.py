"""Copies among many: the search beside one that compares each with each, and what photos are taken for copies."""

import io
import time
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from resnetkit.data.arrays import npz_parts
from resnetkit.data.decode import decode
from resnetkit.data.duplicates import groups, likeness, near_pairs
from resnetkit.data.inspection import inspect
from resnetkit.data.perceptual import LEAST_CORRELATION, MOST_BITS, Sketches, correlations


def flipped(words: np.ndarray, most: int, random: np.random.Generator) -> np.ndarray:
    """Each word with 0 … most different bits changed."""
    changed = words.copy()
    for row in range(len(words)):
        for bit in random.choice(64, random.integers(0, most + 1), replace=False):
            changed[row] ^= np.uint64(1) << np.uint64(bit)
    return changed


@given(st.integers(0, 2**32), st.integers(0, MOST_BITS))
@settings(max_examples=30, deadline=None)
def test_the_search_finds_what_comparing_each_with_each_finds(seed: int, most: int) -> None:
    random = np.random.default_rng(seed)
    words = random.integers(0, 2**64, 120, dtype=np.uint64)
    words = np.unique(np.concatenate([words, flipped(words, 9, random), flipped(words, 2, random)]))
    random.shuffle(words)
    differences = np.bitwise_count(words[:, None] ^ words[None])
    expected = np.argwhere(np.triu(differences <= most, 1))
    np.testing.assert_array_equal(np.stack(near_pairs(words, most), axis=1), expected)


def test_crowds_take_no_time_and_stay_together() -> None:
    n = 60_000
    random = np.random.default_rng(0)
    thumbs = np.repeat(random.integers(0, 256, (1, 16, 16), dtype=np.uint8), n, axis=0)
    crowds = random.integers(0, 2**64, 20, dtype=np.uint64)[np.arange(n) % 20]
    begun = time.perf_counter()
    alike = likeness([b"%d" % row for row in range(n)], Sketches(crowds, thumbs), np.ones(n, np.bool_))
    assert time.perf_counter() - begun < 10  # each with each would be 1,800 million comparisons
    assert sorted(len(group) for group in groups(alike.near)) == [n // 20] * 20
    assert not groups(alike.exact)


def photo(seed: int) -> Image.Image:
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((200, 150), Image.Resampling.BICUBIC)


def saved(image: Image.Image, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return decode(buffer.getvalue())


def sketched(*images: np.ndarray) -> Sketches:
    each = [Sketches.of(image[None]) for image in images]
    return Sketches(np.concatenate([one.bits for one in each]), np.concatenate([one.thumbs for one in each]))


def test_copies_are_told_from_other_photos() -> None:
    versions = []
    for seed in range(12):
        image = photo(seed)
        versions += [
            np.array(image), saved(image, 30), np.array(image.resize((90, 70))),
            np.array(image.convert("L"))[..., None],
            np.array(ImageEnhance.Brightness(image).enhance(0.9)),
        ]  # fmt: skip
    sketches = sketched(*versions)
    n = len(versions)
    alike = likeness([b"%d" % row for row in range(n)], sketches, np.ones(n, np.bool_))
    assert [group.tolist() for group in groups(alike.near)] == [list(range(at, at + 5)) for at in range(0, n, 5)]


def test_blank_images_are_alike_where_their_grey_is() -> None:
    flat = [np.full((20, 20, 1), grey, np.uint8) for grey in (0, 0, 128, 255, 255)]
    alike = likeness([b"%d" % row for row in range(5)], sketched(*flat), np.ones(5, np.bool_))
    assert [group.tolist() for group in groups(alike.near)] == [[0, 1], [3, 4]]


def test_equal_bits_do_not_make_a_copy() -> None:
    thumbs = np.random.default_rng(2).integers(0, 256, (4, 16, 16), dtype=np.uint8)
    thumbs[3] = thumbs[0] // 2 + 60
    alike = likeness([b"a", b"b", b"c", b"d"], Sketches(np.zeros(4, np.uint64), thumbs), np.ones(4, np.bool_))
    assert [group.tolist() for group in groups(alike.near)] == [[0, 3]]


def test_what_cannot_be_compared_is_alike_only_if_equal() -> None:
    image = np.array(photo(1))
    sketches = sketched(image, image, image, image)
    alike = likeness([b"a", b"a", b"c", b""], sketches, np.zeros(4, np.bool_))
    assert [group.tolist() for group in groups(alike.near)] == [[0, 1]]
    assert not groups(likeness([b"", b""], sketched(image, image), np.zeros(2, np.bool_)).near)


def test_correlations_beside_numpys() -> None:
    random = np.random.default_rng(3)
    a, b = random.integers(0, 256, (2, 50, 16, 16), dtype=np.uint8)
    expected = [np.corrcoef(x.ravel(), y.ravel())[0, 1] for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(correlations(a, b), expected, atol=1e-5)


def test_real_copies_in_pneumoniamnist(real_data: Path) -> None:
    """Its own parts share pictures: found by comparing all pixels with all, and by the check."""
    parts = npz_parts(real_data / "medmnist" / "pneumoniamnist.npz")
    looks = [look for part in parts.values() for look in inspect(part).looks]
    pixels = [part.image(index).tobytes() for part in parts.values() for index in range(len(part))]
    sketches = Sketches(
        np.array([look.bits for look in looks], np.uint64),
        np.array([np.frombuffer(look.thumb, np.uint8).reshape(16, 16) for look in looks]),
    )
    alike = likeness([look.digest for look in looks], sketches, np.ones(len(looks), np.bool_))
    by_pixels: dict[bytes, list[int]] = {}
    for row, content in enumerate(pixels):
        by_pixels.setdefault(content, []).append(row)
    same = sorted(rows for rows in by_pixels.values() if len(rows) > 1)
    assert [group.tolist() for group in groups(alike.exact)] == same
    assert len(same) == 26
    near = groups(alike.near)
    assert len(same) < len(near) < 40
    for group in near:
        assert correlations(sketches.thumbs[group[:1]], sketches.thumbs[group[-1:]])[0] > LEAST_CORRELATION - 0.05
