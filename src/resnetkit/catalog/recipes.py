"""How a network is trained: frozen rows, each with its source. A value of None is decided from data and machine."""

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from resnetkit.errors import InvalidArgument

Precision = Literal["auto", "float32", "bf16"]
Augmentation = Literal["auto", "photo", "small", "none"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything about training that is neither the data, the network nor the machine.

    SGD with Nesterov momentum; the rate rises linearly over the warm-up and falls along a cosine to zero (Loshchilov
    and Hutter 2016, arXiv 1608.03983); the decay touches weights only, never norms and biases (He et al. 2018, arXiv
    1812.01187, section 3.1); labels are smoothed (Szegedy et al. 2015, arXiv 1512.00567, section 7).
    """

    epochs: int = 30
    """passes over the training images"""
    batch_size: int | None = None
    """images a step; None: 32 for photos, 128 for small images, less where an epoch would have under 20 steps"""
    lr: float | None = None
    """peak learning rate; None: 0.2 at 128 images a step, in proportion to the batch size (Goyal et al. 2017)"""
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    warmup_epochs: float = 1.0
    """epochs of linear warm-up, at most a fifth of all"""
    image_size: int | None = None
    """side of the square the network sees, in pixels; None: the images' own size where small, else 224"""
    augmentation: Augmentation = "auto"
    """"photo": random resized crop; "small": pad by an eighth and crop; "auto": by the image size"""
    flip: bool | None = None
    """mirror left and right at random; None: unless the data set says that a mirror image is another thing"""
    precision: Precision = "auto"
    """bf16 autocast where the processor has it and a short probe shows that it is faster, else float32"""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "lr", "image_size"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InvalidArgument(f"{name} is {value}: it must be more than 0")
        if not 0 <= self.momentum < 1:
            raise InvalidArgument(f"momentum is {self.momentum}: it must be at least 0 and less than 1")
        if not 0 <= self.label_smoothing < 1:
            raise InvalidArgument(f"label_smoothing is {self.label_smoothing}: it must be at least 0 and less than 1")
        if self.weight_decay < 0 or self.warmup_epochs < 0:
            raise InvalidArgument("weight_decay and warmup_epochs must not be negative")

    def to_dict(self) -> dict[str, Any]:
        """JSON values; `recipe_from_dict` reads them back."""
        return asdict(self)


RECIPES: Mapping[str, Recipe] = {
    # Photos from random weights: the ImageNet practice of He et al. 2015 with the refinements of He et al. 2018.
    "scratch": Recipe(weight_decay=1e-4, warmup_epochs=2.0),
    # CIFAR-like pictures: momentum and decay of Zagoruyko and Komodakis 2016 (arXiv 1605.07146), cosine, not steps.
    "small-images": Recipe(),
}


def recipe_from_dict(values: Mapping[str, Any]) -> Recipe:
    """The recipe these values say; an unknown key raises with the nearest real one."""
    known = [field.name for field in fields(Recipe)]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f", did you mean {near[0]}" if near else ""
            raise InvalidArgument(f"a recipe has no field {key!r}{hint}? Its fields are: {', '.join(known)}")
    return Recipe(**values)
