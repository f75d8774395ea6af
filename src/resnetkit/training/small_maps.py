"""Convolutions to maps of few pixels as matrix products, on the processor in training.

A library's convolution walks along the rows of a map. Where small images have become a few pixels, rows are too short
for its kernels: a 3×3 convolution of 512 channels on one pixel takes ten times as long as the product it is. So the
pixels that each output sees are laid side by side (im2col; Chellapilla et al. 2006, "High performance convolutional
neural networks for document processing", section 3), which costs little here, and multiplied by the weights. Weights
that only ever meet padding are left out: of 3×3 on one pixel the middle one stays. Sums are in float32, as before.
Where it pays was measured (docs/decisions/0015).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from resnetkit.tasks.bf16 import has_bf16_tiles

_FEW_WITH_TILES = 16  # pixels of the output; without them products are no faster than convolutions but on one pixel


def is_better_as_product(conv: nn.Conv2d, x: Tensor) -> bool:
    """Whether `convolve` computes this convolution of these images, and in less time."""
    if x.device.type != "cpu" or conv.groups > 1 or conv.bias is not None or isinstance(conv.padding, str):
        return False
    if conv.kernel_size == (1, 1) or conv.dilation != (1, 1) or conv.padding_mode != "zeros":
        return False
    down, across = _axes(conv, x)
    pixels = down.outputs * across.outputs
    return pixels == 1 or (1 < pixels <= _FEW_WITH_TILES and _dtype(x) == torch.bfloat16 and has_bf16_tiles())


def convolve(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """What `conv(x)` gives, in channels-last memory; under autocast in its type."""
    down, across = _axes(conv, x)
    weight = conv.weight
    x, weight = (tensor.to(_dtype(x)) for tensor in (x, weight))
    weight = weight[:, :, down.first : down.end, across.first : across.end]
    y: Tensor = _Convolve.apply(x, weight, down, across)  # type: ignore[no-untyped-call]
    return y


def _dtype(x: Tensor) -> torch.dtype:
    """The type in which a convolution of `x` is computed."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


@dataclass(frozen=True)
class _Axis:
    """Height or width of a convolution: which of the kernel's taps `first … end` ever meet a pixel, and where."""

    inputs: int
    outputs: int
    stride: int
    first: int
    end: int
    before: int
    """padding before the first pixel that a tap still sees"""

    @property
    def taps(self) -> int:
        return self.end - self.first

    @property
    def after(self) -> int:
        """Padding after the last pixel; negative where the last pixels are not seen."""
        return (self.outputs - 1) * self.stride + self.taps - self.before - self.inputs


def _axes(conv: nn.Conv2d, x: Tensor) -> tuple[_Axis, _Axis]:
    assert not isinstance(conv.padding, str)
    high, wide = conv.padding
    return (
        _axis(x.shape[2], conv.kernel_size[0], conv.stride[0], high),
        _axis(x.shape[3], conv.kernel_size[1], conv.stride[1], wide),
    )


def _axis(inputs: int, kernel: int, stride: int, padding: int) -> _Axis:
    outputs = (inputs + 2 * padding - kernel) // stride + 1
    used = [
        tap for tap in range(kernel)
        if any(0 <= place * stride + tap - padding < inputs for place in range(outputs))
    ]  # fmt: skip
    first, end = (used[0], used[-1] + 1) if used else (0, kernel)
    return _Axis(inputs, outputs, stride, first, end, padding - first)


class _Convolve(torch.autograd.Function):
    """x N,C,H,W and weight O,C,kh,kw → N,O,h,w."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        x, weight, down, across = arguments
        seen = _side_by_side(x, down, across)
        ctx.save_for_backward(seen, weight)
        ctx.axes = down, across
        return _images(seen @ _matrix(weight).t(), len(x), down.outputs, across.outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:
        seen, weight = ctx.saved_tensors
        down, across = ctx.axes
        g = gradients[0].to(seen.dtype)
        rows = g.permute(0, 2, 3, 1).reshape(-1, g.shape[1])
        out, channels, high, wide = weight.shape
        for_weight = None
        if ctx.needs_input_grad[1]:
            for_weight = (rows.t() @ seen).view(out, high, wide, channels).permute(0, 3, 1, 2)
        for_x = _to_input(g, rows, weight, down, across) if ctx.needs_input_grad[0] else None
        return for_x, for_weight, None, None


def _to_input(g: Tensor, rows: Tensor, weight: Tensor, down: _Axis, across: _Axis) -> Tensor:
    """The gradient of x: N,C,H,W."""
    if down.stride == across.stride == 1:
        # A convolution again, with the kernel turned about.
        back = [
            _Axis(axis.outputs, axis.inputs, 1, 0, axis.taps, axis.taps - 1 - axis.before) for axis in (down, across)
        ]
        turned = weight.flip(2, 3).permute(2, 3, 0, 1).reshape(-1, weight.shape[1])
        return _images(_side_by_side(g, *back) @ turned, len(g), down.inputs, across.inputs)
    each = (rows @ _matrix(weight)).view(
        len(g), down.outputs, across.outputs, down.taps, across.taps, weight.shape[1]
    )  # fmt: skip
    high, wide = ((axis.outputs - 1) * axis.stride + axis.taps for axis in (down, across))
    padded = each.new_zeros(len(g), high, wide, weight.shape[1], dtype=torch.promote_types(each.dtype, torch.float32))
    for tap_down in range(down.taps):
        for tap_across in range(across.taps):
            padded[
                :, tap_down : tap_down + high - down.taps + 1 : down.stride,
                tap_across : tap_across + wide - across.taps + 1 : across.stride,
            ] += each[:, :, :, tap_down, tap_across]  # fmt: skip
    cut = (0, 0, -across.before, -across.after, -down.before, -down.after)
    return F.pad(padded, cut).to(g.dtype).permute(0, 3, 1, 2)


def _side_by_side(x: Tensor, down: _Axis, across: _Axis) -> Tensor:
    """N,C,H,W → a row for each output pixel: the channels of all pixels that it sees, N·h·w × kh·kw·C."""
    pixels = F.pad(x.permute(0, 2, 3, 1), (0, 0, across.before, across.after, down.before, down.after)).contiguous()
    image, row, column, channel = pixels.stride()
    windows = pixels.as_strided(
        (len(x), down.outputs, across.outputs, down.taps, across.taps, x.shape[1]),
        (image, row * down.stride, column * across.stride, row, column, channel),
    )
    return windows.reshape(len(x) * down.outputs * across.outputs, -1)


def _matrix(weight: Tensor) -> Tensor:
    """O,C,kh,kw → O × kh·kw·C."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)


def _images(rows: Tensor, images: int, height: int, width: int) -> Tensor:
    return rows.view(images, height, width, -1).permute(0, 3, 1, 2)
