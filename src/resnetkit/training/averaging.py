"""An average of the weights over the steps, which often scores better than the weights of any one step."""

import copy
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn


@final
class Average:
    """An exponential moving average of a network (Polyak and Juditsky 1992; Tarvainen and Valpola 2017, 1703.01780).

    Parameters and float buffers are averaged with the same decay, so that batch norm's statistics belong to the weights
    beside them; whole numbers are copied. In the first steps the decay is less, (1 + t) / (10 + t), so that a short run
    is not an average of its random start.
    """

    def __init__(self, network: nn.Module, decay: float, every: int = 1) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False)
        """the network with the averaged weights"""
        self.decay, self.every = decay, every
        pairs = list(zip(self._own(), _tensors(network), strict=True))
        self._averaged = [(own, other) for own, other in pairs if own.is_floating_point()]
        self._copied = [(own, other) for own, other in pairs if not own.is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the network as it is after step `step` (from 0)."""
        if (step + 1) % self.every:
            return
        times = (step + 1) // self.every
        weight = 1 - min(self.decay, (1 + times) / (10 + times))
        own, others = map(list, zip(*self._averaged, strict=True))
        torch._foreach_lerp_(own, others, weight)
        for mine, other in self._copied:
            mine.copy_(other)

    def state(self) -> dict[str, Tensor]:
        """The averaged network's tensors by name."""
        return self.network.state_dict()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Stand where `state()` of an earlier average stood."""
        self.network.load_state_dict(state)

    def _own(self) -> list[Tensor]:
        return _tensors(self.network)


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*(parameter.detach() for parameter in network.parameters()), *network.buffers()]
