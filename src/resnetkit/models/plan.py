"""Where each block of a residual network stands: its channels, stride, dilation and drop rate, before any tensor is."""

from dataclasses import dataclass

from resnetkit.catalog.rows import PreActivation, Residual
from resnetkit.errors import InvalidArgument

OUTPUT_STRIDES = (8, 16, 32)


@dataclass(frozen=True)
class Place:
    """What a block must know of its surroundings."""

    in_channels: int
    out_channels: int
    stride: int = 1
    dilation: int = 1
    """of the block's grid once its own stride is done"""
    dilation_before: int = 1
    """of the grid that comes in; differs from `dilation` where a stride was turned into dilation"""
    drop_path_rate: float = 0.0

    @property
    def changes_shape(self) -> bool:
        """Whether a shortcut must project."""
        return self.stride > 1 or self.in_channels != self.out_channels

    @property
    def halves(self) -> bool:
        """Whether the full network halves here, by stride or by dilation in its stead."""
        return self.stride > 1 or self.dilation != self.dilation_before


def plan_stages(
    row: Residual | PreActivation, *, output_stride: int, drop_path_rate: float
) -> tuple[tuple[tuple[Place, ...], ...], tuple[int, ...]]:
    """The places of each stage, and the strides against the image: of the stem's map, then of each stage's.

    Every stage but the first halves height and width. Where that would pass `output_stride`, the stride becomes 1 and
    what comes after reads a dilated grid: at every place of the coarse grid the network computes what it did before,
    so that trained weights keep their meaning. The drop rate grows linearly from 0 at the first block to the full
    rate at the last.

    >>> stages, strides = plan_stages(Residual("basic", (2, 2, 2, 2)), output_stride=16, drop_path_rate=0.0)
    >>> [(first.stride, first.dilation_before, first.dilation) for first, *_ in stages]
    [(1, 1, 1), (2, 1, 1), (2, 1, 1), (1, 1, 2)]
    >>> strides
    (2, 4, 8, 16, 16)
    """
    if not 0 <= drop_path_rate < 1:
        raise InvalidArgument(f"drop_path_rate {drop_path_rate} is a share of samples: from 0 to below 1")
    if output_stride not in OUTPUT_STRIDES:
        raise InvalidArgument(f"output_stride {output_stride} is not possible: choose 8, 16 or 32")
    stem_stride = 1 if row.stem == "conv3" else 2
    reduction = stem_stride * (1 if row.stem_pool == "none" else 2)
    if output_stride != 32 and reduction < 4:
        raise InvalidArgument(f"output_stride {output_stride} is for networks that reach 32; this one has a small stem")
    last_block = max(1, sum(row.depths) - 1)
    stages: list[tuple[Place, ...]] = []
    strides = [stem_stride]
    channels, dilation, block = row.stem_channels, 1, 0
    for stage, (depth, out) in enumerate(zip(row.depths, row.out_channels, strict=True)):
        stride, dilation_before = (1 if stage == 0 else 2), dilation
        if reduction * stride > output_stride:
            stride, dilation = 1, dilation * stride
        reduction *= stride
        strides.append(reduction)
        places = []
        for _ in range(depth):
            rate = drop_path_rate * block / last_block
            places.append(Place(channels, out, stride, dilation, dilation_before, rate))
            channels, stride, dilation_before, block = out, 1, dilation, block + 1
        stages.append(tuple(places))
    return tuple(stages), tuple(strides)
