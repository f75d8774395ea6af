"""Which parameters decay, how they are stepped, and how the learning rate moves."""

import math
from collections.abc import Mapping
from typing import final

from torch import Tensor, nn, optim

from resnetkit.catalog.recipes import Recipe


@final
class Optimiser:
    """A torch optimiser over the parameters of a network, each seen in the order in which its memory lies.

    Weights in channels-last are not contiguous under their own sizes, and torch's fused steps copy what is not; the
    same memory under permuted sizes is, and elementwise arithmetic does not mind.
    Twice as fast for ResNet-18 (docs/decisions/0002).
    """

    def __init__(self, network: nn.Module, recipe: Recipe) -> None:
        self._parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self._orders = {name: _order_of_memory(parameter) for name, parameter in self._parameters.items()}
        self._views = {name: p.detach().permute(self._orders[name]) for name, p in self._parameters.items()}
        # Decaying norms' scales and shifts and biases gains nothing and costs accuracy (He et al. 2018, arXiv
        # 1812.01187, section 3.1).
        decayed = [view for view in self._views.values() if view.ndim > 1]
        plain = [view for view in self._views.values() if view.ndim <= 1]
        self.sgd = optim.SGD(
            [
                {"params": params, "weight_decay": decay}
                for params, decay in ((decayed, recipe.weight_decay), (plain, 0.0))
                if params
            ],
            lr=0.0, momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=True,
        )  # fmt: skip

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters.values():
            parameter.grad = None

    def step(self, lr: float) -> None:
        """Change all parameters that have a gradient, at rate `lr`."""
        for name, view in self._views.items():
            gradient = self._parameters[name].grad
            view.grad = None if gradient is None else gradient.permute(self._orders[name]).contiguous()
        for group in self.sgd.param_groups:
            group["lr"] = lr
        self.sgd.step()

    def state(self) -> dict[str, Tensor]:
        """What the optimiser remembers, as `parameter/slot`, such as `conv1.weight/momentum_buffer`."""
        return {
            f"{name}/{slot}": value
            for name, view in self._views.items()
            for slot, value in self.sgd.state.get(view, {}).items()
            if isinstance(value, Tensor)
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Remember what `state()` of an earlier optimiser said."""
        for key, value in state.items():
            name, slot = key.split("/")
            self.sgd.state[self._views[name]][slot] = value.clone()


def _order_of_memory(tensor: Tensor) -> list[int]:
    """The sides from the outermost in memory to the innermost: O,h,w,I for O,I,h,w in channels-last."""
    return sorted(range(tensor.ndim), key=lambda side: (-tensor.stride()[side], -tensor.shape[side]))


def learning_rate(step: float, *, peak: float, warmup: int, total: int) -> float:
    """The rate of step `step` (from 0) of `total`: linear up over `warmup` steps, then a cosine down to nearly zero.

    >>> [round(learning_rate(s, peak=1.0, warmup=2, total=6), 3) for s in range(6)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * done))
