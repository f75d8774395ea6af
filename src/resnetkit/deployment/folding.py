"""Batch norm folded into the convolution before it: in use a fixed scale and shift, which the filters can carry.

    conv(x)·γ/σ + (β − μ·γ/σ)   is   conv'(x)   with filters w·γ/σ and bias β + (b − μ)·γ/σ

Written once for the family, by following the network's own forward: a norm is folded if a convolution's output goes
into it and nowhere else. One that reads a sum, a concatenation or a pool stays. Filters that standardise themselves
at every call are standardised once.
"""

import copy
from typing import TypeVar, final

import torch
from torch import Tensor, fx, nn

from resnetkit.models.hollow import hollow
from resnetkit.models.preact import StandardisedConv2d

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def fold(network: AnyModule) -> AnyModule:
    """A copy in evaluation mode that gives the same with fewer steps; the network itself stays as it is.

    Numbers that folding does not change are shared with it, not copied. Sums are done in float64, so that folding
    costs no more than one rounding of each weight.

    >>> from resnetkit.catalog.architectures import architecture
    >>> from resnetkit.models.build import build
    >>> folded = fold(build(architecture("resnet50")))
    >>> sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    0
    """
    network = copy.deepcopy(network, _shared(network)).eval()
    for name, module in list(network.named_modules()):
        if isinstance(module, StandardisedConv2d):
            network.set_submodule(name, _plain(module))
    for convolution, norm in _pairs(network):
        _absorb(network.get_submodule(convolution), network.get_submodule(norm))
        network.set_submodule(norm, nn.Identity())
    return network


def _shared(network: nn.Module) -> dict[int, Tensor]:
    """What a deep copy is to take for each of the network's tensors: the same numbers, not to be trained."""
    shared: dict[int, Tensor] = {id(values): values.detach() for values in network.buffers()}
    return shared | {id(each): nn.Parameter(each.detach(), requires_grad=False) for each in network.parameters()}


@final
class _Tracer(fx.Tracer):
    """Follows forward down to convolutions and norms; what holds neither is one step, whatever it computes."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        parts = (nn.Conv2d, nn.BatchNorm2d)
        return isinstance(m, parts) or not any(isinstance(module, parts) for module in m.modules())


def _pairs(network: nn.Module) -> list[tuple[str, str]]:
    """Names of each convolution and of the batch norm that alone reads it."""
    graph = _Tracer().trace(network)
    pairs = []
    for node in graph.nodes:
        if not _calls(node, network, nn.BatchNorm2d):
            continue
        before = node.args[0]
        while isinstance(before, fx.Node) and len(before.users) == 1 and _calls(before, network, nn.Identity):
            before = before.args[0]
        if isinstance(before, fx.Node) and len(before.users) == 1 and _calls(before, network, nn.Conv2d):
            pairs.append((str(before.target), str(node.target)))
    return pairs


def _calls(node: fx.Node, network: nn.Module, kind: type[nn.Module]) -> bool:
    return node.op == "call_module" and isinstance(network.get_submodule(str(node.target)), kind)


@torch.no_grad()
def _absorb(convolution: nn.Module, norm: nn.Module) -> None:
    """Let the convolution do what the norm did."""
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    gamma = norm.weight.double() if norm.affine else torch.ones_like(mean).double()
    beta = norm.bias.double() if norm.affine else torch.zeros_like(mean).double()
    scale = gamma / (variance.double() + norm.eps).sqrt()
    bias = beta - mean.double() * scale
    if convolution.bias is not None:
        bias += convolution.bias.double() * scale
    weight = convolution.weight
    convolution.weight = _fixed(weight.double() * scale.view(-1, 1, 1, 1), weight)
    convolution.bias = _fixed(bias, weight)


def _fixed(values: Tensor, like: Tensor) -> nn.Parameter:
    """A parameter that is not trained, of the type and memory format of another."""
    last = values.dim() == 4 and like.is_contiguous(memory_format=torch.channels_last)
    values = values.to(like.dtype, memory_format=torch.channels_last) if last else values.to(like.dtype)
    return nn.Parameter(values, requires_grad=False)


@torch.no_grad()
def _plain(module: StandardisedConv2d) -> nn.Conv2d:
    """The convolution whose filters are what a standardised one computes from its own at every call."""
    with hollow():
        plain = nn.Conv2d(
            module.in_channels, module.out_channels, module.kernel_size, module.stride, module.padding,  # type: ignore[arg-type]
            module.dilation, module.groups, bias=False,  # type: ignore[arg-type]
        )  # fmt: skip
    plain.weight = _fixed(module.standardised(), module.weight)
    return plain.train(module.training)
