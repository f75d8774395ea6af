import numpy as np
import pytest
import torch
from scipy import stats

from resnetkit.data.mixing import Mixing, cut_box, mix, one_hot
from resnetkit.errors import InvalidArgument


def batch(n: int = 8, size: tuple[int, int] = (12, 20)) -> tuple[torch.Tensor, torch.Tensor]:
    """Each image is filled with its own number, each of its own class, so that a mixture tells what it is made of."""
    images = torch.arange(n, dtype=torch.float32).view(n, 1, 1, 1).expand(n, 3, *size)
    return images.contiguous(memory_format=torch.channels_last), one_hot(torch.arange(n), n)


def shares(mixing: Mixing, steps: int, size: tuple[int, int] = (4, 4), seed: int = 0) -> np.ndarray:
    """λ of each step, read off the targets of an image that was not its own partner."""
    images, targets = batch(16, size)
    found = []
    for step in range(steps):
        _, mixed = mix(images, targets, mixing, seed=seed, step=step)
        own = mixed.diagonal()
        found.append(float(own.min()))
    return np.array(found)


@pytest.mark.parametrize("mixing", [Mixing(mixup=0.4), Mixing(mixup=1.0), Mixing(cutmix=1.0)])
def test_images_and_targets_are_mixed_alike(mixing: Mixing) -> None:
    images, targets = batch()
    before = images.clone(), targets.clone()
    for step in range(20):
        mixed, soft = mix(images, targets, mixing, seed=1, step=step)
        assert mixed.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(soft.sum(dim=1), torch.ones(8))
        # The mean of an image says how much of each number is in it: so must its target.
        torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), soft @ torch.arange(8.0), atol=1e-5, rtol=1e-5)
        if mixing.cutmix:
            assert set(mixed.unique().tolist()) <= set(range(8))
    assert torch.equal(images, before[0])
    assert torch.equal(targets, before[1])


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_mixup_draws_from_the_papers_beta(alpha: float) -> None:
    assert stats.kstest(shares(Mixing(mixup=alpha), 600), stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_cutmix_draws_from_the_papers_beta_and_cuts_around_a_uniform_centre() -> None:
    boxes = []
    for own in np.linspace(0.01, 0.99, 200):
        top, left, bottom, right = cut_box(200, 300, own, 0.5, 0.5)
        boxes.append((bottom - top) * (right - left) / 60000 - (1 - own))
    assert np.abs(boxes).max() < 0.02  # whole pixels
    assert cut_box(100, 100, 0.75, 0.0, 0.999) == (0, 74, 25, 100)
    # Away from the border λ is uniform for α = 1; cutting at the border makes boxes smaller, never larger.
    found = shares(Mixing(cutmix=1.0), 600, size=(160, 160))  # large enough for whole pixels not to show
    assert found.mean() > 0.55
    uniform = np.array([1 - np.prod([b - a for a, b in _clipped(lam, c)]) for lam, *c in _draws(4000)])
    assert stats.ks_2samp(found, uniform).pvalue > 1e-3


def _draws(n: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(size=(n, 3))


def _clipped(lam: float, centre: list[float]) -> list[tuple[float, float]]:
    half = np.sqrt(1 - lam) / 2
    return [(max(0.0, c - half), min(1.0, c + half)) for c in centre]


def test_a_step_is_a_function_of_seed_and_step() -> None:
    images, targets = batch()
    both = Mixing(mixup=0.8, cutmix=1.0)

    def of(seed: int, step: int) -> bytes:
        return b"".join(each.numpy().tobytes() for each in mix(images, targets, both, seed=seed, step=step))

    first = of(3, 0)
    assert len({of(3, 0), of(3, 1), of(4, 0)}) == 3
    assert of(3, 0) == first


def test_both_take_turns_and_a_share_of_steps_mixes() -> None:
    images, targets = batch()
    kinds = {"blended": 0, "cut": 0, "whole": 0}
    for step in range(400):
        mixed, soft = mix(images, targets, Mixing(mixup=1.0, cutmix=1.0, share=0.5), seed=0, step=step)
        if torch.equal(soft, targets):
            kinds["whole"] += 1
        else:
            kinds["cut" if torch.equal(mixed, mixed.round()) else "blended"] += 1
    assert 160 < kinds["whole"] < 245
    assert 70 < kinds["cut"] < 130
    assert 70 < kinds["blended"] < 130
    assert mix(images, targets, Mixing(), seed=0, step=0)[0] is images


def test_bytes_are_blended_to_the_nearest_and_several_labels_stay_shares() -> None:
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 1, 4, 4)
    targets = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    swapped = 0
    for step in range(10):
        mixed, soft = mix(images, targets, Mixing(mixup=1.0), seed=0, step=step)
        assert mixed.dtype == torch.uint8
        torch.testing.assert_close(soft[:, 1], torch.ones(2))
        torch.testing.assert_close(mixed[:, 0, 0, 0].float(), 255 * soft[:, 2], atol=0.51, rtol=0)
        swapped += not torch.equal(soft, targets)
    assert swapped > 0


def test_impossible_settings_are_refused() -> None:
    for wrong in ({"mixup": -1.0}, {"cutmix": -0.1}, {"share": 1.5}):
        with pytest.raises(InvalidArgument):
            Mixing(**wrong)
