"""What `describe` finds out about a network, and how it prints: tables of at most 100 columns."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One module without children. Shapes are C,H,W or C, of one image; one multiply-add (mac) counts as one."""

    name: str
    kind: str
    shape: tuple[int, ...]
    params: int
    macs: int


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What lies between two feature maps, or the head after the last."""

    name: str
    shape: tuple[int, ...]
    stride: int | None
    """pixels of the image, along one side, for one place of the map; None after pooling"""
    receptive_field: int | None
    """pixels of the image, along one side, that one place depends on, attention apart; None after pooling"""
    params: int
    macs: int
    saved_bytes: int
    """float32 activations that training keeps for the backward pass, of one image"""


@dataclass(frozen=True, kw_only=True)
class Skip:
    """What a U-Net's decoder meets where it joins a finer map: the coarser one, scaled up, must be as large."""

    stage: str
    size: tuple[int, int]
    upsampled: tuple[int, int]

    @property
    def fits(self) -> bool:
        """Whether the two can be concatenated as they are."""
        return self.size == self.upsampled


@dataclass(frozen=True, kw_only=True)
class Description:
    """A network understood without running it. `print` shows the stages as a table.

    Bytes are of float32 and one image; memory is that of activations, weights apart.
    """

    name: str | None
    input_size: tuple[int, int, int]
    num_classes: int
    params: int
    macs: int
    saved_bytes: int
    """kept for the backward pass, each tensor once, the image included"""
    peak_bytes: int
    """the most that is alive at once in inference, the image included"""
    stages: tuple[Stage, ...]
    layers: tuple[Layer, ...]
    skips: tuple[Skip, ...]
    padding: tuple[int, int]
    """rows and columns to add to the image so that every skip fits"""

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "skips": [{**asdict(skip), "fits": skip.fits} for skip in self.skips]}

    def __str__(self) -> str:
        channels, height, width = self.input_size
        head = (
            f"{self.name or 'a network of its own'}, input {channels} × {height} × {width}, {self.num_classes} classes"
        )
        memory = (
            f"activation memory of one float32 image: {_bytes(self.peak_bytes)} at most in inference, "
            f"{_bytes(self.saved_bytes)} kept for backward"
        )
        return "\n".join([head, "", *self._stage_table(), "", memory, *self._advice()])

    def layer_table(self) -> str:
        """The layers one by one."""
        rows = [
            (layer.name, layer.kind, _shape(layer.shape), f"{layer.params:,}", _millions(layer.macs))
            for layer in self.layers
        ]
        return "\n".join(_table(("layer", "kind", "output", "parameters", "M mult-adds"), rows, left=3))

    def _stage_table(self) -> list[str]:
        heads = ("stage", "output", "stride", "rec. field", "parameters", "M mult-adds", "for backward")
        rows = [
            (
                stage.name, _shape(stage.shape), str(stage.stride or ""), str(stage.receptive_field or ""),
                f"{stage.params:,}", _millions(stage.macs), _bytes(stage.saved_bytes),
            )
            for stage in self.stages
        ]  # fmt: skip
        total = ("total", "", "", "", f"{self.params:,}", _millions(self.macs), _bytes(self.saved_bytes))
        return _table(heads, [*rows, total], left=2, rule_before_last=True)

    def _advice(self) -> list[str]:
        if all(skip.fits for skip in self.skips):
            return []
        _, height, width = self.input_size
        down, right = self.padding
        rows = [
            (skip.stage, _shape(skip.size), _shape(skip.upsampled), "" if skip.fits else "does not fit")
            for skip in reversed(self.skips)
        ]
        return [
            "",
            *_table(("skip", "its size", "a U-Net's decoder brings", ""), rows, left=4),
            f"Padding {down} rows and {right} columns, to {height + down} × {width + right}, mends every skip.",
        ]


def _shape(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))


def _millions(macs: int) -> str:
    return f"{macs / 1e6:,.1f}"


def _bytes(count: int) -> str:
    """Of 1024s, three digits or so.

    >>> _bytes(23_400_000)
    '22.3 MiB'
    """
    size, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1000 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def _table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], *, left: int, rule_before_last: bool = False
) -> list[str]:
    """Lines of aligned columns, the first `left` of them to the left."""
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    lines = [
        "  ".join(cell.ljust(width) if column < left else cell.rjust(width)
                  for column, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in (heads, *rows)
    ]  # fmt: skip
    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    lines.insert(1, rule)
    if rule_before_last:
        lines.insert(-1, rule)
    return lines
