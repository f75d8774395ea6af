"""How a network is run in a training step: by torch's operations, with fused ones, or compiled. The numbers agree."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from resnetkit.catalog.recipe import Kernels
from resnetkit.errors import InvalidArgument
from resnetkit.models import Network
from resnetkit.models.resnet import ResNet
from resnetkit.training import kernels
from resnetkit.training.fusion import fused_forward

Forward = Callable[[Tensor], Tensor]
"""images N,C,H,W → logits"""


def choose_kernels(asked: Kernels, network: Network, processes: int = 1) -> Kernels:
    """What "auto" means here: fused on a processor that can, for a ResNet with batch norm; else torch's own.

    Batch norm shares its statistics with the other `processes` of a job, and only torch's own kernels let it.
    """
    if processes > 1:
        if asked in ("fused", "compiled"):
            raise InvalidArgument(
                f"{asked} kernels are for one process, and this job has {processes}: train with --kernels torch"
            )
        return "torch"
    if asked != "auto":
        return asked
    normalised = any(type(module) is nn.BatchNorm2d for module in network.modules())
    on_processor = next(network.parameters()).device.type == "cpu"
    fits = on_processor and isinstance(network, ResNet) and normalised
    return "fused" if fits and kernels.unavailable() is None else "torch"


def forward_of(network: Network, kind: Kernels) -> Forward:
    """The function that a step calls. Raises InvalidArgument where this machine cannot run the network so."""
    if kind == "compiled":
        compiled: Forward = torch.compile(network)
        return compiled
    if kind != "fused":
        return network
    if why := kernels.unavailable():
        raise InvalidArgument(f"fused kernels cannot be made here: {why}; train with --kernels torch")
    return partial(fused_forward, network)
