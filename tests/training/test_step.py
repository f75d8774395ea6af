"""One step against torch's own arithmetic written out by hand."""

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from resnetkit.catalog.architectures import architecture
from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.catalog.recipe import Recipe
from resnetkit.data.mixing import Mixing, mix, one_hot
from resnetkit.data.transforms import normalise
from resnetkit.models import build
from resnetkit.tasks.objective import Objective
from resnetkit.training.optimisation import Optimiser
from resnetkit.training.running import forward_of
from resnetkit.training.step import _right, add_gradients


def test_a_step_is_nesterov_on_the_smoothed_loss_of_normalised_pixels():
    torch.manual_seed(0)
    network = build(architecture("resnet20_b"), num_classes=5).to(memory_format=torch.channels_last)
    twin = copy.deepcopy(network)
    preprocess = Preprocess.for_size(16, mean=(0.1, 0.2, 0.3), std=(0.5, 0.4, 0.3))
    images = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8)
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    recipe = Recipe(momentum=0.9, weight_decay=0.01, label_smoothing=0.1)
    optimiser = Optimiser(network, recipe)

    objective = Objective("cross_entropy", smoothing=0.1)
    velocity = {}
    for _ in range(2):
        result = add_gradients(
            network, optimiser, images, labels,
            preprocess=preprocess, objective=objective, precision="float32",
        )  # fmt: skip
        optimiser.step(0.05)

        twin.train()
        inputs = (images.float() / 255 - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor(
            [0.5, 0.4, 0.3]
        ).view(3, 1, 1)
        logits = twin(inputs)
        loss = -(F.log_softmax(logits, 1) * (0.9 * F.one_hot(labels, 5) + 0.1 / 5)).sum(1).mean()
        gradients = torch.autograd.grad(loss, list(twin.parameters()))
        with torch.no_grad():
            for (name, parameter), gradient in zip(twin.named_parameters(), gradients, strict=True):
                g = gradient + (0.01 * parameter if parameter.ndim > 1 else 0)
                velocity[name] = 0.9 * velocity[name] + g if name in velocity else g
                parameter -= 0.05 * (g + 0.9 * velocity[name])
        assert result.images == 6
        assert result.right == int((logits.argmax(1) == labels).sum())
        torch.testing.assert_close(torch.tensor(result.loss), loss.detach(), rtol=1e-4, atol=1e-5)

    for (name, ours), theirs in zip(network.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 5.0, 0.5, 2.0, 0.1])])
def test_a_batch_in_pieces_is_one_step_of_the_whole_batch(weights: torch.Tensor | None):
    preprocess = Preprocess.for_size(16)
    images = torch.randint(0, 256, (7, 3, 16, 16), dtype=torch.uint8)
    labels = torch.tensor([0, 1, 2, 3, 4, 0, 1])
    ends = []
    for pieces in (1, 3, 7):
        torch.manual_seed(0)
        network = build(architecture("resnet50d"), num_classes=5)
        for module in network.modules():  # a piece has its own statistics, so that only without them the sums agree
            if isinstance(module, torch.nn.BatchNorm2d):
                module.train = lambda mode=True, own=module: own
                module.training = False
        optimiser = Optimiser(network, Recipe(weight_decay=0.0))
        result = add_gradients(
            network, optimiser, images, labels, preprocess=preprocess,
            objective=Objective("cross_entropy", weights=weights), precision="float32", pieces=pieces,
        )  # fmt: skip
        optimiser.step(0.1)
        assert result.images == 7
        ends.append((result.loss, network.fc.weight.detach(), network.conv1[0].weight.detach()))
    for end in ends[1:]:
        torch.testing.assert_close(end[0], ends[0][0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(end[1:], ends[0][1:], rtol=1e-3, atol=1e-5)


def test_normalised_images_and_shares_are_mixed_before_the_network_sees_them():
    torch.manual_seed(0)
    network = build(architecture("resnet20_b"), num_classes=5)
    twin = copy.deepcopy(network)
    preprocess = Preprocess.for_size(16)
    images, labels = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8), torch.tensor([0, 1, 2, 3, 4, 0])
    mixed = partial(mix, mixing=Mixing(mixup=1.0), seed=3, step=7)
    result = add_gradients(
        network, Optimiser(network, Recipe()), images, one_hot(labels, 5), preprocess=preprocess,
        objective=Objective("cross_entropy"), precision="float32", pieces=2, mixed=mixed,
    )  # fmt: skip
    inputs, shares = mixed(normalise(images, preprocess), one_hot(labels, 5))
    assert (shares.amax(dim=1) < 1).any(), "something was mixed"
    twin.train()
    losses, right = [], 0
    for part in (slice(0, 3), slice(3, 6)):
        logits = twin(inputs[part])
        losses.append(-(F.log_softmax(logits, 1) * shares[part]).sum(1).mean())
        right += int((logits.argmax(1) == shares[part].argmax(1)).sum())
    assert result.right == right
    torch.testing.assert_close(torch.tensor(result.loss), sum(losses) / 2, rtol=1e-4, atol=1e-5)


def test_of_several_labels_any_is_right_and_where_there_is_none_nothing_is():
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    answers = torch.tensor([[1.0, 0.0, 1.0], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    assert int(_right(logits, answers)) == 2


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's compiler calls it itself
def test_a_compiled_network_learns_as_an_eager_one():
    torch.manual_seed(0)
    row = replace(architecture("resnet8_w56"), depths=(1,), widths=(16,), stem_width=16)  # each layer is compiled
    network = build(row, num_classes=5)
    images, labels = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8), torch.tensor([0, 1, 2, 3])
    ends = []
    for kind in ("torch", "compiled"):
        twin = copy.deepcopy(network)
        add_gradients(
            twin, Optimiser(twin, Recipe()), images, labels, preprocess=Preprocess.for_size(16),
            objective=Objective("cross_entropy"), precision="float32", forward=forward_of(twin, kind),
        )  # fmt: skip
        ends.append({name: parameter.grad for name, parameter in twin.named_parameters()})
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-3, atol=1e-4)
