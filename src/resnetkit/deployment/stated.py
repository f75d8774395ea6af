"""What a person states because a foreign file or a bare architecture cannot say it."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from resnetkit.catalog.preprocessing import CropMode
from resnetkit.catalog.rows import Architecture
from resnetkit.errors import InvalidArgument

if TYPE_CHECKING:  # a card knows tensors, and an exported model is predicted without torch
    from resnetkit.checkpoints.modelfile import ModelCard


@dataclass(frozen=True, kw_only=True)
class Stated:
    """None: nothing stated."""

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    image_size: int | None = None
    crop_mode: CropMode | None = None
    class_names: tuple[str, ...] | None = None
    architecture: Architecture | str | None = None
    """a row or its name, where two networks have the same shapes (plain20 and resnet20)"""
    stride_at: Literal["conv1", "conv2"] | None = None
    """where a bottleneck strides, which its shapes do not tell"""

    def apply(self, card: "ModelCard") -> "ModelCard":
        """The card with the stated values in it."""
        names = self.class_names or card.class_names
        if names is not None and len(names) != card.num_classes:
            raise InvalidArgument(f"{len(names)} class names were given for a model of {card.num_classes} classes")
        preprocess = card.preprocess.restated(
            mean=self.mean, std=self.std, image_size=self.image_size, crop_mode=self.crop_mode
        )  # fmt: skip
        return replace(card, class_names=names, preprocess=preprocess)
