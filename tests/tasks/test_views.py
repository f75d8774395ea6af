import numpy as np
import pytest
import torch

from resnetkit.catalog.architectures import architecture
from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.errors import InvalidArgument
from resnetkit.models import build
from resnetkit.tasks.classifier import TorchClassifier
from resnetkit.tasks.views import asked_with


def test_an_image_and_its_mirror_image_get_the_same_answer_the_mean_of_both():
    torch.manual_seed(0)
    network = build(architecture("resnet20"), num_classes=3)
    plain = TorchClassifier(network, num_classes=3, class_names=None, preprocess=Preprocess.for_size(16))
    mirrored = asked_with("flip", plain)
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    one, other = plain(images), plain(images[:, :, ::-1].copy())
    assert not np.allclose(one, other, atol=1e-4)
    np.testing.assert_allclose(mirrored(images), (one.astype(float) + other) / 2, rtol=1e-5)
    np.testing.assert_allclose(mirrored(images), mirrored(images[:, :, ::-1].copy()), rtol=1e-5)
    streamed = list(mirrored.stream([images, images[:1]]))
    assert [len(answers) for answers in streamed] == [4, 1]
    np.testing.assert_allclose(np.concatenate(streamed), mirrored(images[[0, 1, 2, 3, 0]]), rtol=1e-5)
    assert (mirrored.num_classes, mirrored.preprocess) == (3, plain.preprocess)
    assert "mirror" in mirrored.description
    assert asked_with("none", plain) is plain
    with pytest.raises(InvalidArgument, match="choose none, flip or shifts"):
        asked_with("turn", plain)


def test_shifts_are_six_views_the_middle_counting_half():
    torch.manual_seed(0)
    network = build(architecture("resnet20"), num_classes=3)
    plain = TorchClassifier(network, num_classes=3, class_names=None, preprocess=Preprocess.for_size(32))
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)

    def both(pixels: np.ndarray) -> np.ndarray:
        return plain(pixels).astype(float) + plain(pixels[:, :, ::-1].copy())

    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    down, up = padded[:, :32, :32].copy(), padded[:, 2:, 2:].copy()
    wanted = both(images) / 4 + both(down) / 8 + both(up) / 8
    several = asked_with("shifts", plain)
    np.testing.assert_allclose(several(images), wanted, rtol=1e-5)
    np.testing.assert_allclose(np.concatenate(list(several.stream([images[:1], images[1:]]))), wanted, rtol=1e-4)
