"""What is said without running is what running shows."""

import json

import pytest
import torch
from torch import nn

from resnetkit.catalog.architectures import ARCHITECTURES, architecture
from resnetkit.errors import InvalidInputSize
from resnetkit.models import build, describe

GOLDEN_FILES = {"multiply_adds": "gmacs_torchvision.json"}


def test_multiply_adds_are_torchvisions(multiply_adds):
    name, gmacs = multiply_adds
    assert round(describe(name).macs / 1e9, 3) == gmacs


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet18", (3, 224, 224)), ("resnet50", (3, 96, 160)), ("vgg11_bn", (3, 64, 64)),
        ("densenet121", (3, 96, 96)), ("resnetv2_50d_gn", (3, 96, 96)), ("seresnext26t_32x4d", (3, 96, 96)),
        ("resnet20", (3, 32, 32)), ("resnetv2_50d_evos", (3, 64, 64)), ("resnetblur18", (3, 96, 96)),
    ],
)  # fmt: skip
def test_bytes_saved_for_backward_are_those_that_autograd_saves(name, size):
    batch = 2
    network = build(architecture(name)).train()
    weights = {tensor.untyped_storage().data_ptr() for tensor in network.state_dict().values()}
    saved = {}

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in weights:
            saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(torch.randn(batch, *size))
    counted = sum(tensor.untyped_storage().nbytes() for tensor in saved.values()) / batch
    assert describe(name, size).saved_bytes == pytest.approx(counted, rel=0.05)


@pytest.mark.parametrize("name", ["resnet18", "resnetv2_50d", "densenet121", "resnet20"])
def test_shapes_strides_and_parameters_are_the_networks(name):
    network = build(architecture(name), num_classes=10).eval()
    described = describe(name, (3, 75, 101), num_classes=10)
    x = torch.randn(1, 3, 75, 101)
    shapes = []
    with torch.no_grad():
        for step in network.steps():
            for module in step:
                x = module(x)
            shapes.append(tuple(x.shape[1:]))
    assert [stage.shape for stage in described.stages] == [*shapes, (10,)]
    assert [stage.stride for stage in described.stages] == [*network.feature_info.reduction(), None]
    assert sum(stage.params for stage in described.stages) == described.params
    assert sum(stage.macs for stage in described.stages) == described.macs
    assert sum(layer.params for layer in described.layers) == described.params


@pytest.mark.parametrize("name", ["resnet10t", "resnet20", "resnetblur18", "resnet50_v1", "resnet18"])
def test_receptive_field_is_how_far_a_pixel_reaches(name):
    """Along the first stages, where it is smaller than the image: the gradient of one place is as wide."""

    def averaging(module):  # the gradient of a maximum reaches one pixel alone
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):
                module.add_module(name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))
            averaging(child)

    network = build(architecture(name)).double().eval()
    for parameter in network.parameters():
        parameter.data.abs_().add_(0.01)  # so that no path cancels another
    averaging(network)
    size = 192
    for index, stage in enumerate(describe(name, (3, size, size)).stages[:3]):
        x = torch.ones(1, 3, size, size, dtype=torch.float64, requires_grad=True)
        y = x
        for step in network.steps()[: index + 1]:
            for module in step:
                y = module(y)
        middle = y.shape[2] // 2
        y[0, :, middle, middle].sum().backward()
        assert int((x.grad[0, 0].abs().sum(1) > 0).sum()) == stage.receptive_field


def test_peak_memory_of_a_plain_chain():
    """Where VGG is widest; the image stays with the caller, and torch's maximum makes indices of eight bytes."""
    image, widest, halved = 3 * 64 * 64, 64 * 64 * 64, 64 * 32 * 32
    assert describe("vgg11", (3, 64, 64)).peak_bytes == 4 * (image + widest + halved) + 8 * halved
    assert describe("vgg16", (3, 64, 64)).peak_bytes == 4 * (image + 2 * widest)


def test_a_size_that_does_not_divide_is_told_with_its_remedy():
    described = describe("resnet34", (3, 225, 320))
    assert described.padding == (31, 0)
    finest = described.skips[0]
    assert (finest.stage, finest.size, finest.upsampled, finest.fits) == ("image", (225, 320), (226, 320), False)
    assert "to 256 × 320, mends every skip" in " ".join(str(described).split())
    mended = describe("resnet34", (3, 256, 320))
    assert all(skip.fits for skip in mended.skips)
    assert mended.padding == (0, 0)
    assert "mends" not in str(mended)


def test_too_small_an_image_is_refused():
    with pytest.raises(InvalidInputSize, match="16 × 16 pixels vanishes"):
        describe("vgg16", (3, 16, 16))


def test_nothing_is_allocated_for_the_largest():
    described = describe("resnetv2_152x4_bit", (3, 480, 480))
    assert described.params == 936_533_224


def test_to_dict_is_json():
    described = json.loads(json.dumps(describe("resnet18").to_dict()))
    assert described["name"] == "resnet18"
    assert set(described["stages"][0]) >= {"name", "shape", "stride", "receptive_field", "params", "macs"}


@pytest.mark.parametrize("name", ["resnet18", "densenet264d", "vgg19_bn", "resnetv2_152x4_bit", "resnet1202"])
def test_the_table_fits_100_columns(name):
    size = (3, 32, 32) if name == "resnet1202" else (3, 225, 300)
    described = describe(name, size)
    assert max(map(len, str(described).splitlines())) <= 100


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_row_can_be_described(name):
    described = describe(name, (3, 64, 96))
    assert max(map(len, str(described).splitlines())) <= 100
    assert described.macs > 0
