"""Correct means equal to a reference: keys, shapes, parameter counts and float64 logits of torchvision and timm."""

import pytest
import torch

from resnetkit.catalog.architectures import ARCHITECTURES, Vgg, architecture
from resnetkit.models import build
from resnetkit.models.preact import EvoNormS0

GOLDEN_FILES = {
    "torchvision": "logits_torchvision.json",
    "timm": "logits_timm.json",
    "known": "architectures_timm.json",
}
TOLERANCE = 1e-9
# Its variance is defined in float32 whatever the images are, and processors add in orders of their own: seen 1.1e-7.
TOLERANCE_OF_EVONORM = 3e-7

# timm keeps VGG's hidden layers as convolutions under names of its own.
TIMM_VGG = {"pre_logits.fc1": "classifier.0", "pre_logits.fc2": "classifier.3", "head.fc": "classifier.6"}
TIMM_VGG_SHAPES = {"pre_logits.fc1.weight": (4096, 512, 7, 7), "pre_logits.fc2.weight": (4096, 4096, 1, 1)}


def meta(name, **arguments):
    with torch.device("meta"):
        return build(architecture(name), **arguments)


def shapes(network):
    return [(key, tuple(tensor.shape)) for key, tensor in network.state_dict().items()]


def assert_same(network, golden, images):
    with torch.inference_mode():
        logits = network.eval()(images)
    expected = torch.tensor(golden["logits_0_15"], dtype=torch.float64)
    norm = torch.tensor(golden["norm"], dtype=torch.float64)
    evolved = any(isinstance(module, EvoNormS0) for module in network.modules())
    tolerance = TOLERANCE_OF_EVONORM if evolved else TOLERANCE
    assert (logits[:, :16] - expected).norm() < tolerance * expected.norm()
    assert ((logits.norm(dim=1) - norm).abs() < tolerance * norm).all()


def test_torchvision(torchvision, timm_golden, golden_images, fill, key_digest):
    name, golden = torchvision
    same = timm_golden.get(name)
    if same and same["keys_sha256"] == golden["keys_sha256"]:  # then test_timm computes it
        for values in ("logits_0_15", "norm"):
            torch.testing.assert_close(torch.tensor(same[values]), torch.tensor(golden[values]), rtol=1e-9, atol=0)
        return
    network = meta(name)
    assert sum(weights.numel() for weights in network.parameters()) == golden["params"]
    assert key_digest(shapes(network)) == golden["keys_sha256"]
    network.load_state_dict({key: fill(key, shape) for key, shape in shapes(network)}, assign=True)
    assert_same(network, golden, golden_images)


def test_timm(timm, golden_images, fill, key_digest):
    name, golden = timm
    network = meta(name)
    renamed = {ours: theirs for theirs, ours in TIMM_VGG.items()} if isinstance(network.row, Vgg) else {}
    state, keys = {}, []
    for key, shape in shapes(network):
        layer, _, last = key.rpartition(".")
        their_key = f"{renamed.get(layer, layer)}.{last}"
        their_shape = TIMM_VGG_SHAPES.get(their_key, shape)
        keys.append((their_key, their_shape))
        state[key] = fill(their_key, their_shape).reshape(shape)
    assert sum(weights.numel() for weights in network.parameters()) == golden["params"]
    assert key_digest(keys) == golden["keys_sha256"]
    network.load_state_dict(state, assign=True)
    assert_same(network, golden, golden_images)


def test_counts_and_features(known):
    name, golden = known
    network = meta(name)
    assert sum(weights.numel() for weights in network.parameters()) == golden["params"]
    assert len(network.state_dict()) == golden["tensors"]
    assert network.feature_info.channels() == golden["feature_channels"]
    assert network.feature_info.reduction() == golden["feature_strides"]


@pytest.mark.parametrize(
    ("name", "params"),
    [
        # He et al. 2015, table 6, in millions; the two shortcuts of options A and B differ by 2,752.
        ("resnet20", 0.27), ("resnet32", 0.46), ("resnet44", 0.66), ("resnet56", 0.85), ("resnet110", 1.7),
        ("resnet1202", 19.4), ("resnet20_b", 0.27), ("plain20", 0.27), ("plain56", 0.85),
        # He et al. 2016, table 4; Zagoruyko and Komodakis 2016, table 4; Xie et al. 2017, table 7.
        ("preact_resnet110", 1.7), ("preact_resnet164", 1.7), ("preact_resnet1001", 10.2),
        ("wrn16_4", 2.7), ("wrn28_10", 36.5), ("resnext29_8x64d", 34.4), ("resnext29_16x64d", 68.1),
    ],
)  # fmt: skip
def test_small_image_networks_have_the_published_size(name, params):
    network = meta(name, num_classes=10)
    assert sum(weights.numel() for weights in network.parameters()) / 1e6 == pytest.approx(params, rel=0.02)


def test_every_name_is_its_own_network():
    assert len(set(ARCHITECTURES.values())) == len(ARCHITECTURES)
