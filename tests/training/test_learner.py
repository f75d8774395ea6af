"""What a step may change: all that is not frozen, in the head's phase the classifier alone."""

import torch

from resnetkit.catalog.architectures import architecture
from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.catalog.recipe import Recipe
from resnetkit.models import Network, build
from resnetkit.tasks.objective import Objective
from resnetkit.training.learner import Learner
from resnetkit.training.step import add_gradients


def a_network() -> Network:
    torch.manual_seed(0)
    return build(architecture("resnet18"), num_classes=3).to(memory_format=torch.channels_last)


def changed_by_a_step(learner: Learner) -> set[str]:
    before = {key: tensor.clone() for key, tensor in learner.network.state_dict().items()}
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    add_gradients(
        learner.network, learner.optimiser, images, torch.tensor([0, 1, 2, 0]),
        preprocess=Preprocess.for_size(64), objective=Objective("cross_entropy"), precision="float32",
    )  # fmt: skip
    learner.optimiser.step(0.1)
    return {key for key, tensor in learner.network.state_dict().items() if not torch.equal(before[key], tensor)}


def test_the_head_alone_learns_and_then_all_but_what_is_frozen():
    learner = Learner(a_network(), Recipe(freeze="stage1", weight_decay=0.1))
    learner.train_head_only(True)
    assert changed_by_a_step(learner) == {"fc.weight", "fc.bias"}
    learner.train_head_only(True)
    learner.train_head_only(False)
    changed = changed_by_a_step(learner)
    assert {"layer2.0.conv1.weight", "layer2.0.bn1.running_mean", "fc.bias"} <= changed
    assert not [key for key in changed if key.startswith(("conv1", "bn1", "layer1"))]


def test_still_norms_stay_still_after_the_heads_phase():
    learner = Learner(a_network(), Recipe(freeze_norm=True))
    learner.train_head_only(True)
    learner.train_head_only(False)
    changed = changed_by_a_step(learner)
    assert "bn1.weight" in changed
    assert not [key for key in changed if "running" in key]


def test_a_learner_is_restored_whole():
    recipe = Recipe(ema_decay=0.9, optimiser="adamw")
    learner = Learner(a_network(), recipe)
    changed_by_a_step(learner)
    learner.stepped(0)
    state = {key: tensor.clone() for key, tensor in learner.state().items()}
    other = Learner(a_network(), recipe)
    other.restore(state)
    assert other.state().keys() == state.keys()
    assert all(torch.equal(tensor, state[key]) for key, tensor in other.state().items())
    assert any(key.startswith("average/") for key in state)
