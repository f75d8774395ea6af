"""Networks by name, by row or from a file."""

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from resnetkit.catalog.architectures import Architecture, architecture
from resnetkit.catalog.pretrained import Pretrained
from resnetkit.catalog.pretrained import pretrained as published
from resnetkit.checkpoints.transfer import load_local, load_published
from resnetkit.deployment.opening import open_model
from resnetkit.errors import CheckpointError, InvalidArgument
from resnetkit.models import FeatureExtractor, Network, build, fit_weights


def create_model(
    model: str | Architecture,
    *,
    pretrained: bool | str | os.PathLike[str] = False,
    num_classes: int | None = None,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    output_stride: int = 32,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
    checkpoint_path: str | os.PathLike[str] | None = None,
) -> nn.Module:
    """The network of a name (`resnet50`, or `resnet50.a1_in1k` with `pretrained=True`) or of a row, in training mode.

    `pretrained=True` downloads published weights once; a path (file or folder) takes them from there. A classifier of
    other classes stays untrained; a stem for other channels is folded or repeated. `num_classes=0` gives pooled
    features; `features_only` a list of feature maps (those of `out_indices`) with a `feature_info`. `checkpoint_path`
    is a file whose weights must fit in every shape; CheckpointError lists what does not.

    >>> import torch
    >>> create_model("resnet18", num_classes=10)(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 10])
    >>> create_model("resnet18", features_only=True, out_indices=(2, 4)).feature_info.channels()
    [128, 512]
    """
    tagged = isinstance(model, str) and "." in model
    weights = _published(model) if pretrained is True or tagged else None
    row = architecture(str(model).partition(".")[0]) if isinstance(model, str) else model
    state: Mapping[str, Tensor] | None = None
    if pretrained is True and weights is not None:
        state = load_published(weights, row)
    elif pretrained:
        state = load_local(str(pretrained), row)
    classes = num_classes if num_classes is not None else weights.num_classes if weights else 1000
    network = build(
        row, num_classes=classes, in_chans=in_chans,
        drop_rate=drop_rate, drop_path_rate=drop_path_rate, output_stride=output_stride,
    )  # fmt: skip
    if state is not None:
        network.load_state_dict(fit_weights(network, state))
    if checkpoint_path is not None:
        _fill(network, checkpoint_path)
    if features_only:
        return FeatureExtractor(network, out_indices)
    if out_indices is not None:
        raise InvalidArgument("out_indices choose feature maps: give features_only=True with them")
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


def _published(model: str | Architecture) -> Pretrained:
    if not isinstance(model, str):
        raise InvalidArgument("pretrained=True needs a name: a row has no published weights, give pretrained=PATH")
    weights = published(model)
    if weights.non_commercial:
        warnings.warn(f"the weights {weights.name} may not be used commercially ({weights.licence})", stacklevel=3)
    return weights


def _fill(network: Network, path: str | os.PathLike[str]) -> None:
    state = open_model(os.fspath(path)).network.state_dict()
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
