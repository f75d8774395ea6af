"""DenseNet: each layer reads everything that came before it in its block and adds a few channels.

    x ─┬─ norm ─ relu ─ 1×1 ─ norm ─ relu ─ 3×3 ─┬─ concatenate
       └─────────────────────────────────────────┘

Figure 1 and table 1 of https://arxiv.org/abs/1608.06993. Module names are torchvision's.
"""

from collections import OrderedDict
from typing import final

import torch
from torch import Tensor, nn

from resnetkit.catalog.rows import Dense
from resnetkit.models.layers import Blur, convolution
from resnetkit.models.network import FeatureInfo, Network, Step


@final
class DenseLayer(nn.Module):
    """A 1×1 convolution that narrows and a 3×3 that gives `growth` channels."""

    def __init__(self, in_channels: int, growth: int, bottleneck: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = convolution(in_channels, bottleneck * growth, 1)
        self.norm2 = nn.BatchNorm2d(bottleneck * growth)
        self.conv2 = convolution(bottleneck * growth, growth, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """N,C,H,W to N,growth,H,W."""
        x = self.conv1(self.relu(self.norm1(x)))
        return self.conv2(self.relu(self.norm2(x)))


@final
class DenseBlock(nn.Module):
    """`depth` layers, each of which adds its channels to what the next one reads.

    >>> DenseBlock(64, depth=6, growth=32, bottleneck=4)(torch.zeros(1, 64, 56, 56)).shape
    torch.Size([1, 256, 56, 56])
    """

    def __init__(self, in_channels: int, depth: int, growth: int, bottleneck: int) -> None:
        super().__init__()
        for index in range(depth):
            layer = DenseLayer(in_channels + index * growth, growth, bottleneck)
            self.add_module(f"denselayer{index + 1}", layer)

    def forward(self, x: Tensor) -> Tensor:
        """N,C,H,W to N,C + depth·growth,H,W."""
        for layer in self.children():
            x = torch.cat((x, layer(x)), 1)
        return x


def transition(in_channels: int) -> nn.Module:
    """What halves channels, height and width between two blocks."""
    return nn.Sequential(OrderedDict(
        norm=nn.BatchNorm2d(in_channels), relu=nn.ReLU(inplace=True),
        conv=convolution(in_channels, in_channels // 2, 1), pool=nn.AvgPool2d(2),
    ))  # fmt: skip


def stem(row: Dense, in_chans: int) -> dict[str, nn.Module]:
    """What reads the image: one 7×7 convolution, or three 3×3."""
    width = row.initial_features
    widths = (width,) if row.stem == "conv7" else (width // 2, width // 2, width)
    parts: dict[str, nn.Module] = {}
    for index, (before, after) in enumerate(zip((in_chans, *widths), widths, strict=False)):
        kernel = 7 if row.stem == "conv7" else 3
        parts[f"conv{index}"] = convolution(before, after, kernel, stride=2 if index == 0 else 1)
        parts[f"norm{index}"] = nn.BatchNorm2d(after)
        parts[f"relu{index}"] = nn.ReLU(inplace=True)
    return parts


def stem_pool(row: Dense) -> nn.Module:
    """What halves the stem's output."""
    if row.stem_antialias == "none":
        return nn.MaxPool2d(3, stride=2, padding=1)
    return nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), Blur(stride=2))


@final
class DenseNet(Network):
    """Stem, dense blocks with transitions between them, norm, mean, linear classifier.

    >>> DenseNet(Dense(32, (6, 12, 24, 16))).forward_features(torch.zeros(1, 3, 224, 224)).shape  # DenseNet-121
    torch.Size([1, 1024, 7, 7])
    """

    classifier_path = "classifier"

    def __init__(self, row: Dense, *, num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.0) -> None:
        super().__init__(row, num_classes, in_chans, drop_rate)
        levels = [stem(row, in_chans)]
        halving, channels = {"pool0": stem_pool(row)}, row.initial_features
        for number, (depth, out) in enumerate(zip(row.depths, row.out_channels, strict=True), start=1):
            levels.append({**halving, f"denseblock{number}": DenseBlock(channels, depth, row.growth, row.bottleneck)})
            halving, channels = {f"transition{number}": transition(out)}, out // 2
        self.num_features = row.out_channels[-1]
        levels[-1] |= {"norm5": nn.BatchNorm2d(self.num_features), "relu5": nn.ReLU(inplace=True)}
        self.features = nn.Sequential(OrderedDict((name, part) for level in levels for name, part in level.items()))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = self.new_classifier(num_classes)
        self.level_sizes = tuple(len(level) for level in levels)
        self.feature_info = FeatureInfo(
            tuple(f"features.{list(level)[-1]}" for level in levels), (row.initial_features, *row.out_channels),
            tuple(2 ** (level + 1) for level in range(len(levels))),
        )  # fmt: skip
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        if num_classes:
            nn.init.zeros_(self.get_submodule("classifier").get_parameter("bias"))

    def steps(self) -> tuple[Step, ...]:
        """Image to first map, map to map."""
        parts = iter(self.features)
        return tuple(tuple(next(parts) for _ in range(size)) for size in self.level_sizes)
