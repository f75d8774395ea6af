"""Each optimiser against its paper's arithmetic in float64, over weights that lie in channels-last memory."""

import pytest
import torch

from resnetkit.catalog.architectures import architecture
from resnetkit.catalog.recipe import Recipe
from resnetkit.models import build
from resnetkit.training.optimisation import Optimiser, learning_shares


def a_network() -> torch.nn.Module:
    torch.manual_seed(0)
    return build(architecture("resnet20_b"), num_classes=5).to(memory_format=torch.channels_last)


def gradients(network: torch.nn.Module, step: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(100 + step)
    return {name: torch.randn_like(parameter) for name, parameter in network.named_parameters()}


def stepped(recipe: Recipe, steps: int = 3, lr: float = 0.01) -> dict[str, torch.Tensor]:
    """The parameters after some steps on fixed gradients."""
    network = a_network()
    optimiser = Optimiser(network, recipe)
    for step in range(steps):
        for name, gradient in gradients(network, step).items():
            network.get_parameter(name).grad = gradient
        optimiser.step(lr)
    return {name: parameter.detach() for name, parameter in network.named_parameters()}


def decay_of(network: torch.nn.Module) -> dict[str, float]:
    """1 for the weights of convolutions and classifiers, by the kind of module; 0 for norms and biases."""
    return {
        f"{path}.{name}": float(isinstance(module, torch.nn.Conv2d | torch.nn.Linear) and name == "weight")
        for path, module in network.named_modules()
        for name, _ in module.named_parameters(recurse=False)
    }


@pytest.mark.parametrize("everything", [False, True])
def test_weights_decay_and_nothing_else_does_unless_asked(everything: bool):
    decaying, plain = stepped(Recipe(weight_decay=0.5, decay_norms=everything)), stepped(Recipe(weight_decay=0.0))
    for name, share in decay_of(a_network()).items():
        if not plain[name].any():
            continue
        assert torch.equal(decaying[name], plain[name]) != (share > 0 or everything), name


def test_lamb_is_the_papers_second_algorithm_with_shortened_gradients():
    network, lr, decay = a_network(), 0.01, 0.02
    ours = stepped(Recipe(optimiser="lamb", weight_decay=decay, clip_norm=1.0), lr=lr)
    decays = decay_of(network)
    weights = {name: parameter.detach().double() for name, parameter in network.named_parameters()}
    m = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    v = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for step in range(3):
        given = {name: gradient.double() for name, gradient in gradients(network, step).items()}
        length = sum(float((gradient**2).sum()) for gradient in given.values()) ** 0.5
        assert length > 1
        for name, weight in weights.items():
            g = given[name] / length
            m[name] = 0.9 * m[name] + 0.1 * g
            v[name] = 0.999 * v[name] + 0.001 * g**2
            r = (m[name] / (1 - 0.9 ** (step + 1))) / ((v[name] / (1 - 0.999 ** (step + 1))).sqrt() + 1e-6)
            if decays[name]:
                r = r + decay * weight
                r = r * weight.norm() / r.norm()
            weights[name] = weight - lr * r
    for name, weight in weights.items():
        torch.testing.assert_close(ours[name].double(), weight, rtol=1e-4, atol=1e-6, msg=name)


def test_lamb_moves_a_weight_that_is_zero():
    network = a_network()
    torch.nn.init.zeros_(network.fc.weight)
    optimiser = Optimiser(network, Recipe(optimiser="lamb", weight_decay=0.02))
    network.fc.weight.grad = torch.ones_like(network.fc.weight)
    optimiser.step(0.1)
    assert network.fc.weight.abs().min() > 0


def test_muon_turns_convolutions_to_steps_of_equal_singular_values_and_leaves_the_rest_to_adamw():
    network, recipe = a_network(), Recipe(optimiser="muon", weight_decay=0.0)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    turned, adamw = stepped(recipe, steps=1), stepped(Recipe(optimiser="adamw", weight_decay=0.0), steps=1)
    for name, old in before.items():
        if old.ndim != 4 or name == "conv1.weight":
            torch.testing.assert_close(turned[name], adamw[name], msg=name)
            continue
        # O,I,h,w as rows: which order the columns have does not change singular values.
        change = (turned[name] - old).flatten(1)
        values = torch.linalg.svdvals(change) / (0.01 * 0.2 * max(change.shape) ** 0.5)
        # Five steps of Newton and Schulz bring every singular value near one (Jordan et al. 2024), not onto it.
        assert values.max() < 1.3, name
        assert values.min() > 0.5, name


def test_gradients_are_shortened_to_the_norm_asked_for():
    network = a_network()
    plain, clipped = stepped(Recipe(weight_decay=0.0), 1), stepped(Recipe(weight_decay=0.0, clip_norm=2.0), 1)
    length = sum(float((gradient.double() ** 2).sum()) for gradient in gradients(network, 0).values()) ** 0.5
    for name, start in network.named_parameters():
        torch.testing.assert_close(clipped[name] - start, (plain[name] - start) * 2 / length, rtol=1e-2, atol=1e-6)


def test_each_stage_learns_at_a_share_of_the_one_after_it():
    network = a_network()
    shares = learning_shares(network, 0.5)
    assert shares["layer3.0.conv1.weight"] == 0.5
    assert shares["layer2.0.conv1.weight"] == 0.25
    assert shares["conv1.weight"] == shares["bn1.bias"] == 0.0625
    assert set(dict(network.named_parameters())) - set(shares) == {"fc.weight", "fc.bias"}
    slow, full = stepped(Recipe(layer_decay=0.5, weight_decay=0.0), 1), stepped(Recipe(weight_decay=0.0), 1)
    for name, start in network.named_parameters():
        share = shares.get(name, 1.0)
        torch.testing.assert_close(slow[name] - start, (full[name] - start) * share, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", ["sgd", "adamw", "lamb", "muon"])
def test_restored_an_optimiser_goes_on_bit_for_bit(kind):
    recipe, network = Recipe(optimiser=kind), a_network()
    optimiser = Optimiser(network, recipe)
    for step in range(4):
        if step == 2:
            state, kept = optimiser.state(), {key: tensor.clone() for key, tensor in network.state_dict().items()}
            network = a_network()
            network.load_state_dict(kept)
            optimiser = Optimiser(network, recipe)
            optimiser.restore({key: tensor.clone() for key, tensor in state.items()})
        for name, gradient in gradients(network, step).items():
            network.get_parameter(name).grad = gradient
        optimiser.step(0.01)
    for name, wanted in stepped(recipe, steps=4).items():
        assert torch.equal(network.get_parameter(name), wanted), name


@pytest.mark.parametrize("kind", ["sgd", "adamw", "lamb", "muon"])
def test_what_a_file_restores_is_where_the_parameters_are(kind):
    # A device without numbers stands for a GPU: a checkpoint's tensors come from a file, and so from the processor.
    recipe = Recipe(optimiser=kind)
    network = a_network()
    optimiser = Optimiser(network, recipe)
    for name, gradient in gradients(network, 0).items():
        network.get_parameter(name).grad = gradient
    optimiser.step(0.01)
    elsewhere = Optimiser(a_network().to("meta"), recipe)
    elsewhere.restore(optimiser.state())
    devices = {(key.split("/")[1], value.device.type) for key, value in elsewhere.state().items()}
    counted_here = {("step", "cpu")} if kind == "lamb" else set()
    assert {device for device in devices if device[1] != "meta"} == counted_here
    assert devices - counted_here
