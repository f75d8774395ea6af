"""Residual networks whose blocks normalise and activate first: ResNet v2, BiT, Wide ResNet, the 1001-layer one.

    x ─┬─ norm ─ act ─┬─ 1×1 ─ norm ─ act ─ 3×3 ─ norm ─ act ─ 1×1 ──(+)
       └──────────────┴─ shortcut ────────────────────────────────────┘

Figure 4 (e) of https://arxiv.org/abs/1603.05027: nothing touches the sum, so that it carries the image through the
whole network. A shortcut that must project reads the activated input, one that need not takes the input as it is.
Module names are timm's.
"""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnetkit.catalog.rows import PreActivation, PreActivationNorm
from resnetkit.models.layers import Average, convolution, drop_path, norm_groups, normalisation
from resnetkit.models.network import FeatureInfo, Network, Step, initialise_convolutions
from resnetkit.models.plan import Place, plan_stages


@final
class StandardisedConv2d(nn.Conv2d):
    """A convolution whose filters are brought to mean 0 and variance 1 before use (https://arxiv.org/abs/1903.10520)."""

    def forward(self, x: Tensor) -> Tensor:
        """As nn.Conv2d."""
        return F.conv2d(x, self.standardised(), None, self.stride, self.padding, self.dilation, self.groups)

    def standardised(self) -> Tensor:
        """The filters as they are used."""
        filters = self.weight.reshape(1, self.out_channels, -1)  # batch norm's kernel keeps least for backward
        return F.batch_norm(filters, None, None, training=True, eps=1e-8).view_as(self.weight)


CONVOLUTIONS: dict[str, Callable[..., nn.Conv2d]] = {
    "plain": convolution, "standardised": partial(convolution, kind=StandardisedConv2d),
}  # fmt: skip


