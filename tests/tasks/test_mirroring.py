import torch

from resnetkit.catalog.architectures import architecture
from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.models import build
from resnetkit.tasks.classifier import TorchClassifier
from resnetkit.tasks.mirroring import Mirrored


def test_an_image_and_its_mirror_image_get_the_same_answer_the_mean_of_both():
    torch.manual_seed(0)
    network = build(architecture("resnet20"), num_classes=3)
    plain = TorchClassifier(network, num_classes=3, class_names=None, preprocess=Preprocess.for_size(16))
    mirrored = Mirrored(plain)
    images = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    one, other = plain(images), plain(images.flip(3))
    assert not torch.allclose(one, other, atol=1e-4)
    torch.testing.assert_close(mirrored(images), (one.double() / 2 + other.double() / 2).float())
    torch.testing.assert_close(mirrored(images), mirrored(images.flip(3)))
    assert (mirrored.num_classes, mirrored.preprocess) == (3, plain.preprocess)
    assert "mirror" in mirrored.description
