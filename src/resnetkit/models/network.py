"""What every network has in common, whatever it is made of: the contract that the upper rooms rely on."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from resnetkit.catalog.rows import Architecture
from resnetkit.errors import InvalidArgument

Step = tuple[nn.Module, ...]


@dataclass(frozen=True)
class FeatureInfo:
    """Of each feature map: its channels and how many pixels of the image one of its places stands for."""

    names: tuple[str, ...]
    _channels: tuple[int, ...]
    _reduction: tuple[int, ...]

    def channels(self) -> list[int]:
        """Channels of each map."""
        return list(self._channels)

    def reduction(self) -> list[int]:
        """Stride of each map against the image."""
        return list(self._reduction)

    def module_name(self) -> list[str]:
        """The module whose output each map is."""
        return list(self.names)

    def select(self, indices: tuple[int, ...]) -> "FeatureInfo":
        """The same for some of the maps."""
        return FeatureInfo(
            tuple(self.names[index] for index in indices),
            tuple(self._channels[index] for index in indices),
            tuple(self._reduction[index] for index in indices),
        )


class Network(nn.Module, ABC):
    """An image classifier: N,C,H,W images in, N,`num_classes` logits out.

    `forward` is `forward_features` (the last feature map, N,`num_features`,h,w), then `forward_head` (pooling,
    dropout, classifier). With `num_classes=0` there is no classifier and the pooled features come out.
    """

    classifier_path: ClassVar[str]
    """the module that gives the logits"""

    row: Architecture
    num_features: int
    """channels of the last feature map"""
    feature_info: FeatureInfo
    avgpool: nn.Module

    def __init__(self, row: Architecture, num_classes: int, in_chans: int, drop_rate: float) -> None:
        super().__init__()
        if not 0 <= num_classes < 2**31 or in_chans < 1 or not 0 <= drop_rate < 1:
            raise InvalidArgument(
                f"num_classes {num_classes} (0 to 2**31 - 1), in_chans {in_chans} (1 or more) or drop_rate {drop_rate} "
                "(from 0 to below 1) is out of its range"
            )
        self.row, self.num_classes, self.in_chans = row, num_classes, in_chans
        self.drop_rate = drop_rate

    @abstractmethod
    def steps(self) -> tuple[Step, ...]:
        """The modules that lead from the image to the first feature map, from each map to the next."""

    def forward_features(self, x: Tensor) -> Tensor:
        """Images N,C,H,W to the last feature map."""
        for step in self.steps():
            for module in step:
                x = module(x)
        return self.finish(x)

    def finish(self, x: Tensor) -> Tensor:
        """What is done to the last feature map before the head: nothing, as a rule."""
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """The last feature map to logits; with `pre_logits` to what the classifier would read."""
        x = self.avgpool(x).flatten(1)  # N,C
        if pre_logits:
            return x
        x = F.dropout(x, self.drop_rate, self.training)
        logits: Tensor = self.get_classifier()(x)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Images N,C,H,W to logits N,`num_classes`."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """The module that gives the logits; an identity where `num_classes` is 0."""
        return self.get_submodule(self.classifier_path)

    def reset_classifier(self, num_classes: int) -> None:
        """A new, untrained classifier for `num_classes` classes; 0 takes it away."""
        old = next(self.parameters())
        self.num_classes = num_classes
        self.set_submodule(self.classifier_path, self.new_classifier(num_classes).to(old.device, old.dtype))

    def new_classifier(self, num_classes: int) -> nn.Module:
        """An untrained classifier for `num_classes` classes; an identity for 0."""
        return nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()


def initialise_convolutions(network: nn.Module) -> None:
    """Kaiming's normal initialisation by fan-out, which keeps the variance of gradients (arXiv 1502.01852)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
