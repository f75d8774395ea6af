"""Mixing images of a batch and their targets: mixup and CutMix, as a function of (seed, step).

Works on the batch where it is, after it was moved to the device, and on targets that are shares of classes.
"""

from dataclasses import dataclass
from math import sqrt

import torch
from scipy.special import betaincinv
from torch import Tensor

from resnetkit.data.randomness import permutation, uniform
from resnetkit.errors import InvalidArgument


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """Which batches are mixed, and how strongly: λ is drawn from Beta(α, α), once a step.

    `mixup` is the α of blending (Zhang et al. 2017, arXiv 1710.09412: 0.2 for ImageNet, 1 for CIFAR), `cutmix` the α of
    pasting a rectangle (Yun et al. 2019, arXiv 1905.04899: 1); 0 leaves that way out. Where both are given, each step
    takes one of them, at even odds. `share` is the share of steps that mix at all.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    share: float = 1.0

    def __post_init__(self) -> None:
        if self.mixup < 0 or self.cutmix < 0 or not 0 <= self.share <= 1:
            raise InvalidArgument(
                f"mixup {self.mixup} and cutmix {self.cutmix} are at least 0, their share {self.share} between 0 and 1"
            )


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """Classes `N` as float32 targets `N,num_classes`.

    >>> one_hot(torch.tensor([2, 0]), 3).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    targets = torch.zeros(len(labels), num_classes, device=labels.device)
    return targets.scatter_(1, labels[:, None], 1.0)


def mix(images: Tensor, targets: Tensor, mixing: Mixing, *, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """Images `N,C,H,W` and float targets `N,classes` (shares, or several labels an image), mixed among themselves.

    Each image gets a partner by a random permutation. Best given normalised images: blending commutes with
    normalisation, and uint8 would round. What was given is left as it was.

    >>> images, targets = torch.zeros(2, 3, 8, 8), one_hot(torch.tensor([0, 1]), 2)
    >>> mix(images, targets, Mixing(mixup=1.0), seed=0, step=0)[1].sum(dim=1).tolist()
    [1.0, 1.0]
    """
    mixes, which, quantile, row, column = uniform("mix", seed, step, count=1, columns=5)[0].tolist()
    if mixes >= mixing.share or not (mixing.mixup or mixing.cutmix):
        return images, targets
    partner = torch.from_numpy(permutation("partner", seed, step, len(images))).to(images.device)
    blends = mixing.mixup > 0 and (mixing.cutmix == 0 or which < 0.5)
    alpha = mixing.mixup if blends else mixing.cutmix
    own = float(betaincinv(alpha, alpha, quantile))
    if blends:
        mixed = _blend(images, images[partner], own)
    else:
        top, left, bottom, right = cut_box(images.shape[-2], images.shape[-1], own, row, column)
        mixed = images.clone()
        mixed[:, :, top:bottom, left:right] = images[partner, :, top:bottom, left:right]
        own = 1 - (bottom - top) * (right - left) / (images.shape[-2] * images.shape[-1])
    return mixed, torch.lerp(targets[partner], targets, own)


def cut_box(height: int, width: int, own: float, row: float, column: float) -> tuple[int, int, int, int]:
    """Top, left, bottom, right of CutMix's rectangle: a share of 1 - `own` around a centre, cut at the borders.

    >>> cut_box(100, 200, 0.75, 0.5, 0.5)
    (25, 50, 75, 150)
    """
    side = sqrt(1 - own)
    half_height, half_width = int(height * side) // 2, int(width * side) // 2
    y, x = int(row * height), int(column * width)
    return (
        max(0, y - half_height), max(0, x - half_width), min(height, y + half_height), min(width, x + half_width),
    )  # fmt: skip


def _blend(images: Tensor, others: Tensor, own: float) -> Tensor:
    if images.is_floating_point():
        return torch.lerp(others, images, own)
    return torch.lerp(others.float(), images.float(), own).round_().to(images.dtype)
