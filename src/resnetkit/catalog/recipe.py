"""How a network is trained, as data: one frozen row. A value of None is decided from data and machine."""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from math import isfinite, sqrt
from numbers import Integral, Real
from typing import Any, Literal, get_args, get_origin, get_type_hints

from resnetkit.catalog.architectures import architecture
from resnetkit.catalog.preprocessing import CropMode, Interpolation
from resnetkit.errors import InvalidArgument

Precision = Literal["auto", "float32", "bf16"]
Kernels = Literal["auto", "torch", "fused", "compiled"]
Augmentation = Literal["auto", "photo", "small", "none"]
OptimiserKind = Literal["sgd", "adamw", "lamb", "muon"]
ScheduleKind = Literal["cosine", "linear", "step", "constant"]
Loss = Literal["cross_entropy", "bce"]
Balance = Literal["none", "loss", "sampler"]
AutoAugment = Literal["none", "trivial", "rand"]
PaddingMode = Literal["constant", "edge", "reflect", "symmetric"]
NormaliseBy = Literal["usual", "data"]
Freeze = Literal["none", "stem", "stage1", "stage2", "stage3", "body"]

_LARGEST_BATCH = 2**20  # images: more than anybody has learnt from at once

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "optimiser": get_args(OptimiserKind),
    "schedule": get_args(ScheduleKind),
    "freeze": get_args(Freeze),
    "loss": get_args(Loss),
    "balance": get_args(Balance),
    "auto_augment": get_args(AutoAugment),
    "padding_mode": get_args(PaddingMode),
    "interpolation": get_args(Interpolation),
    "crop_mode": get_args(CropMode),
    "normalise_by": get_args(NormaliseBy),
    "augmentation": get_args(Augmentation),
    "precision": get_args(Precision),
    "kernels": get_args(Kernels),
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything about training that is neither the data, the network nor the machine.

    As it stands: SGD with Nesterov momentum; the rate rises linearly over the warm-up and falls along a cosine to zero
    (Loshchilov and Hutter 2016, arXiv 1608.03983); the decay touches weights only, never norms and biases (He et al.
    2018, arXiv 1812.01187, section 3.1); labels are smoothed (Szegedy et al. 2015, arXiv 1512.00567, section 7).
    """

    model: str | None = None
    """the network, where none is named; None: resnet18 for photos, resnet20 for small images"""
    larger_models: tuple[str, ...] = ()
    """networks to take the place of `model`, the smallest first, where --minutes is enough for 110 epochs with them"""
    epochs: int = 30
    """passes over the training images"""
    val_share: float = 0.1
    """share of the training images held out to choose the best epoch, where the data has no part for it; a published
    recipe's, if less than a tenth, is raised where it would be under 200 images"""
    early_stopping: int | None = None
    """end after this many epochs in a row without a better one on the validation part; None: train to the end"""
    batch_size: int | None = None
    """images a step; None: 32 for photos, 128 for small images, less where an epoch would have under 20 steps"""
    accumulate: int = 1
    """pieces in which a batch is computed one after the other, for less memory; the step is of the whole batch"""

    optimiser: OptimiserKind = "sgd"
    """sgd, adamw, lamb (You et al. 2019, arXiv 1904.00962), or muon for convolutions with adamw for the rest"""
    lr: float | None = None
    """peak learning rate; None: 0.2 at 128 images a step, in proportion to the batch size (Goyal et al. 2017)"""
    momentum: float = 0.9
    """of sgd and muon; the decay of the first moment in adamw and lamb"""
    nesterov: bool = True
    """whether sgd looks ahead"""
    weight_decay: float = 5e-4
    """decay of the weights: inside the gradient in sgd, beside it in the others"""
    decay_norms: bool = False
    """whether norms and biases decay too"""
    clip_norm: float = 0.0
    """gradients longer than this are shortened to it; 0: never"""
    layer_decay: float = 1.0
    """each stage learns at this share of the rate of the stage after it; the classifier at the full rate"""

    schedule: ScheduleKind = "cosine"
    """how the rate falls to zero after the warm-up; step: a tenth of it at each of lr_drops"""
    lr_drops: tuple[float, ...] = (1 / 3, 2 / 3)
    """shares of the training at which the schedule "step" divides the rate by ten"""
    warmup_epochs: float = 1.0
    """epochs of linear warm-up, at most a fifth of all"""

    head_epochs: float = 0.0
    """epochs at the start in which the classifier alone is trained, at most half of all"""
    freeze: Freeze = "none"
    """how much of the network, from the image on, keeps its first weights and statistics throughout"""
    freeze_norm: bool | None = False
    """whether batch norms keep the statistics of their first weights; None: where there are few training images"""

    loss: Loss = "cross_entropy"
    """bce: each class is a yes or no of its own"""
    label_smoothing: float = 0.1
    """share of a label given to all classes alike"""
    balance: Balance = "none"
    """rare classes count for more: in the loss, or by being drawn more often (Cui et al. 2019, arXiv 1901.05555)"""
    balance_beta: float = 0.999
    """from 0, all classes count alike, towards 1, in inverse proportion to their images"""
    drop_path: float = 0.0
    """stochastic depth: share of images that skip the last block, less for earlier ones (arXiv 1603.09382)"""
    dropout: float = 0.0
    """share of features that the classifier does not see in a step"""
    ema_decay: float = 0.0
    """the model is an average of the weights over the steps, which keeps this share of itself at each; 0: none"""
    ema_every: int = 1
    """steps between two updates of the average"""

    image_size: int | None = None
    """side of the square the network sees, in pixels; None: the images' own size where small, else 224"""
    test_size: int | None = None
    """the side in validation and use, where it is another (Touvron et al. 2019, arXiv 1906.06423); None: the same"""
    early_sizes: tuple[float, ...] = ()
    """shares of image_size that come before it (progressive resizing), the first one first"""
    early_until: tuple[float, ...] = ()
    """the share of the training up to which each of early_sizes is used; an epoch has one size"""
    crop_share: float = 0.875
    """share of a photo's resized short side that validation and use look at; 224 of 256"""
    crop_mode: CropMode = "centre"
    """what validation and use see of a picture: its middle; squash: all of it, pressed into the square; pad: all of it,
    the rest of the square filled with the mean colour"""
    normalise_by: NormaliseBy = "usual"
    """mean and std of the pixels: those that the first weights know, else ImageNet's; data: the training images' own"""
    crop_scale: float = 0.08
    """least share of a photo's area that a random resized crop keeps (Szegedy et al. 2014, arXiv 1409.4842)"""
    augmentation: Augmentation = "auto"
    """photo: random resized crop; small: pad by an eighth and crop; auto: by the image size"""
    padding_mode: PaddingMode = "constant"
    """what small images are padded with: black (constant), their outermost pixels (edge), or their own mirror image
    without (reflect) or with (symmetric) these"""
    flip: bool | None = None
    """mirror left and right at random; None: unless the data set says that a mirror image is another thing"""
    mirrored_weights: bool | None = False
    """half of each layer sees what the other half sees in a mirror, so that an image and its mirror image get the same
    answer, but for strides (Cohen and Welling 2016, arXiv 1602.07576); null in a file: in a ResNet from random
    weights, where images are mirrored at random"""
    auto_augment: AutoAugment = "none"
    """trivial: one random operation (arXiv 2103.10158); rand: two of strength magnitude (arXiv 1909.13719)"""
    magnitude: float = 9.0
    """strength of rand, 0 to 30"""
    magnitude_deviation: float = 0.0
    """standard deviation of that strength from image to image"""
    colour_jitter: float = 0.0
    """brightness, contrast and saturation are changed by up to this share (arXiv 1312.5402)"""
    greyscale: float = 0.0
    """share of images that lose their colours (arXiv 2002.05709, appendix A)"""
    erasing: float = 0.0
    """share of images of which a random rectangle is overwritten (arXiv 1708.04896)"""
    repeats: int = 1
    """times an image comes in a batch, augmented differently; an epoch has the same number of steps"""
    mixup: float = 0.0
    """alpha of blending two images and their labels (Zhang et al. 2017, arXiv 1710.09412); 0: never"""
    cutmix: float | None = 0.0
    """alpha of pasting a part of another image (Yun et al. 2019, arXiv 1905.04899); with mixup: either, by chance;
    null in a file: 1 where the training passes over the images 60 times or more, else 0"""
    mix_share: float = 1.0
    """share of the steps whose images are mixed"""
    mix_until: float = 1.0
    """the share of the training after which images are whole again, so that the last steps see what use will see"""
    interpolation: Interpolation = "bilinear"
    """how images are resized"""
    precision: Precision = "auto"
    """bf16 autocast where the processor has it and a short probe shows that it is faster, else float32"""
    kernels: Kernels = "auto"
    """fused: batch norm, sum and ReLU as one operation, made by this machine's C++ compiler (ResNets on processors);
    compiled: by torch.compile, which first takes minutes; auto: fused where possible, else torch"""

    def __post_init__(self) -> None:
        for name, kind in _KINDS.items():
            if not _is(getattr(self, name), kind):
                raise InvalidArgument(f"{name} is {getattr(self, name)!r}: it must be {_said(kind)}")
        positive = ("epochs", "batch_size", "accumulate", "lr", "image_size", "test_size", "ema_every", "repeats")
        for name in (*positive, "early_stopping"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InvalidArgument(f"{name} is {value}: it must be more than 0")
        if self.batch_size is not None and self.batch_size > _LARGEST_BATCH:
            raise InvalidArgument(f"batch_size is {self.batch_size}: it must be at most {_LARGEST_BATCH}")
        for name in (
            "val_share",
            "momentum",
            "label_smoothing",
            "balance_beta",
            "drop_path",
            "dropout",
            "ema_decay",
            "colour_jitter",
            "greyscale",
            "erasing",
        ):
            if not 0 <= getattr(self, name) < 1:
                raise InvalidArgument(f"{name} is {getattr(self, name)}: it must be at least 0 and less than 1")
        for name in ("layer_decay", "mix_share", "mix_until", "crop_share", "crop_scale"):
            if not 0 < getattr(self, name) <= 1:
                raise InvalidArgument(f"{name} is {getattr(self, name)}: it must be more than 0 and at most 1")
        for name in (
            "weight_decay",
            "warmup_epochs",
            "head_epochs",
            "clip_norm",
            "mixup",
            "cutmix",
            "magnitude_deviation",
        ):
            if (getattr(self, name) or 0) < 0:
                raise InvalidArgument(f"{name} is {getattr(self, name)}: it must not be negative")
        for name in ("lr_drops", "early_until"):
            shares = getattr(self, name)
            if list(shares) != sorted(set(shares)) or not all(0 < share < 1 for share in shares):
                raise InvalidArgument(f"{name} {shares}: give rising shares of the training between 0 and 1")
        if len(self.early_sizes) != len(self.early_until) or not all(0 < size < 1 for size in self.early_sizes):
            raise InvalidArgument(
                f"early_sizes {self.early_sizes} and early_until {self.early_until}: each size, a share of "
                "image_size, needs the share of the training up to which it is used"
            )
        for name in self.larger_models:
            architecture(name)
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                near = difflib.get_close_matches(str(getattr(self, name)), choices, n=1)
                hint = f", did you mean {near[0]}" if near else ""
                raise InvalidArgument(f"{name} is {getattr(self, name)}{hint}? It is one of: {', '.join(choices)}")

    def to_dict(self) -> dict[str, Any]:
        """JSON values; `recipe_from_dict` reads them back."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def with_batch(self, batch_size: int) -> "Recipe":
        """The same recipe at another batch size, its rate in proportion (adaptive optimisers: to the square root).

        Goyal et al. 2017 (arXiv 1706.02677, section 2.1) for SGD; You et al. 2019 (arXiv 1904.00962, section 4) for
        LAMB.
        """
        if self.lr is None or self.batch_size is None:
            return replace(self, batch_size=batch_size)
        ratio = batch_size / self.batch_size
        return replace(self, batch_size=batch_size, lr=self.lr * (ratio if self.optimiser == "sgd" else sqrt(ratio)))


_KINDS: Mapping[str, Any] = get_type_hints(Recipe)


def _is(value: object, kind: Any) -> bool:
    """Whether the value is of a field's kind. A whole number is a number; true and nan are none."""
    of = get_args(kind)
    if get_origin(kind) is Literal:
        return isinstance(value, str)  # which one is another question
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_is(each, of[0]) for each in value)
    if of:
        return any(_is(value, each) for each in of)
    if isinstance(value, bool) or kind not in (int, float):
        return type(value) is kind
    return isinstance(value, Integral) if kind is int else isinstance(value, Real) and isfinite(value)


def _said(kind: Any) -> str:
    of = get_args(kind)
    if get_origin(kind) is Literal:
        return f"one of: {', '.join(of)}"
    if get_origin(kind) is tuple:
        return f"a list, each of it {_said(of[0])}"
    if of:
        return " or ".join(map(_said, of))
    return {float: "a number", int: "a whole number", bool: "true or false", str: "a name", type(None): "null"}[kind]


def recipe_from_dict(values: Mapping[str, Any]) -> Recipe:
    """The recipe these values say; an unknown key raises with the nearest real one."""
    check_fields(values)
    plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return Recipe(**plain)


def check_fields(names: Collection[str]) -> None:
    """Raise InvalidArgument with the nearest real name if a recipe has no field of one of these."""
    known = [field.name for field in fields(Recipe)]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f", did you mean {near[0]}" if near else ""
            raise InvalidArgument(f"a recipe has no field {name!r}{hint}? Its fields are: {', '.join(known)}")
