"""What is frozen stays as it is, bit for bit, whoever calls train() and for however many steps."""

import pytest
import torch

from resnetkit.catalog.architectures import architecture
from resnetkit.errors import InvalidArgument
from resnetkit.models import Network, build
from resnetkit.training.freezing import body, freeze, freeze_norms, thaw_norms

NETWORKS = ("resnet18", "resnet20", "resnet50d", "resnetv2_18", "densenet121", "vgg11_bn")


def changed_by_a_step(network: torch.nn.Module) -> set[str]:
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    network.train()
    network(torch.randn(4, 3, 64, 64)).square().sum().backward()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter -= 0.01 * parameter.grad
    return {key for key, tensor in network.state_dict().items() if not torch.equal(before[key], tensor)}


def of_the_classifier(network: Network) -> list[str]:
    own = {id(parameter) for parameter in network.get_classifier().parameters()}
    return [key for key, parameter in network.named_parameters() if id(parameter) in own]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_frozen_body_leaves_the_classifier_alone_to_learn(name: str):
    network = build(architecture(name), num_classes=3)
    freeze(network, "body")
    assert changed_by_a_step(network) == set(of_the_classifier(network))


@pytest.mark.parametrize(
    ("until", "still", "moving"),
    [
        ("stem", ("conv1.", "bn1."), ("layer1.0.bn2.weight", "layer1.0.bn1.running_mean")),
        ("stage1", ("conv1.", "bn1.", "layer1."), ("layer2.0.bn2.weight", "layer2.0.bn1.running_mean")),
        ("stage3", ("conv1.", "bn1.", "layer1.", "layer2.", "layer3."), ("layer4.0.bn2.weight", "fc.weight")),
    ],
)
def test_the_stages_up_to_one_stand_still_and_the_others_learn(until: str, still: tuple[str, ...], moving: tuple[str]):
    network = build(architecture("resnet18"), num_classes=3)
    freeze(network, until)
    changed = changed_by_a_step(network)
    assert not [key for key in changed if key.startswith(still)]
    assert set(moving) <= changed


def test_still_norms_keep_their_statistics_while_their_scales_learn():
    network = build(architecture("resnet18"), num_classes=3)
    freeze_norms(network)
    changed = changed_by_a_step(network)
    assert "bn1.weight" in changed
    assert not [key for key in changed if "running" in key or "tracked" in key]
    thaw_norms(network)
    assert "bn1.running_mean" in changed_by_a_step(network)


def test_a_stage_that_the_network_does_not_have_is_named_with_those_it_has():
    with pytest.raises(InvalidArgument, match=r"stage4.*stem, stage1, stage2, stage3 and body"):
        freeze(build(architecture("resnet20"), num_classes=3), "stage4")


@pytest.mark.parametrize("name", NETWORKS)
def test_the_body_is_everything_but_the_classifier(name: str):
    network = build(architecture(name), num_classes=3)
    inside = {id(p) for module in body(network) for p in module.parameters()}
    outside = [key for key, p in network.named_parameters() if id(p) not in inside]
    assert outside == of_the_classifier(network)
