"""Every architecture by name: the names of torchvision and timm, and those of the papers for small images.

The letters: C three 3×3 convolutions for a stem, D also averages in its shortcuts, S as C with a stem twice as wide,
T as D with a tiered stem; "_small" has a stem for images of about 32 pixels, "_v1" strides where the paper did,
"_b" projects where the CIFAR networks of the paper pad.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from resnetkit.catalog.rows import (
    Architecture,
    BlockKind,
    Dense,
    PreActivation,
    Residual,
    Vgg,
    row_from_dict,
    row_to_dict,
)
from resnetkit.errors import UnknownName

__all__ = [
    "ARCHITECTURES", "Architecture", "Dense", "PreActivation", "Residual", "Vgg",
    "architecture", "name_of", "row_from_dict", "row_to_dict",
]  # fmt: skip

_R18, _R34, _R50, _R101 = (2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 6, 3), (3, 4, 23, 3)
_R152, _R200, _R269 = (3, 8, 36, 3), (3, 24, 36, 3), (3, 30, 48, 8)


def _basic(depths: tuple[int, ...], **changes: Any) -> Residual:
    return Residual("basic", depths, **changes)


def _bottleneck(depths: tuple[int, ...], **changes: Any) -> Residual:
    return Residual("bottleneck", depths, **changes)


# What the letters after a name stand for, https://arxiv.org/abs/1812.01187 (C, D) and Gluon's model zoo (S, T).
_C: dict[str, Any] = {"stem": "deep"}
_D: dict[str, Any] = {"stem": "deep", "shortcut": "avg_conv"}
_S: dict[str, Any] = {"stem": "deep", "stem_width": 128}
_T: dict[str, Any] = {"stem": "tiered", "shortcut": "avg_conv"}
_SE: dict[str, Any] = {"attention": "se"}
_ECA: dict[str, Any] = {"attention": "eca"}
_BLUR: dict[str, Any] = {"antialias": "blur"}
_AVG: dict[str, Any] = {"antialias": "avg"}
_RS: dict[str, Any] = {**_D, **_SE, "attention_ratio": 1 / 4, "stem_pool": "conv"}
_32X4: dict[str, Any] = {"groups": 32, "group_width": 4}
_32X8: dict[str, Any] = {"groups": 32, "group_width": 8}
_64X4: dict[str, Any] = {"groups": 64, "group_width": 4}

_CLASSIC = {
    "resnet18": _basic(_R18),
    "resnet34": _basic(_R34),
    "resnet50": _bottleneck(_R50),
    "resnet101": _bottleneck(_R101),
    "resnet152": _bottleneck(_R152),
}
_SMALL_IMAGES = {f"{name}_small": replace(row, stem="conv3", stem_pool="none") for name, row in _CLASSIC.items()}
_PAPER_STRIDES = {
    f"{name}_v1": replace(row, stride_at="conv1") for name, row in _CLASSIC.items() if row.block == "bottleneck"
}

_RESNETS = {
    **_CLASSIC,
    "resnet26": _bottleneck(_R18),
    "resnet200": _bottleneck(_R200),
    "resnet50_gn": _bottleneck(_R50, norm="group"),
    "resnet50c": _bottleneck(_R50, **_C),
    "resnet101c": _bottleneck(_R101, **_C),
    "resnet152c": _bottleneck(_R152, **_C),
    "resnet18d": _basic(_R18, **_D),
    "resnet34d": _basic(_R34, **_D),
    "resnet26d": _bottleneck(_R18, **_D),
    "resnet50d": _bottleneck(_R50, **_D),
    "resnet101d": _bottleneck(_R101, **_D),
    "resnet152d": _bottleneck(_R152, **_D),
    "resnet200d": _bottleneck(_R200, **_D),
    "resnet50s": _bottleneck(_R50, **_S),
    "resnet101s": _bottleneck(_R101, **_S),
    "resnet152s": _bottleneck(_R152, **_S),
    "resnet10t": _basic((1, 1, 1, 1), **_T),
    "resnet14t": _bottleneck((1, 1, 1, 1), **_T),
    "resnet26t": _bottleneck(_R18, **_T),
    "resnet50t": _bottleneck(_R50, **_T),
    "wide_resnet50_2": _bottleneck(_R50, group_width=128),
    "wide_resnet101_2": _bottleneck(_R101, group_width=128),
}
_RESNEXTS = {
    "resnext50_32x4d": _bottleneck(_R50, **_32X4),
    "resnext50d_32x4d": _bottleneck(_R50, **_32X4, **_D),
    "resnext101_32x4d": _bottleneck(_R101, **_32X4),
    "resnext101_32x8d": _bottleneck(_R101, **_32X8),
    "resnext101_32x16d": _bottleneck(_R101, groups=32, group_width=16),
    "resnext101_32x32d": _bottleneck(_R101, groups=32, group_width=32),
    "resnext101_64x4d": _bottleneck(_R101, **_64X4),
}
_ATTENTIVE = {
    "seresnet18": _basic(_R18, **_SE),
    "seresnet34": _basic(_R34, **_SE),
    "seresnet50": _bottleneck(_R50, **_SE),
    "seresnet50t": _bottleneck(_R50, **_SE, **_T),
    "seresnet101": _bottleneck(_R101, **_SE),
    "seresnet152": _bottleneck(_R152, **_SE),
    "seresnet152d": _bottleneck(_R152, **_SE, **_D),
    "seresnet200d": _bottleneck(_R200, **_SE, **_D),
    "seresnet269d": _bottleneck(_R269, **_SE, **_D),
    "seresnext26d_32x4d": _bottleneck(_R18, **_SE, **_32X4, **_D),
    "seresnext26t_32x4d": _bottleneck(_R18, **_SE, **_32X4, **_T),
    "seresnext50_32x4d": _bottleneck(_R50, **_SE, **_32X4),
    "seresnext101_32x4d": _bottleneck(_R101, **_SE, **_32X4),
    "seresnext101_32x8d": _bottleneck(_R101, **_SE, **_32X8),
    "seresnext101d_32x8d": _bottleneck(_R101, **_SE, **_32X8, **_D),
    "seresnext101_64x4d": _bottleneck(_R101, **_SE, **_64X4),
    "senet154": _bottleneck(_R152, **_SE, **_64X4, **_S, shortcut="conv3", first_reduction=2),
    "ecaresnet26t": _bottleneck(_R18, **_ECA, **_T),
    "ecaresnet50d": _bottleneck(_R50, **_ECA, **_D),
    "ecaresnet50t": _bottleneck(_R50, **_ECA, **_T),
    "ecaresnetlight": _bottleneck((1, 1, 11, 3), **_ECA, shortcut="avg_conv"),
    "ecaresnet101d": _bottleneck(_R101, **_ECA, **_D),
    "ecaresnet200d": _bottleneck(_R200, **_ECA, **_D),
    "ecaresnet269d": _bottleneck(_R269, **_ECA, **_D),
    "ecaresnext26t_32x4d": _bottleneck(_R18, **_ECA, **_32X4, **_T),
    "ecaresnext50t_32x4d": _bottleneck(_R50, **_ECA, **_32X4, **_T),
    "resnetrs50": _bottleneck(_R50, **_RS),
    "resnetrs101": _bottleneck(_R101, **_RS),
    "resnetrs152": _bottleneck(_R152, **_RS),
    "resnetrs200": _bottleneck(_R200, **_RS),
    "resnetrs270": _bottleneck((4, 29, 53, 4), **_RS),
    "resnetrs350": _bottleneck((4, 36, 72, 4), **_RS),
    "resnetrs420": _bottleneck((4, 44, 87, 4), **_RS),
}
_ANTIALIASED = {
    "resnetblur18": _basic(_R18, **_BLUR),
    "resnetblur50": _bottleneck(_R50, **_BLUR),
    "resnetblur50d": _bottleneck(_R50, **_BLUR, **_D),
    "resnetblur101d": _bottleneck(_R101, **_BLUR, **_D),
    "resnetaa34d": _basic(_R34, **_AVG, **_D),
    "resnetaa50": _bottleneck(_R50, **_AVG),
    "resnetaa50d": _bottleneck(_R50, **_AVG, **_D),
    "resnetaa101d": _bottleneck(_R101, **_AVG, **_D),
    "seresnetaa50d": _bottleneck(_R50, **_SE, **_AVG, **_D),
    "seresnextaa101d_32x8d": _bottleneck(_R101, **_SE, **_AVG, **_32X8, **_D),
    "seresnextaa201d_32x8d": _bottleneck((3, 24, 36, 4), **_SE, **_AVG, **_32X8, **_D, stem_width=128),
}


def _v2(block: BlockKind, depths: tuple[int, ...], **changes: Any) -> PreActivation:
    return PreActivation(block, depths, **changes)


def _bit(depths: tuple[int, ...], width_factor: int) -> PreActivation:
    """Big Transfer, https://arxiv.org/abs/1912.11370."""
    return PreActivation(
        "bottleneck", depths, width_factor=width_factor, stem_pool="zero_max", convolution="standardised", norm="group"
    )


