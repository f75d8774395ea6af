"""Networks without numbers: their shapes alone, to be looked at, or to be filled from a file."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from resnetkit.catalog.rows import Architecture
from resnetkit.models.build import build
from resnetkit.models.network import Network

_FILLING = {Tensor.normal_, Tensor.uniform_, Tensor.fill_, Tensor.zero_}


def build_hollow(row: Architecture, **arguments: Any) -> Network:
    """`build(row, **arguments)` on torch's meta device, where tensors have shapes and no memory.

    >>> from resnetkit.catalog.architectures import architecture
    >>> network = build_hollow(architecture("vgg16"), num_classes=10)
    >>> network.get_classifier().weight.shape, network.get_classifier().weight.device.type
    (torch.Size([10, 4096]), 'meta')
    """
    with hollow():
        return build(row, **arguments)


@contextmanager
def hollow() -> Iterator[None]:
    """Within it modules are made on the meta device, and nothing is filled in."""
    with torch.device("meta"), _Unfilled():
        yield


@final
class _Unfilled(TorchFunctionMode):
    """Leaves out what fills a new tensor with its first numbers.

    On the meta device that fills nothing, but torch would work out in Python what it does to shapes, for which it
    imports its compiler: more than a second before a first prediction.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _FILLING or getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)
