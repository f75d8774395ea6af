"""The small parts that blocks are made of. Shapes are N,C,H,W."""

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnetkit.catalog.rows import AntialiasKind, AttentionKind
from resnetkit.errors import InvalidArgument


def convolution(
    in_channels: int, out_channels: int, kernel: int, *,
    stride: int = 1, dilation: int = 1, groups: int = 1, kind: type[nn.Conv2d] = nn.Conv2d,
) -> nn.Conv2d:  # fmt: skip
    """A convolution that keeps height and width at stride 1; no bias, for a norm always follows or stands before."""
    padding = dilation * (kernel - 1) // 2
    return kind(in_channels, out_channels, kernel, stride, padding, dilation, groups, bias=False)


def normalisation(kind: str, channels: int) -> nn.BatchNorm2d | nn.GroupNorm:
    """Batch norm, or group norm."""
    return nn.GroupNorm(norm_groups(channels), channels) if kind == "group" else nn.BatchNorm2d(channels)


def norm_groups(channels: int) -> int:
    """How many groups a norm over groups makes of its channels: 32, whatever their number."""
    if channels % 32:
        raise InvalidArgument(f'a norm over 32 groups cannot divide {channels} channels: use other widths or "batch"')
    return 32


@final
class SqueezeExcitation(nn.Module):
    """Scales each channel by what all channels hold on average (https://arxiv.org/abs/1709.01507, figure 3)."""

    def __init__(self, channels: int, ratio: float) -> None:
        super().__init__()
        squeezed = max(8, int(channels * ratio + 4) // 8 * 8)  # a multiple of 8 is quicker on most hardware
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.act = nn.ReLU(inplace=True)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """N,C,H,W to N,C,H,W."""
        mean = x.mean((2, 3), keepdim=True)  # N,C,1,1
        return x * self.fc2(self.act(self.fc1(mean))).sigmoid()


@final
class EfficientChannelAttention(nn.Module):
    """Scales each channel by the averages of its few neighbours (https://arxiv.org/abs/1910.03151, figure 2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        kernel = max(3, channels.bit_length() // 2 | 1)  # the paper's equation 12: (log2 C + 1) / 2, made odd
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """N,C,H,W to N,C,H,W."""
        mean = x.mean((2, 3)).unsqueeze(1)  # N,1,C: channels in a row
        return x * self.conv(mean).sigmoid().transpose(1, 2).unsqueeze(3)


def attention(kind: AttentionKind, channels: int, ratio: float) -> nn.Module:
    """The attention at the end of a residual branch; without one, the branch as it is."""
    match kind:
        case "se":
            return SqueezeExcitation(channels, ratio)
        case "eca":
            return EfficientChannelAttention(channels)
        case "none":
            return nn.Identity()


def neighbours_mean(x: Tensor, distance: int) -> Tensor:
    """The mean of 2×2 places `distance` apart; N,C,H,W to N,C,H - distance,W - distance."""
    rows = (x[:, :, :-distance] + x[:, :, distance:]) / 2
    return (rows[..., :-distance] + rows[..., distance:]) / 2


@final
class Average(nn.Module):
    """The mean of 2×2 neighbours, `dilation` apart, at every `stride`-th place.

    At stride 1 the last row and column repeat, so that height and width stay. At stride 2 an odd size rounds up,
    and the neighbours that are not there do not count.

    >>> Average(stride=2)(torch.zeros(1, 8, 7, 6)).shape
    torch.Size([1, 8, 4, 3])
    """

    kernel_size = 2

    def __init__(self, stride: int, dilation: int = 1) -> None:
        super().__init__()
        self.stride, self.dilation = stride, dilation

    def forward(self, x: Tensor) -> Tensor:
        """N,C,H,W to N,C,H/stride,W/stride, rounded up."""
        if self.stride > 1:
            return F.avg_pool2d(x, 2, self.stride, ceil_mode=True, count_include_pad=False)
        d = self.dilation
        return neighbours_mean(F.pad(x, (0, d, 0, d), mode="replicate"), d)


@final
class Blur(nn.Module):
    """The binomial filter [1 2 1]/4 along both axes, at every `stride`-th place (https://arxiv.org/abs/1904.11486).

    It is the mean of neighbours taken twice, so no weights are kept.
    """

    kernel_size = 3

    def __init__(self, stride: int, dilation: int = 1) -> None:
        super().__init__()
        self.stride, self.dilation = stride, dilation

    def forward(self, x: Tensor) -> Tensor:
        """N,C,H,W to N,C,H/stride,W/stride, rounded up."""
        d = self.dilation
        x = F.pad(x, (d, d, d, d), mode="reflect")
        if d == 1:
            return F.avg_pool2d(F.avg_pool2d(x, 2, 1), 2, self.stride)
        return neighbours_mean(neighbours_mean(x, d), d)


def antialiasing(kind: AntialiasKind, stride: int, dilation: int) -> nn.Module:
    """The filter that takes over a convolution's stride. `dilation` is the grid's where the stride was dilated away."""
    match kind:
        case "blur":
            return Blur(stride, dilation)
        case "avg":
            return Average(stride, dilation)
        case "none":
            return nn.Identity()


@final
class PaddedShortcut(nn.Module):
    """The paper's option A: every second pixel, and zeros for the channels that are new. No parameters.

    >>> PaddedShortcut(16, 32, stride=2)(torch.zeros(1, 16, 32, 32)).shape
    torch.Size([1, 32, 16, 16])
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.new_channels, self.stride = out_channels - in_channels, stride

    def forward(self, x: Tensor) -> Tensor:
        """N,C,H,W to N,C',H/stride,W/stride, rounded up."""
        before = self.new_channels // 2
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, before, self.new_channels - before))


@final
class NoShortcut(nn.Module):
    """The plain networks of the paper: what the block adds to its residual is nothing."""

    def forward(self, x: Tensor) -> Tensor:
        """A zero without shape."""
        return x.new_zeros(())


def drop_path(rate: float) -> nn.Module:
    """Stochastic depth at `rate`; at 0 the residual as it is."""
    return DropPath(rate) if rate else nn.Identity()


@final
class DropPath(nn.Module):
    """Stochastic depth: in training, a sample skips the whole residual branch (https://arxiv.org/abs/1603.09382).

    Draws one number a sample from torch's default generator, so that `torch.manual_seed` before a step addresses
    it, and activation checkpointing, which restores that generator, repeats it.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """N,C,H,W to the same, some samples zero and the others scaled up by as much."""
        if not self.training:
            return x
        keep = 1 - self.rate
        kept = torch.rand(x.shape[0], 1, 1, 1, device=x.device) < keep
        return x * kept.to(x.dtype) / keep

    def extra_repr(self) -> str:
        """Shown by print(network)."""
        return f"rate={self.rate:g}"
