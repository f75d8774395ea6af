"""LAMB, which torch does not have."""

from collections.abc import Iterable, Mapping
from typing import Any, final

import torch
from torch import Tensor, optim


@final
class Lamb(optim.Optimizer):
    """Adam whose step for each weight is as long as the weight itself, times the rate (arXiv 1904.00962, algorithm 2).

    As the recipes of "ResNet strikes back" (arXiv 2110.00476) used it: moments with bias correction, and the trust
    ratio only for what decays, so that norms and biases take Adam's own steps. The paper's bounds on the trust ratio
    are not used.
    """

    def __init__(
        self, params: Iterable[Mapping[str, Any]], *, lr: float, betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
    ) -> None:  # fmt: skip
        super().__init__([dict(group) for group in params], {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Change all parameters that have a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.add_(self._update(group, parameter, parameter.grad), alpha=-group["lr"])

    def _update(self, group: dict[str, Any], parameter: Tensor, gradient: Tensor) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        taken, (first, second) = int(state["step"]), group["betas"]
        mean = state["exp_avg"].lerp_(gradient, 1 - first)
        square = state["exp_avg_sq"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        update: Tensor = (mean / (1 - first**taken)) / ((square / (1 - second**taken)).sqrt() + group["eps"])
        if not group["weight_decay"]:
            return update
        update.add_(parameter, alpha=group["weight_decay"])
        long, short = parameter.norm(), update.norm()
        # A weight that is all zeros (a zero gamma's neighbour) would never leave zero at a ratio of zero.
        return update * torch.where((long > 0) & (short > 0), long / short, 1.0)
