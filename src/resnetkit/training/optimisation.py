"""Which parameters decay and at which share of the rate they learn, and how they are stepped."""

from collections.abc import Collection, Mapping
from typing import Any, final

import torch
from torch import Tensor, nn, optim

from resnetkit.catalog.recipe import Recipe
from resnetkit.models import Network
from resnetkit.training.lamb import Lamb

_SECOND_MOMENT = 0.999


@final
class Optimiser:
    """torch optimisers over the parameters of a network, each seen in the order in which its memory lies.

    Weights in channels-last are not contiguous under their own sizes, and torch's fused steps copy what is not; the
    same memory under permuted sizes is, and elementwise arithmetic does not mind.
    Twice as fast for ResNet-18 (docs/decisions/0002).
    """

    def __init__(self, network: nn.Module, recipe: Recipe) -> None:
        self._parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self._orders = {name: _order_of_memory(parameter) for name, parameter in self._parameters.items()}
        matrices = _convolutions(self._parameters) if recipe.optimiser == "muon" else []
        self._views = {
            name: parameter.detach().permute(self._orders[name]) for name, parameter in self._parameters.items()
        }
        self._views |= {name: self._views[name].flatten(1) for name in matrices}
        self._clip_norm = recipe.clip_norm
        self.engines = _engines(recipe, self._views, matrices, learning_shares(network, recipe.layer_decay))
        self._engine_of = {
            view: engine for engine in self.engines for group in engine.param_groups for view in group["params"]
        }

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters.values():
            parameter.grad = None

    def step(self, lr: float) -> None:
        """Change all parameters that have a gradient, at rate `lr`."""
        for name, view in self._views.items():
            gradient = self._parameters[name].grad
            view.grad = None if gradient is None else gradient.permute(self._orders[name]).contiguous().view_as(view)
        if self._clip_norm:
            torch.nn.utils.clip_grad_norm_(self._views.values(), self._clip_norm)
        for engine in self.engines:
            for group in engine.param_groups:
                group["lr"] = lr * group["share"]
            engine.step()

    def forget(self) -> None:
        """Stand where an optimiser stands before its first step."""
        for engine in self.engines:
            engine.state.clear()

    def gradients(self) -> list[Tensor]:
        """The gradients of all parameters that learn now, zeros where there are none."""
        learning = [parameter for parameter in self._parameters.values() if parameter.requires_grad]
        for parameter in learning:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        return [parameter.grad for parameter in learning if parameter.grad is not None]

    def has_finite_gradients(self) -> bool:
        """Whether the gradients are numbers, told from the one that is computed last.

        On its way back what is not finite spreads to all layers before it, so the first layer tells for all.
        """
        first = next((p.grad for p in self._parameters.values() if p.grad is not None), None)
        return first is None or bool(torch.isfinite(first).all())

    def state(self) -> dict[str, Tensor]:
        """What the optimiser remembers, as `parameter/slot`, such as `conv1.weight/momentum_buffer`."""
        return {
            f"{name}/{slot}": value
            for name, view in self._views.items()
            for slot, value in self._engine_of[view].state.get(view, {}).items()
            if isinstance(value, Tensor)
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Remember what `state()` of an earlier optimiser said."""
        self.forget()
        for key, value in state.items():
            name, slot = key.split("/")
            view = self._views[name]
            engine = self._engine_of[view]
            # A file knows no device. Steps are counted where the parameters are by fused optimisers alone.
            there = view.device if slot != "step" or engine.defaults.get("fused") else value.device
            engine.state[view][slot] = value.to(there, copy=True)


def learning_shares(network: nn.Module, layer_decay: float) -> dict[str, float]:
    """The share of the rate at which each parameter learns: 1 for the classifier, less from stage to stage before it.

    Features near the image suit other pictures as they are (Yosinski et al. 2014, arXiv 1411.1792); those near the
    classifier must change most (discriminative fine-tuning: Howard and Ruder 2018, arXiv 1801.06146, section 3.2).
    """
    if layer_decay == 1 or not isinstance(network, Network):
        return {}
    stages = [{id(p) for module in step for p in module.parameters()} for step in network.steps()]
    return {
        name: layer_decay ** (len(stages) - index)
        for index, stage in enumerate(stages)
        for name, parameter in network.named_parameters()
        if id(parameter) in stage
    }


def _groups(views: Mapping[str, Tensor], recipe: Recipe, shares: Mapping[str, float]) -> list[dict[str, Any]]:
    """Parameters of one decay and one share of the rate together."""
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, view in views.items():
        # Decaying norms' scales and shifts and biases gains nothing and costs accuracy (He et al. 2018, arXiv
        # 1812.01187, section 3.1).
        decay = recipe.weight_decay if view.ndim > 1 or recipe.decay_norms else 0.0
        groups.setdefault((decay, shares.get(name, 1.0)), []).append(view)
    return [{"params": params, "weight_decay": decay, "share": share} for (decay, share), params in groups.items()]


def _engines(
    recipe: Recipe, views: Mapping[str, Tensor], matrices: Collection[str], shares: Mapping[str, float]
) -> list[optim.Optimizer]:
    """The optimisers of torch for these parameters: one, or muon for the matrices and adamw for the others."""
    others = _groups({name: view for name, view in views.items() if name not in matrices}, recipe, shares)
    betas = (recipe.momentum, _SECOND_MOMENT)
    match recipe.optimiser:
        case "sgd":
            nesterov = recipe.nesterov and recipe.momentum > 0
            return [optim.SGD(others, lr=0.0, momentum=recipe.momentum, nesterov=nesterov, fused=True)]
        case "lamb":
            return [Lamb(others, lr=0.0, betas=betas)]
        case "adamw":
            return [optim.AdamW(others, lr=0.0, betas=betas, fused=True)]
        case "muon":
            turned = _groups({name: views[name] for name in matrices}, recipe, shares)
            # Scaled so that a step is as long as adamw's, so that one rate serves both (arXiv 2502.16982, equation 4).
            muon = optim.Muon(turned, lr=0.0, momentum=recipe.momentum, adjust_lr_fn="match_rms_adamw")
            return [muon, optim.AdamW(others, lr=0.0, betas=(0.9, _SECOND_MOMENT), fused=True)]


def _convolutions(parameters: Mapping[str, Tensor]) -> list[str]:
    """The convolutions but the first, which reads pixels: what muon turns, each as a matrix of its outputs."""
    return [name for name, parameter in parameters.items() if parameter.ndim == 4][1:]


def _order_of_memory(tensor: Tensor) -> list[int]:
    """The sides from the outermost in memory to the innermost: O,h,w,I for O,I,h,w in channels-last."""
    return sorted(range(tensor.ndim), key=lambda side: (-tensor.stride()[side], -tensor.shape[side]))
