"""VGG: 3×3 convolutions and maxima, the network that residual ones were measured against.

Table 1 of https://arxiv.org/abs/1409.1556. Module names are torchvision's.
"""

from typing import final

from torch import Tensor, nn

from resnetkit.catalog.rows import Vgg
from resnetkit.models.network import FeatureInfo, Network, Step

POOLED_SIZE = 7
"""height and width that the hidden layers read"""


@final
class VggNet(Network):
    """Stages of 3×3 convolutions with a maximum after each, then two hidden layers and a linear classifier.

    With `num_classes=0` the hidden layers go as well, and the mean of the last feature map comes out.

    >>> import torch
    >>> VggNet(Vgg((1, 1, 2, 2, 2)), num_classes=0).forward_features(torch.zeros(1, 3, 224, 224)).shape  # VGG-11
    torch.Size([1, 512, 7, 7])
    """

    row: Vgg

    def __init__(self, row: Vgg, *, num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.0) -> None:
        super().__init__(row, num_classes, in_chans, drop_rate)
        parts: list[nn.Module] = []
        pools = []
        channels = in_chans
        for depth, width in zip(row.depths, row.widths, strict=True):
            for _ in range(depth):
                norm = [nn.BatchNorm2d(width)] if row.norm == "batch" else []
                parts += [nn.Conv2d(channels, width, 3, padding=1), *norm, nn.ReLU(inplace=True)]
                channels = width
            pools.append(len(parts))
            parts.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*parts)
        self.pools = tuple(pools)
        self.avgpool = nn.AdaptiveAvgPool2d(POOLED_SIZE)
        self.num_features = channels
        self.classifier = self.new_classifier(num_classes)
        self.feature_info = FeatureInfo(
            (*(f"features.{pool - 1}" for pool in pools), f"features.{pools[-1]}"), (*row.widths, channels),
            tuple(2**level for level in range(len(pools) + 1)),
        )  # fmt: skip
        for module in self.features.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)

    def steps(self) -> tuple[Step, ...]:
        """Image to first map, map to map."""
        starts, ends = (0, *self.pools), (*self.pools, len(self.features))
        parts = tuple(self.features)
        return tuple(parts[start:end] for start, end in zip(starts, ends, strict=True))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """The last feature map to logits; with `pre_logits` to the second hidden layer, N,4096."""
        if self.num_classes == 0:
            return x.mean((2, 3))
        x = self.avgpool(x).flatten(1)  # N,512·7·7
        *hidden, classifier = self.classifier
        for module in hidden:
            x = module(x)
        return x if pre_logits else classifier(x)

    def get_classifier(self) -> nn.Module:
        """The last linear layer; an identity where `num_classes` is 0."""
        return self.classifier[-1] if self.num_classes else nn.Identity()

    def reset_classifier(self, num_classes: int) -> None:
        """A new last layer for `num_classes` classes; 0 takes the hidden layers away too."""
        old = next(self.parameters())
        if num_classes and self.num_classes:
            self.classifier[-1] = nn.Linear(self.row.hidden_features, num_classes).to(old.device, old.dtype)
        else:
            self.classifier = self.new_classifier(num_classes).to(old.device, old.dtype)
        self.num_classes = num_classes

    def new_classifier(self, num_classes: int) -> nn.Sequential:
        """Untrained hidden layers and classifier; nothing for 0."""
        if not num_classes:
            return nn.Sequential()
        hidden = self.row.hidden_features
        layers = nn.Sequential(
            nn.Linear(self.num_features * POOLED_SIZE**2, hidden), nn.ReLU(inplace=True), nn.Dropout(self.drop_rate),
            nn.Linear(hidden, hidden), nn.ReLU(inplace=True), nn.Dropout(self.drop_rate),
            nn.Linear(hidden, num_classes),
        )  # fmt: skip
        for layer in layers:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, 0, 0.01)
                nn.init.zeros_(layer.bias)
        return layers
