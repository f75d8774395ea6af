"""Networks by name, by row or from a file."""

from pathlib import Path
from typing import Any

from torch import nn

from resnetkit.catalog.architectures import Architecture, architecture
from resnetkit.deployment.opening import open_model
from resnetkit.errors import CheckpointError
from resnetkit.models import build


def create_model(
    model: str | Architecture,
    *,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int = 32,
    checkpoint_path: str | Path | None = None,
) -> nn.Module:
    """The network of a name or of a row, with random weights (or those of `checkpoint_path`), in training mode.

    `num_classes=0` gives pooled features. Weights of a file must fit in every shape; CheckpointError lists what does
    not.

    >>> import torch
    >>> create_model("resnet18", num_classes=10)(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 10])
    """
    row = architecture(model) if isinstance(model, str) else model
    network = build(
        row, num_classes=num_classes, in_chans=in_chans,
        drop_rate=drop_rate, drop_path_rate=drop_path_rate, output_stride=output_stride,
    )  # fmt: skip
    if checkpoint_path is not None:
        _fill(network, checkpoint_path)
    return network


def load(path: str | Path) -> nn.Module:
    """The network of a run, a model file or a foreign checkpoint, in evaluation mode.

    It carries `.preprocess` (how pictures become its input), `.class_names` (None if unknown) and `.card` (all else).
    """
    opened = open_model(path)
    network: Any = opened.network
    network.preprocess, network.class_names, network.card = opened.card.preprocess, opened.card.class_names, opened.card
    return opened.network


def resnet18(**arguments: Any) -> nn.Module:
    """ResNet-18 (He et al. 2015, table 1); arguments as `create_model` takes them."""
    return create_model("resnet18", **arguments)


def resnet34(**arguments: Any) -> nn.Module:
    """ResNet-34 (He et al. 2015, table 1); arguments as `create_model` takes them.

    >>> sum(p.numel() for p in resnet34().parameters())
    21797672
    """
    return create_model("resnet34", **arguments)


def resnet50(**arguments: Any) -> nn.Module:
    """ResNet-50 with the stride on the 3×3 ("v1.5"); arguments as `create_model` takes them."""
    return create_model("resnet50", **arguments)


def resnet101(**arguments: Any) -> nn.Module:
    """ResNet-101 with the stride on the 3×3; arguments as `create_model` takes them."""
    return create_model("resnet101", **arguments)


def resnet152(**arguments: Any) -> nn.Module:
    """ResNet-152 with the stride on the 3×3; arguments as `create_model` takes them."""
    return create_model("resnet152", **arguments)


def _fill(network: nn.Module, path: str | Path) -> None:
    state = open_model(path).network.state_dict()
    own = network.state_dict()
    wrong = [
        f"{key}: the file has {tuple(state[key].shape) if key in state else 'nothing'}, "
        f"the network {tuple(own[key].shape) if key in own else 'nothing'}"
        for key in [*own, *(key for key in state if key not in own)]
        if key not in state or key not in own or state[key].shape != own[key].shape
    ]
    if wrong:
        raise CheckpointError(f"{path} does not fit the network in {len(wrong)} tensors: {'; '.join(wrong)}")
    network.load_state_dict(state)
