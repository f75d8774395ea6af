import numpy as np
import pytest
import torch

from resnetkit.catalog.architectures import architecture
from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.errors import InvalidArgument
from resnetkit.models import build
from resnetkit.tasks.classifier import TorchClassifier
from resnetkit.tasks.mirroring import Mirrored, asked_with


def test_an_image_and_its_mirror_image_get_the_same_answer_the_mean_of_both():
    torch.manual_seed(0)
    network = build(architecture("resnet20"), num_classes=3)
    plain = TorchClassifier(network, num_classes=3, class_names=None, preprocess=Preprocess.for_size(16))
    mirrored = Mirrored(plain)
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
    np.testing.assert_array_equal(asked_with("flip", plain)(images), mirrored(images))
    with pytest.raises(InvalidArgument, match="choose none or flip"):
        asked_with("turn", plain)
