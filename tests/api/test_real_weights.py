"""Trained weights of strangers on the real test images: the published counts, to the image."""

from pathlib import Path

import pytest

import resnetkit as rk


@pytest.mark.parametrize(
    ("name", "right"), [("resnet20-12fca82f", 9173), pytest.param("resnet56-4bfd9763", 9339, marks=pytest.mark.slow)]
)
def test_a_foreign_checkpoint_counts_exactly(real_data: Path, name: str, right: int):
    result = rk.evaluate(real_data / "weights" / "cifar" / f"{name}.th", real_data / "cifar10_20k.npz")
    assert (result.split, result.scores.n, result.scores.right) == ("test", 10_000, right)
