"""What `describe` finds out about a network, and how it prints: tables of at most 100 columns."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from resnetkit.tables import aligned, readable_bytes


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
            f"activation memory of one float32 image: {readable_bytes(self.peak_bytes)} at most in inference, "
            f"{readable_bytes(self.saved_bytes)} kept for backward"
        )
        return "\n".join([head, "", *self._stage_table(), "", memory, *self._advice()])

    def layer_table(self) -> str:
        """The layers one by one."""
        rows = [
            (layer.name, layer.kind, _shape(layer.shape), f"{layer.params:,}", _millions(layer.macs))
            for layer in self.layers
        ]
        return "\n".join(aligned(("layer", "kind", "output", "parameters", "M mult-adds"), rows, left=3))

    def _stage_table(self) -> list[str]:
        heads = ("stage", "output", "stride", "rec. field", "parameters", "M mult-adds", "for backward")
        rows = [
            (
                stage.name, _shape(stage.shape), str(stage.stride or ""), str(stage.receptive_field or ""),
                f"{stage.params:,}", _millions(stage.macs), readable_bytes(stage.saved_bytes),
            )
            for stage in self.stages
        ]  # fmt: skip
        total = ("total", "", "", "", f"{self.params:,}", _millions(self.macs), readable_bytes(self.saved_bytes))
        return aligned(heads, [*rows, total], left=2, rule_before_last=True)

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
            *aligned(("skip", "its size", "a U-Net's decoder brings", ""), rows, left=4),
            f"Padding {down} rows and {right} columns, to {height + down} × {width + right}, mends every skip.",
        ]


def _shape(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))


def _millions(macs: int) -> str:
    return f"{macs / 1e6:,.1f}"
