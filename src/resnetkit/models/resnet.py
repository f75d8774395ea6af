"""Residual networks whose blocks add, then activate: ResNet and its C, D, S and T forms, ResNeXt, Wide, SE, ECA, RS.

    basic block                    bottleneck
    x ─┬─ 3×3 ── 3×3 ──(+)─ relu   x ─┬─ 1×1 ── 3×3 ── 1×1 ──(+)─ relu
       └─── shortcut ───┘             └─────── shortcut ──────┘

Figures 2 and 5 of https://arxiv.org/abs/1512.03385. Module names are torchvision's (and so `state_dict` keys are
torchvision's and timm's).
"""

from typing import final

from torch import Tensor, nn

from resnetkit.catalog.rows import Residual
from resnetkit.errors import InvalidArgument
from resnetkit.models.layers import (
    Average,
    NoShortcut,
    PaddedShortcut,
    antialiasing,
    attention,
    convolution,
    drop_path,
    normalisation,
)
from resnetkit.models.network import FeatureInfo, Network, Step, initialise_convolutions
from resnetkit.models.plan import Place, plan_stages


@final
class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut.

    >>> import torch
    >>> place = Place(in_channels=64, out_channels=128, stride=2)
    >>> BasicBlock(Residual("basic", (2, 2, 2, 2)), place)(torch.zeros(1, 64, 56, 56)).shape
    torch.Size([1, 128, 28, 28])
    """

    def __init__(self, row: Residual, place: Place) -> None:
        super().__init__()
        width, before, after = place.out_channels, place.dilation_before, place.dilation
        filtered = row.antialias != "none" and place.halves  # then the filter strides in place of the convolution
        stride = 1 if filtered else place.stride
        self.conv1 = convolution(place.in_channels, width, 3, stride=stride, dilation=before)
        self.bn1 = normalisation(row.norm, width)
        self.relu = nn.ReLU(inplace=True)
        self.aa = antialiasing(row.antialias, place.stride, before) if filtered else nn.Identity()
        self.conv2 = convolution(width, width, 3, dilation=after)
        self.bn2 = normalisation(row.norm, width)
        self.se = attention(row.attention, width, row.attention_ratio)
        self.drop_path = drop_path(place.drop_path_rate)
        self.downsample = shortcut(row, place)

    def parts(self) -> tuple[nn.Module, ...]:
        """What lies beside the shortcut, up to attention."""
        return self.conv1, self.bn1, self.relu, self.aa, self.conv2, self.bn2

    def residual(self, x: Tensor) -> Tensor:
        """What the block adds to its input."""
        for part in self.parts():
            x = part(x)
        return self.drop_path(self.se(x))

    def forward(self, x: Tensor) -> Tensor:
        """N,C,H,W to N,C',H/stride,W/stride."""
        return self.relu(self.residual(x).add_(self.downsample(x)))  # in place: the sum needs no memory of its own

    def start_as_identity(self) -> None:
        """Zero gamma: at first the residual adds nothing (https://arxiv.org/abs/1706.02677, section 5.1)."""
        nn.init.zeros_(self.bn2.weight)


