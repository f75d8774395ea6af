import math
from itertools import pairwise

import torch

from resnetkit.catalog.architectures import architecture
from resnetkit.catalog.recipes import Recipe
from resnetkit.models import build
from resnetkit.training.optimisation import Optimiser, learning_rate


def test_weights_decay_and_nothing_else_does():
    network = build(architecture("resnet20"), num_classes=10)
    optimiser = Optimiser(network, Recipe(weight_decay=0.5))
    groups = optimiser.sgd.param_groups
    decays = {view.data_ptr(): group["weight_decay"] for group in groups for view in group["params"]}
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            is_weight = isinstance(module, torch.nn.Conv2d | torch.nn.Linear) and name == "weight"
            assert decays.pop(parameter.data_ptr()) == (0.5 if is_weight else 0.0), (module, name)
    assert not decays


def test_the_rate_rises_then_falls_along_a_cosine_to_nearly_zero():
    rates = [learning_rate(step, peak=0.4, warmup=10, total=110) for step in range(110)]
    assert max(rates) == 0.4
    assert rates[:10] == [0.4 * (step + 1) / 10 for step in range(10)]
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert math.isclose(rates[60], 0.2)
    assert 0 < rates[-1] < 0.001


def test_without_warmup_it_begins_at_the_peak():
    assert learning_rate(0, peak=1.0, warmup=0, total=1) == 1.0
