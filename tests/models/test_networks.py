"""What a person may ask of a network beyond what every row promises."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from resnetkit.catalog.architectures import ARCHITECTURES, architecture
from resnetkit.errors import InvalidArgument
from resnetkit.models import FeatureExtractor, build, build_hollow, fit_weights


@pytest.mark.parametrize("name", ["resnet20", "densenet121", "vgg11_bn", "resnetv2_50x1_bit", "resnetv2_50d_evos"])
def test_a_hollow_network_is_the_same_without_numbers(name: str):
    hollow, whole = (make(architecture(name), num_classes=7, in_chans=1) for make in (build_hollow, build))
    assert all(values.is_meta for values in hollow.state_dict().values())
    for mine, theirs in ((hollow.named_parameters(), whole.named_parameters()),
                         (hollow.named_buffers(), whole.named_buffers())):  # fmt: skip
        kinds = [
            [(key, values.shape, values.dtype, values.requires_grad) for key, values in each] for each in (mine, theirs)
        ]
        assert kinds[0] == kinds[1]
    hollow.load_state_dict(whole.state_dict(), assign=True)
    images = torch.randn(1, 1, 64, 64)
    assert torch.equal(hollow.eval()(images), whole.eval()(images))


def test_a_row_of_ones_own_builds():
    row = replace(architecture("resnet50"), depths=(1, 2), widths=(32, 48), stem="conv3", attention="se")
    network = build(row, num_classes=3).eval()
    assert network(torch.zeros(1, 3, 32, 40)).shape == (1, 3)
    assert network.feature_info.channels() == [64, 128, 192]


def test_the_tutorials_idioms_work():
    network = build(architecture("resnet18"))
    names = [name for name, _ in network.named_children()]
    assert names == ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc"]
    body = nn.Sequential(*list(network.children())[:-1])
    assert body(torch.zeros(2, 3, 64, 64)).shape == (2, 512, 1, 1)
    network.fc = nn.Linear(network.fc.in_features, 4)
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 4)
    assert network.layer4[-1].conv2.out_channels == 512


def test_zero_gamma_makes_each_residual_start_as_identity():
    network = build(architecture("resnet18")).eval()
    block = network.get_submodule("layer1.0")
    x = torch.rand(1, 64, 8, 8)
    assert torch.equal(block(x), x)
    x = torch.rand(1, 16, 8, 8)
    assert torch.equal(build(architecture("resnet20")).get_submodule("layer1.0")(x), x)


def test_plain_networks_start_with_gammas_of_one():
    network = build(architecture("plain20"))
    assert all(norm.weight.all() for norm in network.modules() if isinstance(norm, nn.BatchNorm2d))


def test_convolutions_start_as_published():
    """Kaiming normal by fan-out: variance 2 / (out channels · kernel²)."""
    torch.manual_seed(0)
    weight = build(architecture("resnet50")).get_parameter("layer3.0.conv2.weight")
    assert weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)


def test_option_a_subsamples_and_pads_with_zero_channels():
    shortcut = build(architecture("resnet20")).get_submodule("layer2.0.downsample")
    x = torch.rand(1, 16, 5, 6)
    y = shortcut(x)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert not y[:, :8].any()
    assert not y[:, 24:].any()


@pytest.mark.parametrize(
    ("name", "strided"), [("resnet50", "conv2"), ("resnet50_v1", "conv1"), ("preact_resnet164", "conv1")]
)
def test_where_a_bottleneck_strides(name, strided):
    network = build(architecture(name))
    blocks = [module for module in network.modules() if hasattr(module, "conv3") and module.conv1.in_channels > 64]
    first = next(block for block in blocks if block.conv1.stride == (2, 2) or block.conv2.stride == (2, 2))
    assert getattr(first, strided).stride == (2, 2)


def test_drop_rate_drops_in_training_only():
    network = build(architecture("resnet20"), num_classes=10, drop_rate=0.9)
    features = torch.ones(1, 64, 4, 4)
    torch.manual_seed(0)
    assert not torch.equal(network.forward_head(features), network.forward_head(features))
    network.eval()
    assert torch.equal(network.forward_head(features), network.forward_head(features))


def test_drop_path_skips_whole_samples_and_keeps_the_mean():
    network = build(architecture("resnet18"), drop_path_rate=0.5)
    drop = network.get_submodule("layer4.1.drop_path").train()
    torch.manual_seed(0)
    y = drop(torch.ones(10_000, 1, 1, 1))
    assert set(y.unique().tolist()) == {0.0, 2.0}
    assert y.mean().item() == pytest.approx(1, abs=0.05)
    rates = [m.rate for m in network.modules() if hasattr(m, "rate")]
    assert rates == pytest.approx([0.5 * i / 7 for i in range(1, 8)])


def test_drop_path_repeats_under_checkpointing():
    from copy import deepcopy

    from resnetkit.models import checkpoint_blocks

    network = build(architecture("resnet20"), num_classes=2, drop_path_rate=0.5).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 0.5)
    sparing = deepcopy(network)
    checkpoint_blocks(sparing)
    for one in (network, sparing):
        torch.manual_seed(3)
        one(torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))).sum().backward()
    for mine, theirs in zip(network.parameters(), sparing.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnet18", {"output_stride": 4}, "choose 8, 16 or 32"),
        ("resnet20", {"output_stride": 16}, "small stem"),
        ("vgg11", {"output_stride": 16}, "output_stride at 32"),
        ("densenet121", {"drop_path_rate": 0.1}, "drop_path_rate at 0"),
        ("plain20", {"drop_path_rate": 0.1}, "without shortcuts"),
        ("resnet18", {"num_classes": -1}, "num_classes -1"),
        ("resnet18", {"in_chans": 0}, "in_chans 0"),
        ("resnet18", {"drop_rate": 1.0}, "drop_rate 1.0"),
        ("resnet18", {"drop_path_rate": 1.5}, "drop_path_rate 1.5"),
    ],
)
def test_arguments_that_cannot_be(name, arguments, message):
    with torch.device("meta"), pytest.raises(InvalidArgument, match=message):
        build(architecture(name), **arguments)


@pytest.mark.parametrize("name", ["resnet50_gn", "resnetv2_50d_gn", "resnetv2_50d_evos"])
def test_a_norm_over_groups_needs_channels_that_they_divide(name):
    row = architecture(name)
    with torch.device("meta"), pytest.raises(InvalidArgument, match="cannot divide 40 channels"):
        build(replace(row, widths=(40, *row.widths[1:]), stem_width=64))


def test_features_can_be_chosen_from_the_end():
    extractor = FeatureExtractor(build(architecture("resnet18")), out_indices=(-1, 1))
    assert extractor.feature_info.channels() == [64, 512]
    assert extractor.feature_info.module_name() == ["layer1", "layer4"]
    with pytest.raises(InvalidArgument, match="0 to 4"):
        FeatureExtractor(build(architecture("resnet18")), out_indices=(5,))


def test_what_no_asked_for_map_needs_is_left_out():
    extractor = FeatureExtractor(build(architecture("resnet18")), out_indices=(2,))
    assert {name.split(".")[0] for name, _ in extractor.named_parameters()} == {"conv1", "bn1", "layer1", "layer2"}


@pytest.mark.parametrize("name", ["resnet18", "resnet50d", "resnetv2_18", "densenet121", "vgg11_bn"])
def test_weights_for_colour_fit_grey_images_and_other_classes(name):
    row = ARCHITECTURES[name]
    if name == "vgg11_bn":
        row = replace(row, hidden_features=64)
    colour = build(row, num_classes=10).eval()
    grey = build(row, num_classes=3, in_chans=1).eval()
    grey.load_state_dict(fit_weights(grey, colour.state_dict()))
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(grey.forward_features(image), colour.forward_features(image.expand(-1, 3, -1, -1)))
    assert grey(image).shape == (1, 3)


def test_weights_for_colour_fit_more_channels():
    colour, more = (
        build(architecture("resnet18"), num_classes=10).eval(),
        build(architecture("resnet18"), num_classes=10, in_chans=6).eval(),
    )
    more.load_state_dict(fit_weights(more, colour.state_dict()))
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(more(image.repeat(1, 2, 1, 1)), colour(image))