@final
class Bottleneck(nn.Module):
    """A 3×3 convolution between two 1×1 that narrow and widen, beside a shortcut.

    >>> import torch
    >>> place = Place(in_channels=256, out_channels=512, stride=2)
    >>> Bottleneck(Residual("bottleneck", (3, 4, 6, 3)), place)(torch.zeros(1, 256, 56, 56)).shape
    torch.Size([1, 512, 28, 28])
    """

    def __init__(self, row: Residual, place: Place) -> None:
        super().__init__()
        inner = place.out_channels // 4 * row.group_width // 64 * row.groups
        narrow = inner // row.first_reduction
        filtered = row.antialias != "none" and place.halves
        stride = 1 if filtered else place.stride
        stride1, stride2 = (stride, 1) if row.stride_at == "conv1" else (1, stride)
        dilation = place.dilation if row.stride_at == "conv1" else place.dilation_before
        self.conv1 = convolution(place.in_channels, narrow, 1, stride=stride1)
        self.bn1 = normalisation(row.norm, narrow)
        self.conv2 = convolution(narrow, inner, 3, stride=stride2, dilation=dilation, groups=row.groups)
        self.bn2 = normalisation(row.norm, inner)
        self.aa = antialiasing(row.antialias, place.stride, place.dilation_before) if filtered else nn.Identity()
        self.conv3 = convolution(inner, place.out_channels, 1)
        self.bn3 = normalisation(row.norm, place.out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.se = attention(row.attention, place.out_channels, row.attention_ratio)
        self.drop_path = drop_path(place.drop_path_rate)
        self.downsample = shortcut(row, place)

    def parts(self) -> tuple[nn.Module, ...]:
        """What lies beside the shortcut, up to attention."""
        first, second = (self.conv1, self.bn1, self.relu), (self.conv2, self.bn2, self.relu, self.aa)
        return *first, *second, self.conv3, self.bn3

    def residual(self, x: Tensor) -> Tensor:
        """What the block adds to its input."""
        for part in self.parts():
            x = part(x)
        return self.drop_path(self.se(x))

    def forward(self, x: Tensor) -> Tensor:
        """N,C,H,W to N,C',H/stride,W/stride."""
        return self.relu(self.residual(x).add_(self.downsample(x)))  # in place: the sum needs no memory of its own

    def start_as_identity(self) -> None:
        """Zero gamma: at first the residual adds nothing (https://arxiv.org/abs/1706.02677, section 5.1)."""
        nn.init.zeros_(self.bn3.weight)


def shortcut(row: Residual, place: Place) -> nn.Module:
    """What is added to the residual: the input itself, or what fits it to a new shape."""
    if row.shortcut == "none":
        return NoShortcut()
    if not place.changes_shape:
        return nn.Identity()
    norm = normalisation(row.norm, place.out_channels)
    match row.shortcut:
        case "pad":
            return PaddedShortcut(place.in_channels, place.out_channels, place.stride)
        case "avg_conv":
            pool = Average(place.stride, place.dilation_before) if place.halves else nn.Identity()
            return nn.Sequential(pool, convolution(place.in_channels, place.out_channels, 1), norm)
        case kind:
            kernel = 3 if kind == "conv3" and place.halves else 1
            dilation = place.dilation_before if kernel == 3 else 1
            project = convolution(place.in_channels, place.out_channels, kernel, stride=place.stride, dilation=dilation)
            return nn.Sequential(project, norm)


def stem_convolutions(row: Residual, in_chans: int) -> nn.Module:
    """What reads the image; a norm follows."""
    width = row.stem_width
    if row.stem == "conv7":
        return convolution(in_chans, width, 7, stride=2)
    if row.stem == "conv3":
        return convolution(in_chans, width, 3)
    first, second = (width * 3 // 8 if row.stem == "tiered" else width // 2), width // 2
    return nn.Sequential(
        convolution(in_chans, first, 3, stride=2), normalisation(row.norm, first), nn.ReLU(inplace=True),
        convolution(first, second, 3), normalisation(row.norm, second), nn.ReLU(inplace=True),
        convolution(second, width, 3),
    )  # fmt: skip


def stem_pool(row: Residual) -> nn.Module:
    """What halves the stem's output."""
    width, filtered = row.stem_width, row.antialias != "none"
    if row.stem_pool == "none":
        return nn.Identity()
    if row.stem_pool == "conv":
        parts: list[nn.Module] = [convolution(width, width, 3, stride=1 if filtered else 2)]
        parts += [antialiasing(row.antialias, 2, 1)] if filtered else []
        return nn.Sequential(*parts, normalisation(row.norm, width), nn.ReLU(inplace=True))
    if row.antialias == "avg":
        return Average(stride=2)
    if row.antialias == "blur":
        return nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), antialiasing(row.antialias, 2, 1))
    return nn.MaxPool2d(3, stride=2, padding=1)


@final
class ResNet(Network):
    """Stem, stages of blocks, mean, linear classifier.

    >>> import torch
    >>> network = ResNet(Residual("bottleneck", (3, 4, 6, 3)), num_classes=10)  # ResNet-50
    >>> x = torch.zeros(1, 3, 224, 224)
    >>> for step in network.steps():
    ...     for module in step:
    ...         x = module(x)
    ...     print(*x.shape)
    1 64 112 112
    1 256 56 56
    1 512 28 28
    1 1024 14 14
    1 2048 7 7
    >>> network.forward_head(x).shape
    torch.Size([1, 10])
    """

    classifier_path = "fc"

    def __init__(
        self, row: Residual, *, num_classes: int = 1000, in_chans: int = 3,
        drop_rate: float = 0.0, drop_path_rate: float = 0.0, output_stride: int = 32,
    ) -> None:  # fmt: skip
        super().__init__(row, num_classes, in_chans, drop_rate)
        if row.shortcut == "none" and drop_path_rate:
            raise InvalidArgument("drop_path_rate in a network without shortcuts would drop the image: leave it at 0")
        block = BasicBlock if row.block == "basic" else Bottleneck
        self.conv1 = stem_convolutions(row, in_chans)
        self.bn1 = normalisation(row.norm, row.stem_width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = stem_pool(row)
        stages, strides = plan_stages(row, output_stride=output_stride, drop_path_rate=drop_path_rate)
        self.stage_names = tuple(f"layer{number}" for number in range(1, len(stages) + 1))
        for name, places in zip(self.stage_names, stages, strict=True):
            self.add_module(name, nn.Sequential(*(block(row, place) for place in places)))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.num_features = row.out_channels[-1]
        self.fc = self.new_classifier(num_classes)
        self.feature_info = FeatureInfo(("relu", *self.stage_names), (row.stem_channels, *row.out_channels), strides)

        initialise_convolutions(self)
        for module in self.modules():
            if isinstance(module, BasicBlock | Bottleneck) and row.shortcut != "none":
                module.start_as_identity()

    def steps(self) -> tuple[Step, ...]:
        """Image to first map, map to map."""
        first, *others = (self.get_submodule(name) for name in self.stage_names)
        return ((self.conv1, self.bn1, self.relu), (self.maxpool, first), *((stage,) for stage in others))
