"""Which parameters decay, and how the learning rate moves: both plain functions without a state to save."""

import math
from typing import Any

from torch import nn, optim

from resnetkit.catalog.recipes import Recipe


def build_optimiser(network: nn.Module, recipe: Recipe, lr: float) -> optim.SGD:
    """SGD with Nesterov momentum over two groups: weights decay; norms' scales and shifts and all biases do not.

    Decaying those gains nothing and costs accuracy (He et al. 2018, arXiv 1812.01187, section 3.1).
    """
    decayed = [p for p in network.parameters() if p.requires_grad and p.ndim > 1]
    plain = [p for p in network.parameters() if p.requires_grad and p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return optim.SGD(
        [group for group in groups if group["params"]],
        lr=lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=True,
    )  # fmt: skip


def learning_rate(step: int, *, peak: float, warmup: int, total: int) -> float:
    """The rate of step `step` (from 0) of `total`: linear up over `warmup` steps, then a cosine down to nearly zero.

    >>> [round(learning_rate(s, peak=1.0, warmup=2, total=6), 3) for s in range(6)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * done))
