"""What a network is, as data: four frozen row types, one a kind of network.

A row says everything that gives an architecture its name and its weights their shapes. What depends on the use
(classes, input channels, output stride, drop rates) is an argument of `models.build`, never a field here.
A new network is a changed row: `dataclasses.replace(architecture("resnet50"), depths=(2, 3, 4, 2), stem="conv3")`.
"""

from collections.abc import Mapping
from dataclasses import KW_ONLY, asdict, dataclass, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from resnetkit.errors import InvalidArgument

BlockKind = Literal["basic", "bottleneck"]
StemKind = Literal["conv7", "conv3", "deep", "tiered"]
StemPool = Literal["max", "conv", "none"]
ShortcutKind = Literal["conv", "conv3", "avg_conv", "pad", "none"]
StrideAt = Literal["conv1", "conv2"]
AttentionKind = Literal["none", "se", "eca"]
AntialiasKind = Literal["none", "blur", "avg"]
PreActivationNorm = Literal["batch", "group", "evo_s0", "frn"]


@dataclass(frozen=True)
class Residual:
    """Blocks that add, then activate (He et al. 2015, https://arxiv.org/abs/1512.03385), and their kin.

    >>> Residual("bottleneck", (3, 4, 6, 3), groups=32, group_width=4).out_channels  # ResNeXt-50 32x4d
    (256, 512, 1024, 2048)
    """

    block: BlockKind
    depths: tuple[int, ...]
    """blocks in each stage; every stage but the first halves height and width"""
    widths: tuple[int, ...] = (64, 128, 256, 512)
    """channels inside the blocks of each stage; a bottleneck gives four times as many"""
    _: KW_ONLY
    groups: int = 1
    """groups of a bottleneck's 3×3 convolution (ResNeXt: cardinality)"""
    group_width: int = 64
    """channels of one group where `widths` says 64; with one group, 128 is Wide ResNet's "_2" """
    first_reduction: int = 1
    """how much narrower the first 1×1 convolution of a bottleneck is than its 3×3 (SENet-154: 2)"""
    stem: StemKind = "conv7"
    """one 7×7; one 3×3 of stride 1 for small images; three 3×3, of widths ½ ½ 1 (deep) or ⅜ ½ 1 (tiered)"""
    stem_width: int = 64
    """channels that leave the stem"""
    stem_pool: StemPool = "max"
    """what halves the stem's output: maximum, strided convolution (ResNet-RS), or nothing"""
    shortcut: ShortcutKind = "conv"
    """where shapes differ: 1×1 convolution, 3×3 (SENet-154), averaging then 1×1 (ResNet-D), the paper's option A
    (subsample, pad with zero channels), or no shortcut in the whole network (the paper's plain networks)"""
    stride_at: StrideAt = "conv2"
    """the convolution of a bottleneck that strides: the 1×1 of the paper ("v1") or the 3×3 of everybody since"""
    attention: AttentionKind = "none"
    attention_ratio: float = 1 / 16
    """width of the squeeze, as a share of the block's output (attention "se" alone)"""
    antialias: AntialiasKind = "none"
    """what is done before each halving, instead of only striding (https://arxiv.org/abs/1904.11486)"""
    norm: Literal["batch", "group"] = "batch"

    def __post_init__(self) -> None:
        _check(self)
        _check_stages(self.depths, self.widths)
        if self.block == "basic" and (self.groups, self.group_width, self.first_reduction) != (1, 64, 1):
            raise InvalidArgument(
                'groups, group_width and first_reduction belong to bottlenecks: use block="bottleneck"'
            )

    @property
    def stem_channels(self) -> int:
        """Channels that leave the stem."""
        return self.stem_width

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Channels that leave each stage."""
        return tuple(width * _expansion(self.block) for width in self.widths)


@dataclass(frozen=True)
class PreActivation:
    """Blocks that normalise and activate first and only then convolve (He et al. 2016, https://arxiv.org/abs/1603.05027).

    >>> PreActivation("basic", (4, 4, 4), (16, 32, 64), width_factor=10).out_channels  # WRN-28-10
    (160, 320, 640)
    """

    block: BlockKind
    depths: tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512)
    """channels inside the blocks of each stage; a bottleneck gives four times as many"""
    _: KW_ONLY
    width_factor: int = 1
    """multiplies `widths`, and `stem_width` where `stem_widened`"""
    stem: StemKind = "conv7"
    stem_width: int = 64
    stem_widened: bool = True
    """whether the stem grows with `width_factor` (BiT) or not (Wide ResNet)"""
    stem_pool: Literal["max", "zero_max", "none"] = "max"
    """maximum, over borders of minus infinity or of zeros (BiT, after TensorFlow), or no pooling"""
    shortcut: Literal["conv", "avg_conv"] = "conv"
    stride_at: StrideAt = "conv2"
    convolution: Literal["plain", "standardised"] = "plain"
    """whether weights are standardised before use (BiT, https://arxiv.org/abs/1903.10520)"""
    norm: PreActivationNorm = "batch"

    def __post_init__(self) -> None:
        _check(self)
        _check_stages(self.depths, self.widths)

    @property
    def stem_channels(self) -> int:
        """Channels that leave the stem."""
        return self.stem_width * (self.width_factor if self.stem_widened else 1)

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Channels that leave each stage."""
        return tuple(width * self.width_factor * _expansion(self.block) for width in self.widths)


@dataclass(frozen=True)
class Dense:
    """Layers that each see all the earlier ones of their block (Huang et al. 2016, https://arxiv.org/abs/1608.06993).

    >>> Dense(32, (6, 12, 24, 16)).out_channels  # DenseNet-121
    (256, 512, 1024, 1024)
    """

    growth: int
    """channels that each layer adds"""
    depths: tuple[int, ...]
    """layers in each dense block; a transition between two blocks halves channels, height and width"""
    _: KW_ONLY
    initial_features: int = 64
    """channels that leave the stem"""
    bottleneck: int = 4
    """width of a layer's 1×1 convolution, in growths"""
    stem: Literal["conv7", "deep"] = "conv7"
    stem_antialias: Literal["none", "blur"] = "none"

    def __post_init__(self) -> None:
        _check(self)

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Channels that leave each dense block."""
        channels, out = self.initial_features, []
        for depth in self.depths:
            out.append(channels + depth * self.growth)
            channels = out[-1] // 2
        return tuple(out)


@dataclass(frozen=True)
class Vgg:
    """3×3 convolutions and maxima, the network before shortcuts (Simonyan 2014, https://arxiv.org/abs/1409.1556)."""

    depths: tuple[int, ...]
    """convolutions in each stage; a maximum after each stage halves height and width"""
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    _: KW_ONLY
    hidden_features: int = 4096
    """width of the classifier's two hidden layers"""
    norm: Literal["none", "batch"] = "none"

    def __post_init__(self) -> None:
        _check(self)
        _check_stages(self.depths, self.widths)

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Channels that leave each stage."""
        return self.widths


Architecture = Residual | PreActivation | Dense | Vgg

_ROW_TYPES: dict[str, type[Architecture]] = {row.__name__: row for row in (Residual, PreActivation, Dense, Vgg)}


def row_to_dict(row: Architecture) -> dict[str, Any]:
    """The row as JSON values, with the network it builds; `row_from_dict` reads it back.

    >>> row_to_dict(Vgg((1, 1, 2, 2, 2)))["network"]
    'Vgg'
    """
    values = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(row).items()}
    return {"network": type(row).__name__, **values}


def row_from_dict(values: Mapping[str, Any]) -> Architecture:
    """The row that `row_to_dict` wrote. Raises InvalidArgument for unknown networks, keys and values."""
    network = values.get("network")
    if network not in _ROW_TYPES:
        raise InvalidArgument(f"architecture row has network {network!r}: it is one of {', '.join(_ROW_TYPES)}")
    row_type = _ROW_TYPES[network]
    given: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in values.items() if key != "network"
    }
    unknown = sorted(set(given) - {field.name for field in fields(row_type)})
    if unknown:
        raise InvalidArgument(f"architecture row {network} has unknown keys {unknown}: written by a newer resnetkit?")
    try:
        return row_type(**given)
    except TypeError as error:
        raise InvalidArgument(f"architecture row {network} is incomplete: {error}") from error


def _expansion(block: BlockKind) -> int:
    return 4 if block == "bottleneck" else 1


def _check(row: Architecture) -> None:
    """Every value is of its field's kind: rows are also read from files that others wrote."""
    kind = type(row).__name__
    for name, hint in get_type_hints(type(row)).items():
        if name == "_":
            continue
        value = getattr(row, name)
        if get_origin(hint) is Literal and value not in get_args(hint):
            raise InvalidArgument(f"{kind}: {name} {value!r} is none of {', '.join(get_args(hint))}")
        if hint is bool and not isinstance(value, bool):
            raise InvalidArgument(f"{kind}: {name} {value!r} is neither true nor false")
        if hint is int and not _is_count(value):
            raise InvalidArgument(f"{kind}: {name} {value!r} is not a positive whole number")
        if hint is float and not (isinstance(value, int | float) and 0 < value <= 1):
            raise InvalidArgument(f"{kind}: {name} {value!r} is not a share between 0 and 1")
        if get_origin(hint) is tuple and not (isinstance(value, tuple) and value and all(map(_is_count, value))):
            raise InvalidArgument(f"{kind}: {name} {value!r} are not positive whole numbers, one a stage")


def _check_stages(depths: tuple[int, ...], widths: tuple[int, ...]) -> None:
    if len(depths) != len(widths):
        raise InvalidArgument(f"{len(depths)} depths but {len(widths)} widths: give one of each for every stage")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
