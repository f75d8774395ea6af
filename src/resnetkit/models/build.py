"""From a row to a network."""

from typing import Any

from resnetkit.catalog.rows import Architecture, Dense, PreActivation, Residual
from resnetkit.errors import InvalidArgument
from resnetkit.models.densenet import DenseNet
from resnetkit.models.network import Network
from resnetkit.models.preact import PreActResNet
from resnetkit.models.resnet import ResNet
from resnetkit.models.vgg import VggNet


def build(
    row: Architecture, *, num_classes: int = 1000, in_chans: int = 3,
    drop_rate: float = 0.0, drop_path_rate: float = 0.0, output_stride: int = 32,
) -> Network:  # fmt: skip
    """The untrained network that `row` describes.

    `num_classes=0` leaves the classifier out, so that pooled features come out. `drop_rate` is dropout before the
    classifier, `drop_path_rate` stochastic depth at the last block; `output_stride` 8 or 16 keeps larger feature maps.

    >>> from resnetkit.catalog.architectures import architecture
    >>> sum(weights.numel() for weights in build(architecture("resnet20"), num_classes=10).parameters())
    269722
    """
    use: dict[str, Any] = {"num_classes": num_classes, "in_chans": in_chans, "drop_rate": drop_rate}
    residual: dict[str, Any] = {"drop_path_rate": drop_path_rate, "output_stride": output_stride}
    match row:
        case Residual():
            return ResNet(row, **use, **residual)
        case PreActivation():
            return PreActResNet(row, **use, **residual)
    if drop_path_rate or output_stride != 32:
        kind = type(row).__name__
        raise InvalidArgument(
            f"a {kind} network has no residual blocks: leave drop_path_rate at 0 and output_stride at 32"
        )
    return DenseNet(row, **use) if isinstance(row, Dense) else VggNet(row, **use)