_PRE_ACTIVATION = {
    "resnetv2_18": _v2("basic", _R18),
    "resnetv2_18d": _v2("basic", _R18, **_D),
    "resnetv2_34": _v2("basic", _R34),
    "resnetv2_34d": _v2("basic", _R34, **_D),
    "resnetv2_50": _v2("bottleneck", _R50),
    "resnetv2_50d": _v2("bottleneck", _R50, **_D),
    "resnetv2_50t": _v2("bottleneck", _R50, **_T),
    "resnetv2_101": _v2("bottleneck", _R101),
    "resnetv2_101d": _v2("bottleneck", _R101, **_D),
    "resnetv2_152": _v2("bottleneck", _R152),
    "resnetv2_152d": _v2("bottleneck", _R152, **_D),
    "resnetv2_50d_gn": _v2("bottleneck", _R50, **_D, norm="group"),
    "resnetv2_50d_evos": _v2("bottleneck", _R50, **_D, norm="evo_s0"),
    "resnetv2_50d_frn": _v2("bottleneck", _R50, **_D, norm="frn"),
    "resnetv2_50x1_bit": _bit(_R50, 1),
    "resnetv2_50x3_bit": _bit(_R50, 3),
    "resnetv2_101x1_bit": _bit(_R101, 1),
    "resnetv2_101x3_bit": _bit(_R101, 3),
    "resnetv2_152x2_bit": _bit(_R152, 2),
    "resnetv2_152x4_bit": _bit(_R152, 4),
}


