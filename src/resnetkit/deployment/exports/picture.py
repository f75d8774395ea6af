"""Preprocessing as a graph: the third executor of a `Preprocess` row, for exports.

Every runtime has an antialiased resize of its own and no two agree (OpenVINO ignores ONNX's `antialias`; ONNX Runtime
is up to 17 grey levels away from Pillow where noise shrinks). So the graph says what resizing is: two matrix products
whose weights it computes from the picture's size, as Pillow computes them, with the rounding to whole grey levels that
an uint8 resize does after each. Only the pixels that the crop keeps are computed, so that every shape but the
picture's own is known beforehand.
"""

from typing import final

import torch
from torch import Tensor, nn

from resnetkit.catalog.preprocessing import Preprocess


@final
class PictureToPixels(nn.Module):
    """uint8 pictures `N,H,W,C` of any one size → uint8 `N,h,w,C` of the preprocessing's size, as Pillow resizes them.

    >>> graph = PictureToPixels(Preprocess.for_size(24, crop_share=0.75))
    >>> graph(torch.full((2, 40, 50, 3), 7, dtype=torch.uint8)).unique()
    tensor([7], dtype=torch.uint8)
    """

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        self._row = preprocess
        height, width = preprocess.size
        self._places_down: Tensor
        self._places_across: Tensor
        self._fill: Tensor
        self.register_buffer("_places_down", torch.arange(height), persistent=False)
        self.register_buffer("_places_across", torch.arange(width), persistent=False)
        fill = [float(round(255 * value)) for value in preprocess.mean]
        self.register_buffer("_fill", torch.tensor(fill).view(1, -1, 1, 1), persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """Resize, crop or fill up."""
        rows, columns = torch.arange(pictures.shape[1]), torch.arange(pictures.shape[2])
        height, width = rows[-1:] + 1, columns[-1:] + 1  # as tensors of one number, so that the graph computes on
        new_height, new_width = self._resized(height, width)
        down, is_row = self._weights(rows, height, new_height, self._places_down)
        across, is_column = self._weights(columns, width, new_width, self._places_across)
        x = pictures.permute(0, 3, 1, 2).to(torch.float32)  # N,C,H,W
        x = _whole_levels(x @ across.T)  # N,C,H,w
        x = _whole_levels(down @ x)  # N,C,h,w
        if self._may_need_filling():
            x = torch.where(is_row[:, None] & is_column[None], x, self._fill)
        return x.permute(0, 2, 3, 1).to(torch.uint8)

    def _resized(self, height: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
        """`Preprocess.resized` on whole numbers."""
        row = self._row
        if row.crop_mode == "squash":
            return torch.full_like(height, row.size[0]), torch.full_like(width, row.size[1])
        if row.crop_mode == "pad":
            by_height = row.size[0] * width <= row.size[1] * height  # the height is what limits the scale
            up, down = torch.where(by_height, row.size[0], row.size[1]), torch.where(by_height, height, width)
            return (_halves_to_even(height * up, down).clamp(min=1), _halves_to_even(width * up, down).clamp(min=1))
        short = torch.minimum(height, width)
        if row.rounding == "floor":
            return _floor(height * row.resize, short), _floor(width * row.resize, short)
        return _halves_to_even(height * row.resize, short), _halves_to_even(width * row.resize, short)

    def _weights(self, index: Tensor, old: Tensor, new: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """What each kept place (rows) takes of each pixel (columns) along one side; which places are in the picture."""
        spare, kept = new - len(places), torch.full_like(new, 2)
        first = torch.where(spare >= 0, _halves_to_even(spare, kept), -_floor(-spare, kept))
        places = places + first
        scale = old.to(torch.float32) / new.to(torch.float32)
        centres = (places.to(torch.float32) + 0.5) * scale
        distance = (index.to(torch.float32) + 0.5)[None] - centres[:, None]
        weights = self._filter((distance / scale.clamp(min=1.0)).abs())
        total = weights.sum(1, keepdim=True)
        return weights / torch.where(total > 0, total, torch.ones_like(total)), (places >= 0) & (places < new)

    def _filter(self, t: Tensor) -> Tensor:
        """A triangle, or Keys' cubic with a = -1/2."""
        if self._row.interpolation == "bilinear":
            return (1 - t).clamp(min=0)
        inner, outer = (1.5 * t - 2.5) * t * t + 1, ((2.5 - 0.5 * t) * t - 4) * t + 2
        return torch.where(t < 1, inner, torch.where(t < 2, outer, torch.zeros_like(t)))

    def _may_need_filling(self) -> bool:
        row = self._row
        return row.crop_mode == "pad" or (row.crop_mode == "centre" and row.resize < max(row.size))


def _whole_levels(x: Tensor) -> Tensor:
    """What storing in uint8 does: halves go up, and nothing leaves 0 to 255."""
    return torch.floor(x + 0.5).clamp(0.0, 255.0)


def _floor(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The quotient of whole numbers, cut; neither is negative."""
    return torch.div(numerator, denominator, rounding_mode="floor")


def _halves_to_even(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The quotient of whole numbers, rounded as Python rounds; neither is negative."""
    whole = _floor(numerator, denominator)
    twice_left = 2 * (numerator - whole * denominator)
    odd = whole - 2 * _floor(whole, torch.full_like(whole, 2))
    up = (twice_left > denominator) | ((twice_left == denominator) & (odd == 1))
    return whole + up.to(torch.int64)
