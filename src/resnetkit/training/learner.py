"""What learns: a network, its optimiser and, if wanted, the average of its weights. A checkpoint holds all of it."""

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn

from resnetkit.catalog.recipe import Recipe
from resnetkit.models import Network
from resnetkit.training.averaging import Average
from resnetkit.training.freezing import body, freeze, freeze_norms, thaw_norms
from resnetkit.training.optimisation import Optimiser
from resnetkit.training.running import forward_of
from resnetkit.training.symmetry import Symmetry


@final
class Learner:
    """Everything that a step changes."""

    def __init__(self, network: Network, recipe: Recipe) -> None:
        self.network = network
        if recipe.freeze != "none":
            freeze(network, recipe.freeze)
        if recipe.freeze_norm:
            freeze_norms(network)
        self._symmetry = Symmetry(network) if recipe.mirrored_weights else None
        self.forward = forward_of(network, recipe.kernels)
        self.optimiser = Optimiser(network, recipe)
        self.average = Average(network, recipe.ema_decay, recipe.ema_every) if recipe.ema_decay else None
        self._resting: tuple[list[nn.Module], list[nn.Parameter]] | None = None

    @property
    def model(self) -> nn.Module:
        """The network that is scored and kept."""
        return self.average.network if self.average else self.network

    def train_head_only(self, alone: bool) -> None:
        """Let the body rest, weights and statistics, while the classifier learns; or let all learn that may."""
        if alone == (self._resting is not None):
            return
        if self._resting is None:
            # What is still for the whole run must not be woken with the rest.
            modules = [module for part in body(self.network) for module in part.modules()]
            norms: list[nn.Module] = [module for module in modules if type(module) is nn.BatchNorm2d]
            parameters = [p for part in body(self.network) for p in part.parameters() if p.requires_grad]
            self._resting = norms, parameters
        norms, parameters = self._resting
        for norm in norms:
            (freeze_norms if alone else thaw_norms)(norm)
        for parameter in parameters:
            parameter.requires_grad_(not alone)
        if not alone:
            self._resting = None
            self.optimiser.forget()  # what moved so far did so on features that stood still

    def stepped(self, step: int) -> None:
        """To be called after step `step` (from 0)."""
        if self._symmetry:
            self._symmetry.keep()
        if self.average:
            self.average.update(step)

    def finite(self) -> bool:
        """Whether all that was learnt is numbers."""
        tensors = [*self.network.parameters(), *self.network.buffers()]
        return all(bool(torch.isfinite(tensor).all()) for tensor in tensors if tensor.is_floating_point())

    def state(self) -> dict[str, Tensor]:
        """All tensors, as `network/…`, `optimiser/…` and `average/…`."""
        parts = {"network": self.network.state_dict(), "optimiser": self.optimiser.state()}
        if self.average:
            parts["average"] = self.average.state()
        return {f"{part}/{key}": tensor for part, tensors in parts.items() for key, tensor in tensors.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Stand where `state()` of an earlier learner stood."""
        self.network.load_state_dict(_part(state, "network/"))
        self.optimiser.restore(_part(state, "optimiser/"))
        if self.average:
            # A run that was begun without one has its average begin with the weights as they are.
            self.average.restore(_part(state, "average/") or _part(state, "network/"))


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