_SMALL_STEM: dict[str, Any] = {"stem": "conv3", "stem_width": 16, "stem_pool": "none"}


def _cifar(layers: int, **changes: Any) -> Residual:
    """Section 4.2 of the first paper: 6n+2 layers in three stages of n basic blocks."""
    n = (layers - 2) // 6
    return Residual("basic", (n, n, n), (16, 32, 64), **_SMALL_STEM, **changes)


def _cifar_v2(block: BlockKind, blocks: int, **changes: Any) -> PreActivation:
    """Section 5 of the second paper; what its authors published strides at a bottleneck's first convolution."""
    return PreActivation(block, (blocks,) * 3, (16, 32, 64), **_SMALL_STEM, stride_at="conv1", **changes)


def _cifar_wide(layers: int, width_factor: int) -> PreActivation:
    """Wide ResNets, https://arxiv.org/abs/1605.07146: 6n+4 layers in three stages of n basic blocks."""
    return _cifar_v2("basic", (layers - 4) // 6, width_factor=width_factor, stem_widened=False)


def _cifar_next(groups: int) -> Residual:
    """Section 5.3 of the ResNeXt paper, https://arxiv.org/abs/1611.05431."""
    stem: dict[str, Any] = {**_SMALL_STEM, "stem_width": 64}
    return Residual("bottleneck", (3, 3, 3), (64, 128, 256), groups=groups, group_width=64, **stem)


def _cifar_quick(width: int) -> Residual:
    """One block a stage, pooled before the first: for little time rather than for the best accuracy (recipe "fast").

    The stem is half as wide as usual, because its maps are the largest. Stem and blocks average where they
    halve a map (Zhang 2019, arXiv 1904.11486): worth more than the channels it costs (docs/decisions/0011).
    """
    widths = (width, 2 * width, 4 * width)
    return Residual("basic", (1, 1, 1), widths, stem="conv3", stem_width=32, antialias="avg")


_CIFAR: dict[str, Architecture] = {
    **{f"resnet{layers}": _cifar(layers, shortcut="pad") for layers in (20, 32, 44, 56, 110, 1202)},
    **{f"resnet{layers}_b": _cifar(layers) for layers in (20, 32, 44, 56, 110, 1202)},
    "plain20": _cifar(20, shortcut="none"),
    "plain56": _cifar(56, shortcut="none"),
    "preact_resnet110": _cifar_v2("basic", 18),
    "preact_resnet164": _cifar_v2("bottleneck", 18),
    "preact_resnet1001": _cifar_v2("bottleneck", 111),
    **{f"resnet8_w{width}": _cifar_quick(width) for width in (40, 56, 80)},
    "wrn16_4": _cifar_wide(16, 4),
    "wrn28_10": _cifar_wide(28, 10),
    "resnext29_8x64d": _cifar_next(8),
    "resnext29_16x64d": _cifar_next(16),
}

_DENSE = {
    "densenet121": Dense(32, (6, 12, 24, 16)),
    "densenet161": Dense(48, (6, 12, 36, 24), initial_features=96),
    "densenet169": Dense(32, (6, 12, 32, 32)),
    "densenet201": Dense(32, (6, 12, 48, 32)),
    "densenet264d": Dense(48, (6, 12, 64, 48), initial_features=96, stem="deep"),
    "densenetblur121d": Dense(32, (6, 12, 24, 16), stem="deep", stem_antialias="blur"),
}

_VGG_DEPTHS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_VGG = {
    **{f"vgg{layers}": Vgg(depths) for layers, depths in _VGG_DEPTHS.items()},
    **{f"vgg{layers}_bn": Vgg(depths, norm="batch") for layers, depths in _VGG_DEPTHS.items()},
}

ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType({
    **_RESNETS, **_SMALL_IMAGES, **_PAPER_STRIDES, "plain34": _basic(_R34, shortcut="none"),
    **_RESNEXTS, **_ATTENTIVE, **_ANTIALIASED, **_PRE_ACTIVATION, **_CIFAR, **_DENSE, **_VGG,
})  # fmt: skip
"""name → row"""


def architecture(name: str) -> Architecture:
    """The row called `name`. Raises UnknownName with the nearest names.

    >>> architecture("resnet34").depths
    (3, 4, 6, 3)
    """
    try:
        return ARCHITECTURES[name]
    except KeyError:
        raise UnknownName("architecture", name, ARCHITECTURES) from None


def name_of(row: Architecture) -> str | None:
    """The first name whose row equals `row`; None for a row that the catalogue does not hold."""
    return next((name for name, known in ARCHITECTURES.items() if known == row), None)
