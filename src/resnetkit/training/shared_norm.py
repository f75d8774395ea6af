"""Batch norm whose batch is that of all processes, so that many processes train what one would."""

from types import MethodType
from typing import Any, cast

import torch
from torch import Tensor, nn

from resnetkit.training.processes import sum_over_processes


def share_norms(network: nn.Module) -> None:
    """Let every batch norm of the network, in place, take its mean and variance in training over all processes.

    torch's own (`SyncBatchNorm`) is for GPUs only, and is another class with another way to be frozen. In evaluation,
    and where the statistics stand still, a batch norm does as before.
    """
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            setattr(norm, "forward", MethodType(_forward, norm))  # noqa: B010 (mypy rightly refuses to assign a method)


def _forward(norm: nn.BatchNorm2d, input: Tensor) -> Tensor:
    """N,C,H,W to the same."""
    if not norm.training:
        return type(norm).forward(norm, input)
    x = input.float()
    count = torch.tensor(float(x.numel() // x.shape[1]), device=x.device)
    sum_over_processes(count)
    mean = _summed(x.sum(dim=(0, 2, 3))) / count
    centred = x - mean[:, None, None]
    # Of the centred values: a difference of two large sums would lose what float32 has.
    var = _summed(centred.square().sum(dim=(0, 2, 3))) / count
    _remember(norm, mean.detach(), var.detach(), count)
    scale = norm.weight * torch.rsqrt(var + norm.eps)
    return (centred * scale[:, None, None] + norm.bias[:, None, None]).to(input.dtype)


@torch.no_grad()
def _remember(norm: nn.BatchNorm2d, mean: Tensor, var: Tensor, count: Tensor) -> None:
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked += 1
    momentum = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, momentum)
    norm.running_var.lerp_(var * count / (count - 1).clamp(min=1), momentum)


def _summed(tensor: Tensor) -> Tensor:
    """The sum over all processes, with a gradient."""
    return cast(Tensor, _Sum.apply(tensor))  # type: ignore[no-untyped-call]


class _Sum(torch.autograd.Function):
    """Every process's sum depends on every process's part, so the gradient of a part is the sum of all gradients."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        summed = tensor.contiguous().clone()
        sum_over_processes(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        summed = gradients[0].contiguous().clone()
        sum_over_processes(summed)
        return summed
