"""From tensor names (ours) and shapes alone to the architecture row, as far as shapes can tell."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from resnetkit.catalog.rows import Architecture, Dense, PreActivation, Residual, StemKind, Vgg
from resnetkit.errors import InvalidArgument

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


@dataclass(frozen=True)
class Recognised:
    """A row, and how many channels its network reads."""

    row: Architecture
    in_chans: int


def recognise(shapes: Shapes, *, stride_at: Literal["conv1", "conv2"] = "conv2") -> Recognised | None:
    """The row whose network has tensors of these names and shapes; None where no kind of network fits.

    The guess may still be wrong in parts; whoever asks builds it and compares every shape.

    >>> shapes = {"conv1.weight": (16, 3, 3, 3), "layer1.0.conv1.weight": (16, 16, 3, 3)}
    >>> shapes |= {"layer2.0.conv1.weight": (32, 16, 3, 3), "layer3.0.conv1.weight": (64, 32, 3, 3)}
    >>> recognise(shapes).row.shortcut  # channels change and nothing projects: option A
    'pad'
    """
    try:
        if "layer1.0.conv1.weight" in shapes:
            return _residual(shapes, stride_at)
        if "stages.0.blocks.0.conv1.weight" in shapes:
            return _preactivation(shapes, stride_at)
        if "features.denseblock1.denselayer1.conv1.weight" in shapes:
            return _dense(shapes)
        if "features.0.weight" in shapes:
            return _vgg(shapes)
    except (LookupError, ValueError, ZeroDivisionError, InvalidArgument):
        return None
    return None


def _residual(shapes: Shapes, stride_at: Literal["conv1", "conv2"]) -> Recognised:
    depths = _counts(shapes, r"layer(\d+)\.(\d+)\.(conv|bn)\d\..+", start=1)
    stages = range(1, len(depths) + 1)
    bottleneck = "layer1.0.conv3.weight" in shapes
    last = "conv3" if bottleneck else "conv2" if "layer1.0.conv2.weight" in shapes else "conv1"
    out = tuple(_first(shapes, rf"layer{stage}\.\d+\.{last}\.weight")[0] for stage in stages)
    widths = tuple(channels // 4 for channels in out) if bottleneck else out
    stem, stem_width, in_chans = _stem(shapes, {"conv1.0": "conv1.6"}, "conv1")
    small = stem == "conv3"
    projects = [name for stage in stages for name in _within(shapes, f"layer{stage}.0.downsample.")]
    kernels = {shapes[f"layer{stage}.0.downsample.0.weight"][-1] for stage in stages
               if len(shapes.get(f"layer{stage}.0.downsample.0.weight", ())) == 4}  # fmt: skip
    if not projects:
        shortcut: Literal["conv", "conv3", "avg_conv", "pad"] = "pad" if len({stem_width, *out}) > 1 else "conv"
    else:
        shortcut = "avg_conv" if not kernels else "conv3" if 3 in kernels else "conv"
    attention: Literal["none", "se", "eca"] = "none"
    ratio = 1 / 16
    if squeeze := shapes.get(f"layer{len(depths)}.0.se.fc1.weight"):
        attention, ratio = "se", squeeze[0] / squeeze[1]
    elif "layer1.0.se.conv.weight" in shapes:
        attention = "eca"
    inner, part = shapes["layer1.0.conv2.weight"][:2] if bottleneck else (0, 0)
    narrow = shapes["layer1.0.conv1.weight"][0]
    groups = narrow // part if bottleneck else 1
    row = Residual(
        "bottleneck" if bottleneck else "basic",
        depths,
        widths,
        groups=groups,
        group_width=inner // groups * 64 // widths[0] if bottleneck else 64,
        first_reduction=inner // narrow if bottleneck else 1,
        stem=stem,
        stem_width=stem_width,
        stem_pool="none" if small else "conv" if "maxpool.0.weight" in shapes else "max",
        shortcut=shortcut,
        stride_at=stride_at if bottleneck else "conv2",
        attention=attention,
        attention_ratio=ratio,
        norm=_norm(shapes, "bn1"),
    )
    return Recognised(row, in_chans)


def _preactivation(shapes: Shapes, stride_at: Literal["conv1", "conv2"]) -> Recognised:
    depths = _counts(shapes, r"stages\.(\d+)\.blocks\.(\d+)\.(conv|norm)\d\..+", start=0)
    bottleneck = "stages.0.blocks.0.conv3.weight" in shapes
    last = "conv3" if bottleneck else "conv2"
    out = [_first(shapes, rf"stages\.{stage}\.blocks\.\d+\.{last}\.weight")[0] for stage in range(len(depths))]
    widths = tuple(channels // 4 if bottleneck else channels for channels in out)
    stem, stem_width, in_chans = _stem(shapes, {"stem.conv1": "stem.conv3"}, "stem.conv")
    # 64 · 3 and 192 are the same network: it is written with a factor where the family's widths say so.
    base = 64 if widths[0] % 64 == 0 else 16
    factor = widths[0] // base if widths[0] % base == 0 else 1
    widened = factor > 1 and stem_width % factor == 0 and stem_width // factor >= base
    norm: Literal["batch", "group", "evo_s0", "frn"] = _norm(shapes, "norm")
    if "norm.v" in shapes:
        norm = "evo_s0"
    elif "norm.tau" in shapes:
        norm = "frn"
    standardised = norm == "group"
    projection = "stages.0.blocks.0.downsample.conv.weight"
    row = PreActivation(
        "bottleneck" if bottleneck else "basic",
        depths,
        tuple(width // factor for width in widths),
        width_factor=factor,
        stem=stem,
        stem_width=stem_width // factor if widened else stem_width,
        stem_widened=widened or factor == 1,
        stem_pool="none" if stem == "conv3" else "zero_max" if standardised else "max",
        shortcut="avg_conv" if stem in ("deep", "tiered") and projection in shapes else "conv",
        stride_at=stride_at if bottleneck else "conv2",
        convolution="standardised" if norm in ("group", "evo_s0", "frn") else "plain",
        norm=norm,
    )
    return Recognised(row, in_chans)


def _dense(shapes: Shapes) -> Recognised:
    depths = _counts(shapes, r"features\.denseblock(\d+)\.denselayer(\d+)\.(conv|norm)\d\..+", start=1, inner=1)
    growth = shapes["features.denseblock1.denselayer1.conv2.weight"][0]
    deep = "features.conv2.weight" in shapes
    row = Dense(
        growth,
        depths,
        initial_features=shapes["features.conv2.weight" if deep else "features.conv0.weight"][0],
        bottleneck=shapes["features.denseblock1.denselayer1.conv1.weight"][0] // growth,
        stem="deep" if deep else "conv7",
    )
    return Recognised(row, shapes["features.conv0.weight"][1])


def _vgg(shapes: Shapes) -> Recognised:
    """Convolutions are counted by the gaps that activations, norms and pools leave between their numbers."""
    places = sorted(int(key.split(".")[1]) for key in shapes if re.fullmatch(r"features\.\d{1,9}\.weight", key))
    convolutions = [place for place in places if len(shapes[f"features.{place}.weight"]) == 4]
    step = 3 if f"features.{convolutions[0] + 1}.weight" in shapes else 2
    depths, widths = [0], [shapes[f"features.{convolutions[0]}.weight"][0]]
    for before, place in zip([convolutions[0] - step, *convolutions], convolutions, strict=False):
        if place - before > step:
            depths.append(0)
            widths.append(shapes[f"features.{place}.weight"][0])
        depths[-1] += 1
    hidden = shapes.get("classifier.0.weight", (4096,))[0]
    row = Vgg(tuple(depths), tuple(widths), hidden_features=hidden, norm="batch" if step == 3 else "none")
    return Recognised(row, shapes[f"features.{convolutions[0]}.weight"][1])


def _stem(shapes: Shapes, deep: Mapping[str, str], single: str) -> tuple[StemKind, int, int]:
    """Kind, width and input channels."""
    for first, last in deep.items():
        if f"{last}.weight" in shapes:
            narrow, in_chans = shapes[f"{first}.weight"][:2]
            width = shapes[f"{last}.weight"][0]
            return ("deep" if narrow * 2 == width else "tiered"), width, in_chans
    width, in_chans, *_, kernel = shapes[f"{single}.weight"]
    return ("conv3" if kernel == 3 else "conv7"), width, in_chans


def _norm(shapes: Shapes, module: str) -> Literal["batch", "group"]:
    """Group norm keeps no running figures."""
    grouped = f"{module}.weight" in shapes and f"{module}.running_mean" not in shapes
    return "group" if grouped else "batch"


def _counts(shapes: Shapes, pattern: str, *, start: int, inner: int = 0) -> tuple[int, ...]:
    """How many blocks each stage has; ValueError where their numbers leave gaps."""
    found: dict[int, set[int]] = {}
    for key in shapes:
        if match := re.fullmatch(pattern, key):
            found.setdefault(int(match[1][:9]), set()).add(int(match[2][:9]))
    if sorted(found) != list(range(start, start + len(found))) or not found:
        raise ValueError("stages are missing")
    for blocks in found.values():
        if sorted(blocks) != list(range(inner, inner + len(blocks))):
            raise ValueError("blocks are missing")
    return tuple(len(found[stage]) for stage in sorted(found))


def _first(shapes: Shapes, pattern: str) -> Shape:
    found = next((shape for key, shape in shapes.items() if re.fullmatch(pattern, key)), None)
    if found is None:  # a StopIteration would become a RuntimeError inside a generator
        raise LookupError(pattern)
    return found


def _within(shapes: Shapes, prefix: str) -> list[str]:
    return [key for key in shapes if key.startswith(prefix)]