@final
class EvoNormS0(nn.Module):
    """Norm and activation in one, found by search: x·σ(v·x) over its group's deviation (https://arxiv.org/abs/2004.02967)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.groups = norm_groups(channels)
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.v = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """N,C,H,W to N,C,H,W."""
        grouped = x.reshape(x.shape[0], self.groups, -1, *x.shape[2:])  # N,groups,C/groups,H,W
        variance = grouped.float().var((2, 3, 4), correction=0, keepdim=True)  # in float32 whatever x is
        deviation = (variance + 1e-5).sqrt().to(x.dtype).expand_as(grouped).reshape(x.shape)
        weight, bias, v = (values.view(1, -1, 1, 1) for values in (self.weight, self.bias, self.v))
        return x * (x * v).sigmoid() / deviation * weight + bias


@final
class FilterResponseNorm(nn.Module):
    """x over the root mean square of its channel, then max(x, τ) with τ learnt (https://arxiv.org/abs/1911.09737)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.tau = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """N,C,H,W to N,C,H,W."""
        weight, bias, tau = (values.view(1, -1, 1, 1) for values in (self.weight, self.bias, self.tau))
        mean_square = x.square().float().mean((2, 3), keepdim=True)  # in float32 whatever x is
        x = x * (mean_square + 1e-5).rsqrt().to(x.dtype)
        return torch.maximum(x * weight + bias, tau)


def norm_layer(kind: PreActivationNorm, channels: int) -> nn.Module:
    """The norm that stands before a convolution."""
    match kind:
        case "evo_s0":
            return EvoNormS0(channels)
        case "frn":
            return FilterResponseNorm(channels)
        case "batch" | "group":
            return normalisation(kind, channels)


def activation(kind: PreActivationNorm) -> nn.Module:
    """What follows the norm: nothing where the norm activates by itself."""
    return nn.ReLU(inplace=True) if kind in ("batch", "group") else nn.Identity()


def projection(row: PreActivation, place: Place) -> nn.Module | None:
    """What fits the activated input to the block's output; None where the input fits as it is."""
    if not place.changes_shape:
        return None
    convolve = CONVOLUTIONS[row.convolution]
    if row.shortcut == "conv":
        conv = convolve(place.in_channels, place.out_channels, 1, stride=place.stride)
        return nn.Sequential(OrderedDict(conv=conv))
    pool = Average(place.stride, place.dilation_before) if place.halves else nn.Identity()
    return nn.Sequential(OrderedDict(pool=pool, conv=convolve(place.in_channels, place.out_channels, 1)))


class PreActBlock(nn.Module, ABC):
    """Norm and activation, then what the kinds of block differ in, beside a shortcut."""

    def __init__(self, row: PreActivation, place: Place) -> None:
        super().__init__()
        self.downsample = projection(row, place)
        self.act = activation(row.norm)
        self.norm1 = norm_layer(row.norm, place.in_channels)
        self.drop_path = drop_path(place.drop_path_rate)

    @abstractmethod
    def residual(self, active: Tensor) -> Tensor:
        """What the block adds, from its activated input."""

    def forward(self, x: Tensor) -> Tensor:
        """N,C,H,W to N,C',H/stride,W/stride."""
        active = self.act(self.norm1(x))
        shortcut = x if self.downsample is None else self.downsample(active)
        return self.drop_path(self.residual(active)) + shortcut


@final
class PreActBasicBlock(PreActBlock):
    """Two 3×3 convolutions, each behind its norm and activation.

    >>> place = Place(in_channels=64, out_channels=128, stride=2)
    >>> PreActBasicBlock(PreActivation("basic", (2, 2, 2, 2)), place)(torch.zeros(1, 64, 56, 56)).shape
    torch.Size([1, 128, 28, 28])
    """

    def __init__(self, row: PreActivation, place: Place) -> None:
        super().__init__(row, place)
        convolve, width = CONVOLUTIONS[row.convolution], place.out_channels
        self.conv1 = convolve(place.in_channels, width, 3, stride=place.stride, dilation=place.dilation_before)
        self.norm2 = norm_layer(row.norm, width)
        self.conv2 = convolve(width, width, 3, dilation=place.dilation)

    def residual(self, active: Tensor) -> Tensor:
        """Convolution, norm, activation, convolution."""
        x = self.conv1(active)
        return self.conv2(self.act(self.norm2(x)))


@final
class PreActBottleneck(PreActBlock):
    """A 3×3 convolution between two 1×1, each behind its norm and activation.

    >>> place = Place(in_channels=256, out_channels=512, stride=2)
    >>> PreActBottleneck(PreActivation("bottleneck", (3, 4, 6, 3)), place)(torch.zeros(1, 256, 56, 56)).shape
    torch.Size([1, 512, 28, 28])
    """

    def __init__(self, row: PreActivation, place: Place) -> None:
        super().__init__(row, place)
        convolve, width = CONVOLUTIONS[row.convolution], place.out_channels // 4
        early = row.stride_at == "conv1"
        stride1, stride2 = (place.stride, 1) if early else (1, place.stride)
        dilation = place.dilation if early else place.dilation_before
        self.conv1 = convolve(place.in_channels, width, 1, stride=stride1)
        self.norm2 = norm_layer(row.norm, width)
        self.conv2 = convolve(width, width, 3, stride=stride2, dilation=dilation)
        self.norm3 = norm_layer(row.norm, width)
        self.conv3 = convolve(width, place.out_channels, 1)

    def residual(self, active: Tensor) -> Tensor:
        """Convolution, then twice norm, activation, convolution."""
        x = self.conv1(active)
        x = self.conv2(self.act(self.norm2(x)))
        return self.conv3(self.act(self.norm3(x)))


@final
class Stage(nn.Module):
    """Blocks one after the other, under the name that timm gave them."""

    def __init__(self, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """N,C,H,W to N,C',H/stride,W/stride."""
        return self.blocks(x)


@final
class PointwiseClassifier(nn.Conv2d):
    """A linear classifier kept as the 1×1 convolution that published weights hold."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, 1)

    def forward(self, x: Tensor) -> Tensor:
        """N,C to N,classes."""
        return F.linear(x, self.weight.flatten(1), self.bias)


@final
class PreActResNet(Network):
    """Stem, stages of blocks, one last norm and activation, mean, linear classifier.

    >>> network = PreActResNet(PreActivation("basic", (2, 2, 2, 2)), num_classes=10)
    >>> network.forward_features(torch.zeros(1, 3, 224, 224)).shape
    torch.Size([1, 512, 7, 7])
    """

    classifier_path = "head.fc"

    def __init__(
        self, row: PreActivation, *, num_classes: int = 1000, in_chans: int = 3,
        drop_rate: float = 0.0, drop_path_rate: float = 0.0, output_stride: int = 32,
    ) -> None:  # fmt: skip
        super().__init__(row, num_classes, in_chans, drop_rate)
        block = PreActBasicBlock if row.block == "basic" else PreActBottleneck
        stages, strides = plan_stages(row, output_stride=output_stride, drop_path_rate=drop_path_rate)
        self.num_features = row.out_channels[-1]
        self.stem = stem(row, in_chans)
        self.stages = nn.Sequential(*(Stage([block(row, place) for place in places]) for places in stages))
        self.norm = norm_layer(row.norm, self.num_features)
        self.act = activation(row.norm)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Sequential(OrderedDict(fc=self.new_classifier(num_classes)))
        names = ("stem", *(f"stages.{index}" for index in range(len(stages))))
        self.feature_info = FeatureInfo(names, (row.stem_channels, *row.out_channels), strides)
        initialise_convolutions(self)

    def new_classifier(self, num_classes: int) -> nn.Module:
        """An untrained classifier for `num_classes` classes; an identity for 0."""
        return PointwiseClassifier(self.num_features, num_classes) if num_classes else nn.Identity()

    def steps(self) -> tuple[Step, ...]:
        """Image to first map, map to map."""
        *convolutions, pool = self.stem
        first, *others = self.stages
        return (tuple(convolutions), (pool, first), *((stage,) for stage in others))

    def finish(self, x: Tensor) -> Tensor:
        """The last norm and activation: the sums that came through the stages had none."""
        return self.act(self.norm(x))


def stem(row: PreActivation, in_chans: int) -> nn.Sequential:
    """What reads the image; the pool that halves it comes last. The blocks bring the norm that follows."""
    convolve, width = CONVOLUTIONS[row.convolution], row.stem_channels
    match row.stem:
        case "conv7":
            parts: dict[str, nn.Module] = {"conv": convolve(in_chans, width, 7, stride=2)}
        case "conv3":
            parts = {"conv": convolve(in_chans, width, 3)}
        case _:
            first, second = (width * 3 // 8 if row.stem == "tiered" else width // 2), width // 2
            parts = {
                "conv1": convolve(in_chans, first, 3, stride=2),
                "norm1": norm_layer(row.norm, first), "act1": activation(row.norm),
                "conv2": convolve(first, second, 3),
                "norm2": norm_layer(row.norm, second), "act2": activation(row.norm),
                "conv3": convolve(second, width, 3),
            }  # fmt: skip
    match row.stem_pool:
        case "max":
            parts["pool"] = nn.MaxPool2d(3, stride=2, padding=1)
        case "zero_max":
            parts["pool"] = nn.Sequential(nn.ConstantPad2d(1, 0.0), nn.MaxPool2d(3, stride=2))
        case "none":
            parts["pool"] = nn.Identity()
    return nn.Sequential(OrderedDict(parts))
