"""A training step of a ResNet with batch norm, sum and ReLU as one operation on the processor, and products for
convolutions to few pixels.

    conv ─ bn ─ relu              becomes     conv ─ [bn·relu]
    conv ─ bn ─(+ shortcut)─ relu     becomes     conv ─ [bn·+·relu]

The network itself is not changed: its modules are run in another way, with the same parameters, statistics and keys.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from resnetkit.models.layers import NoShortcut
from resnetkit.models.resnet import BasicBlock, Bottleneck, ResNet
from resnetkit.training import kernels
from resnetkit.training.small_maps import convolve, is_better_as_product


def fused_forward(network: nn.Module, x: Tensor) -> Tensor:
    """Logits of images N,C,H,W as `network(x)` in training gives them; other networks than ResNet run as they are."""
    if not isinstance(network, ResNet):
        logits: Tensor = network(x)
        return logits
    for step in network.steps():
        x = _through(step, x)
    return network.forward_head(network.finish(x))


def _through(modules: Iterable[nn.Module], x: Tensor) -> Tensor:
    parts = [*_flat(modules)]
    while parts:
        part = parts.pop(0)
        if isinstance(part, nn.BatchNorm2d):
            relu = bool(parts) and isinstance(parts[0], nn.ReLU)
            x = _normalised(part, x, relu=relu)
            parts = parts[relu:]
        elif isinstance(part, BasicBlock | Bottleneck):
            x = _block(part, x)
        elif type(part) is nn.Conv2d and is_better_as_product(part, x):
            x = convolve(part, x)
        else:
            x = part(x)
    return x


def _flat(modules: Iterable[nn.Module]) -> Iterator[nn.Module]:
    for module in modules:
        if type(module) is nn.Sequential:
            yield from _flat(module)
        else:
            yield module


def _block(block: BasicBlock | Bottleneck, x: Tensor) -> Tensor:
    shortcut = None if isinstance(block.downsample, NoShortcut) else _through([block.downsample], x)
    *before, last = block.parts()
    y = _through(before, x)
    plain = isinstance(block.se, nn.Identity) and isinstance(block.drop_path, nn.Identity)
    if plain and isinstance(last, nn.BatchNorm2d):
        return _normalised(last, y, plus=shortcut, relu=True)
    y = block.drop_path(block.se(_through([last], y)))
    return torch.relu_(y if shortcut is None else y.add_(shortcut))


def _normalised(norm: nn.BatchNorm2d, x: Tensor, *, plus: Tensor | None = None, relu: bool = False) -> Tensor:
    if _fits(norm, x):
        if plus is not None:
            plus = plus.to(x.dtype).contiguous(memory_format=torch.channels_last)
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
        y: Tensor = _Normalise.apply(x, plus, norm.weight, norm.bias, norm, relu)  # type: ignore[no-untyped-call]
        return y
    y = norm(x)
    if plus is not None:
        y = y.add_(plus)
    return torch.relu_(y) if relu else y


def _fits(norm: nn.BatchNorm2d, x: Tensor) -> bool:
    """Whether the kernels know this case; frozen statistics, other devices and types are torch's."""
    return (
        norm.training and norm.affine and norm.track_running_stats and norm.momentum is not None
        and x.device.type == "cpu" and x.dtype in (torch.bfloat16, torch.float32) and norm.weight.dtype == torch.float32
        and x.is_contiguous(memory_format=torch.channels_last) and x.numel() > x.shape[1]
    )  # fmt: skip


class _Normalise(torch.autograd.Function):
    """relu(batch norm(x) + plus), see `normalisation.cpp`."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        x, plus, weight, bias, norm, relu = arguments
        y = torch.empty_like(x)
        mean, invstd = torch.empty_like(weight), torch.empty_like(weight)
        _kernel(x, "forward")(
            *_at(x, plus, y, weight, bias, norm.running_mean, norm.running_var), norm.momentum, norm.eps, relu,
            *_at(mean, invstd), *_shape(x),
        )  # fmt: skip
        ctx.save_for_backward(x, y if relu else None, weight, mean, invstd)
        ctx.relu, ctx.adds = relu, plus is not None
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:
        x, y, weight, mean, invstd = ctx.saved_tensors
        g = gradients[0].to(x.dtype).contiguous(memory_format=torch.channels_last)
        passed = torch.empty_like(g) if ctx.relu and ctx.adds else None
        gx, gw, gb = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)
        _kernel(x, "backward")(*_at(g, x, y, passed, gx, weight, mean, invstd, gw, gb), ctx.relu, *_shape(x))
        return gx, (g if passed is None else passed) if ctx.adds else None, gw, gb, None, None


def _kernel(x: Tensor, direction: str) -> Any:
    return getattr(kernels.library(), f"{str(x.dtype).removeprefix('torch.')}_{direction}")


def _at(*tensors: Tensor | None) -> list[int | None]:
    return [None if tensor is None else tensor.data_ptr() for tensor in tensors]


def _shape(x: Tensor) -> tuple[int, int, int]:
    """Rows, columns, threads."""
    return x.numel() // x.shape[1], x.shape[1], torch.get_num_threads()
