"""Preparing pixels by Pillow and by torch: one row, two executors, one picture."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.data import preparing
from resnetkit.data.preparing import prepare
from resnetkit.data.transforms import EvalTransform

ROWS = [
    Preprocess.for_size(24, crop_share=0.75),
    Preprocess.for_size(24, crop_share=0.75, rounding="round", interpolation="bicubic"),
    Preprocess.for_size((16, 40), crop_mode="squash"),
    Preprocess.for_size((40, 16), crop_mode="pad"),
    Preprocess.for_size(24, mean=(0.5,), std=(0.2,)),
]


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("size", [(1, 1), (37, 81), (90, 31), (24, 24), (1, 300)])
def test_pillow_and_torch_agree_within_a_grey_level(row: Preprocess, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, *size, row.channels), np.uint8)
    by_pillow = prepare(pixels, row)
    by_torch = EvalTransform(row).batch(pixels).permute(0, 2, 3, 1).numpy()
    assert by_pillow.shape == (2, *row.size, row.channels) == by_torch.shape
    assert np.abs(by_pillow.astype(int) - by_torch).max() <= 1


@pytest.mark.parametrize("row", ROWS[:2])
@pytest.mark.parametrize("size", [(7, 4001), (4001, 7), (50, 9000), (30, 31), (1, 2)])
def test_the_middle_of_a_thin_picture_is_that_of_the_whole(
    row: Preprocess, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    whole = prepare(pixels, row)
    monkeypatch.setattr(preparing, "_LARGEST", 0)
    assert np.abs(prepare(pixels, row).astype(int) - whole).max() <= 1


@pytest.mark.parametrize("size", [(1, 65_000), (65_000, 1)])
def test_a_thin_picture_takes_no_memory_that_is_not_seen(size: tuple[int, int]) -> None:
    """Resized as a whole it would take 13 GB."""
    pixels = np.full((1, *size, 3), 77, np.uint8)
    tracemalloc.start()
    assert (EvalTransform(Preprocess.for_size(224, crop_share=0.875)).batch(pixels) == 77).all()
    assert tracemalloc.get_traced_memory()[1] < 50 << 20
    tracemalloc.stop()


def test_predicting_does_not_need_torch_before_a_model_does() -> None:
    code = "import sys, resnetkit.deployment.predictor, resnetkit.api.predicting; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
