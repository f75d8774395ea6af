"""Scoring the held-out images in too little memory."""

import json
from pathlib import Path

import numpy as np
import pytest

from resnetkit.api.networks import create_model
from resnetkit.api.training import train
from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.tasks.classifier import TorchClassifier
from resnetkit.tasks.sparing import Sparing
from resnetkit.training.progress import Event, Remark

PIXELS = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 3), dtype=np.uint8)


@pytest.fixture
def classifier() -> TorchClassifier:
    network = create_model("resnet20", num_classes=10)
    return TorchClassifier(network, num_classes=10, class_names=None, preprocess=Preprocess.for_size(8))


@pytest.fixture
def short_of_memory(monkeypatch: pytest.MonkeyPatch):
    """A network has memory for so many images at once; which numbers of them were tried is noted."""
    tried: list[int] = []

    def at(most: int) -> list[int]:
        own = TorchClassifier.__call__

        def scarce(self, pixels):
            tried.append(len(pixels))
            if len(pixels) > most:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            return own(self, pixels)

        monkeypatch.setattr(TorchClassifier, "__call__", scarce)
        return tried

    return at


def test_every_image_is_scored_once_in_order_and_what_fits_is_remembered(classifier, short_of_memory):
    whole = classifier(PIXELS)
    tried, told = short_of_memory(20), []
    sparing = Sparing(classifier, lambda *numbers: told.append(numbers))
    np.testing.assert_allclose(sparing(PIXELS), whole, atol=1e-6)
    assert tried == [50, 25, 13, 13, 12, 12]
    assert told == [(50, 13)]
    tried.clear()
    np.testing.assert_allclose(
        np.concatenate(list(sparing.stream([PIXELS, PIXELS[:5]]))), [*whole, *whole[:5]], atol=1e-6
    )
    assert tried == [13, 13, 13, 11, 5]
    assert len(told) == 1


def test_other_errors_are_not_taken_for_a_shortage(classifier):
    with pytest.raises(RuntimeError, match="size"):
        Sparing(classifier)(PIXELS[..., :1])


def test_a_run_goes_on_and_says_it_once(tmp_path: Path, short_of_memory):
    settings = {"epochs": 3, "batch_size": 256, "deterministic": True}
    train("digits", output=tmp_path / "whole", **settings)
    short_of_memory(100)  # of 144 held-out images
    said: list[Event] = []
    train("digits", output=tmp_path / "run", listener=said.append, **settings)
    assert len([event for event in said if isinstance(event, Remark) and "held-out images at once" in event.text]) == 1
    ours, theirs = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("run", "whole")
    )
    assert [line["val_top1"] for line in ours] == [line["val_top1"] for line in theirs]
    assert [line["val_loss"] for line in ours] == pytest.approx([line["val_loss"] for line in theirs], rel=1e-5)
