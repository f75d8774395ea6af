"""Images that live on a device. What is claimed of a GPU is that its bytes are the processor's: held here on the latter
as a device, and on a GPU in tests/devices."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.data.augmentation import PadAndCrop, Policy, RandomResizedCrop, Unaugmented, train_transform
from resnetkit.data.colour_jitter import ColourJitter
from resnetkit.data.greyscale import RandomGreyscale
from resnetkit.data.loader import Loader
from resnetkit.data.pixel_policies import PixelPolicy, RandAugment
from resnetkit.data.resident import ResidentLoader, fits
from resnetkit.data.sources import ArraySource
from resnetkit.data.transforms import EvalTransform

CPU = torch.device("cpu")
SHIFT = PadAndCrop()


def source(n: int = 301, channels: int = 3) -> ArraySource:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (n + 10, 18, 14, channels), dtype=np.uint8)
    return ArraySource(pixels, rng.integers(0, 5, n), None, 5, rng.permutation(n + 10)[:n])


def both(
    of: ArraySource,
    *,
    side: int = 16,
    policy: Policy = SHIFT,
    then: Sequence[PixelPolicy] = (),
    **how: object,
) -> tuple[Loader, ResidentLoader]:
    preprocess = Preprocess.for_size(side, mean=(0.5,) * of.channels, std=(0.5,) * of.channels)
    loader = Loader(of, train_transform(policy, preprocess, then), 32, shuffle_seed=3, **how)
    return loader, ResidentLoader(loader, EvalTransform(preprocess), CPU)


CASES: dict[str, dict[str, object]] = {
    "shifted and mirrored": {},
    "not mirrored, far": {"policy": PadAndCrop(share=0.4, flip=False)},
    "borders reflected": {"policy": PadAndCrop(mode="reflect")},
    "coloured": {"then": (ColourJitter(),)},
    "some grey": {"then": (ColourJitter(), RandomGreyscale(share=0.4))},
    "grown": {"side": 20, "then": (ColourJitter(brightness=0.9, contrast=0.2, saturation=0),)},
    "shrunk": {"side": 9},
    "repeated": {"repeats": 3, "then": (ColourJitter(),)},
    "drawn": {"weights": np.arange(301.0)},
    "a share": {"share": (1, 3), "then": (ColourJitter(),)},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("start_step", [0, 4])
def test_its_batches_are_those_of_the_loader(
    case: str, channels: int, start_step: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("resnetkit.data.resident._AT_A_TIME", 100)  # more than one time
    loader, resident = both(source(channels=channels), **CASES[case])
    ours, theirs = list(resident.batches(2, start_step)), list(loader.batches(2, start_step))
    assert len(ours) == len(theirs) == len(resident) - start_step
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)
        assert np.array_equal(a.indices, b.indices)
        assert a.whole == b.whole
        assert a.images.is_contiguous(memory_format=torch.channels_last)


def test_the_pixels_at_hand_stay_as_they_were():
    of = source()
    before = of.pixels.copy()
    _, resident = both(of, then=(ColourJitter(),))
    first = [batch.images.clone() for batch in resident.batches(0)]
    assert all(torch.equal(a, b.images) for a, b in zip(first, resident.batches(0), strict=True))
    assert np.array_equal(of.pixels, before)


@pytest.mark.parametrize(
    "how",
    [
        {"policy": RandomResizedCrop()},
        {"policy": Unaugmented(), "then": (ColourJitter(),)},
        {"then": (RandAugment(),)},
        {"then": (ColourJitter(hue=0.1),)},
    ],
)
def test_what_takes_a_processor_is_left_to_it(how: dict[str, object]):
    with pytest.raises(TypeError, match="not for a device"):
        both(source(), **how)


def test_it_is_for_a_gpu_with_room_alone(monkeypatch: pytest.MonkeyPatch):
    loader, _ = both(source())
    gpu = torch.device("cuda", 0)
    assert not fits(loader, CPU)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**6, 10**9))
    assert fits(loader, gpu)
    assert 301 * 16 * 16 * 3 > 0.25 * 900_000
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (900_000, 10**9))
    assert not fits(loader, gpu)
