"""Which network a set of tensors (under our names) is, held against the network that the row really builds."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from resnetkit.catalog.architectures import ARCHITECTURES, Architecture, name_of
from resnetkit.catalog.rows import Dense, PreActivation, Residual
from resnetkit.checkpoints.compare import Shape, compare, network_shapes
from resnetkit.checkpoints.recognise import recognise
from resnetkit.errors import CheckpointError, InvalidArgument

_LARGEST_SIDE = 200_000
_MOST_TENSORS = 100_000
_REPRESENTATIVES = ("resnet18", "resnet50", "resnet20", "resnetv2_50", "densenet121", "vgg16", "vgg16_bn")


@dataclass(frozen=True)
class Identified:
    """A row, its use, and the shapes of its network in order."""

    row: Architecture
    num_classes: int
    in_chans: int
    shapes: dict[str, Shape]
    notes: tuple[str, ...]


def identify(
    shapes: Mapping[str, Shape],
    *,
    stride_at: Literal["conv1", "conv2"] = "conv2",
    row: Architecture | None = None,
) -> Identified:
    """The network of these tensors; `row` where somebody has said which it is.

    Raises `CheckpointError`, with every difference and both shapes, where the tensors do not make it.
    """
    if len(shapes) > _MOST_TENSORS or any(side > _LARGEST_SIDE for shape in shapes.values() for side in shape):
        raise CheckpointError("its tensors are larger than those of any network of the family")
    found = recognise(shapes, stride_at=stride_at)
    if found is None:
        raise CheckpointError(nearest(shapes))
    key = _shape_key(found.row)
    twins = tuple(name for name, other in _shape_keys().items() if other == key)
    chosen = row or _known(found.row, twins)
    num_classes = _classes(shapes)
    try:
        expected = network_shapes(chosen, num_classes=num_classes, in_chans=found.in_chans)
    except InvalidArgument as error:  # its names make a row that no network can have
        raise CheckpointError(f"{nearest(shapes)}; as {type(chosen).__name__} {error}") from error
    misfit = compare(shapes, expected).misfit
    if not misfit.fits:
        what = name_of(chosen) or "a network of the family"
        raise CheckpointError(f"it looks like {what} but does not fit it: {misfit.differences()}")
    notes = _undecided(chosen, twins) if row is None else ()
    return Identified(chosen, num_classes, found.in_chans, expected, notes)


def nearest(shapes: Mapping[str, Shape]) -> str:
    """Why these tensors are no network of the family: the one that shares most with them, and the first differences."""
    candidates = {name: compare(shapes, expected) for name, expected in _representatives().items()}
    name, found = max(candidates.items(), key=lambda item: len(item[1].matched))
    total = len(found.matched) + len(found.missing) + len(found.different)
    return (
        f"it is no network of the ResNet family; the nearest is {name}, which shares {len(found.matched)} of "
        f"{total} tensors with it; first differences: {_first_differences(shapes, found.missing)}"
    )


@cache
def _representatives() -> Mapping[str, Mapping[str, Shape]]:
    return {name: network_shapes(ARCHITECTURES[name], num_classes=1000, in_chans=3) for name in _REPRESENTATIVES}


def _first_differences(shapes: Mapping[str, Shape], missing: Mapping[str, Shape]) -> str:
    has = [f"it has {key} {shape}" for key, shape in list(shapes.items())[:2]]
    lacks = [f"it lacks {key} {shape}" for key, shape in list(missing.items())[:2]]
    return ", ".join(has + lacks)


def _shape_key(row: Architecture) -> Architecture:
    """Equal for rows whose networks have the same names and shapes."""
    match row:
        case Residual():
            pool: Literal["conv", "max"] = "conv" if row.stem_pool == "conv" else "max"
            shortcut = "pad" if row.shortcut == "none" else row.shortcut
            return replace(row, stride_at="conv2", antialias="none", stem_pool=pool, shortcut=shortcut)
        case PreActivation():
            widths = tuple(width * row.width_factor for width in row.widths)
            return replace(
                row, stride_at="conv2", stem_pool="max", stem_width=row.stem_channels, widths=widths, width_factor=1,
                stem_widened=True, convolution="plain", shortcut="conv",
            )  # fmt: skip
        case Dense():
            return replace(row, stem_antialias="none")
    return row


@cache
def _shape_keys() -> Mapping[str, Architecture]:
    return {name: _shape_key(row) for name, row in ARCHITECTURES.items()}


def _known(row: Architecture, twins: tuple[str, ...]) -> Architecture:
    """The catalogue's row where one has these shapes: it knows what shapes do not tell. Else the row as recognised."""
    if name_of(row) is not None or not twins:
        return row
    rows = [ARCHITECTURES[name] for name in twins]
    strides = getattr(row, "stride_at", None)
    return next((twin for twin in rows if getattr(twin, "stride_at", None) == strides), rows[0])


def _undecided(row: Architecture, twins: tuple[str, ...]) -> tuple[str, ...]:
    name = name_of(row)
    others = [twin for twin in twins if ARCHITECTURES[twin] != row]
    notes = []
    if isinstance(row, Residual | PreActivation) and row.block == "bottleneck":
        notes.append(f"shapes do not tell which convolution strides: taken for {row.stride_at}, else state --stride-at")
    if others:
        have = "has" if len(others) == 1 else "have"
        notes.append(f"taken for {name}; {', '.join(others)} {have} the same shapes, else state --architecture")
    return tuple(notes)


def _classes(shapes: Mapping[str, Shape]) -> int:
    for head in ("fc.weight", "head.fc.weight", "classifier.6.weight", "classifier.weight"):
        if shape := shapes.get(head):
            return shape[0]
    return 0
