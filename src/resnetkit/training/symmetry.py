"""Weights that mirror each other, so that an image and its mirror image get the same answer, or nearly the same.

The second half of each layer's channels holds, mirrored, what the first half would hold of the mirror image. So its
kernels are those of the first half, mirrored and with the halves of their input swapped: a convolution over the group
of the two images (Cohen and Welling 2016, arXiv 1602.07576, section 6), written as an ordinary network. Half of its
weights are free; nothing that runs, exports or reads it need know. The answers are the same where all maps are halved
by averages and have even sides; where a map is strided from its first pixel on, which in the mirror is its last, they
are as near as the network cares little for a pixel. For `resnet8_w40`, of which the shortcuts stride, they are right
for 81.00 and 81.04 % of CIFAR-10's test images (docs/decisions/0011); larger networks were not tried.
"""

from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor

from resnetkit.catalog.recipe import Recipe
from resnetkit.catalog.rows import Architecture, Residual
from resnetkit.errors import InvalidArgument
from resnetkit.models import Network, build_hollow


def choose_symmetry(recipe: Recipe, row: Architecture, *, weights: bool) -> bool:
    """What `mirrored_weights` of a recipe means where it was left open: whether the network can have them.

    `weights` says that it starts from some. Raises InvalidArgument where they were asked for and cannot be had.
    """
    if recipe.mirrored_weights is False:
        return False
    if weights:
        why = "the weights of a file have learnt left and right apart, so train from random ones"
    elif not recipe.flip:
        why = "images are not mirrored in this training, as --flip does where a mirror image is the same thing"
    elif not has_mirrored_halves(row):
        why = (
            "the network must be a ResNet whose layers see all channels alike, in two halves each, such as resnet8_w40"
        )
    else:
        return True
    if recipe.mirrored_weights:
        raise InvalidArgument(f"mirrored_weights cannot be had here: {why}; or go without, by --no-mirrored-weights")
    return False


def has_mirrored_halves(row: Architecture) -> bool:
    """Whether the layers of such a network can be made of two halves that mirror each other."""
    if not isinstance(row, Residual) or row.groups > 1 or row.attention == "eca" or row.shortcut == "pad":
        return False
    return not any(tensor.shape[axis] % 2 for tensor, axes in _halved(build_hollow(row)) for axis in axes)


@final
class Symmetry:
    """Keeps the weights and statistics of a network symmetric.

    At first the second half of each layer becomes the mirror image of the first, and where it is so already, nothing
    changes. (Random weights keep their variance so, which they would not as means of the two.)
    """

    @torch.no_grad()
    def __init__(self, network: Network) -> None:
        self._halved = [*_halved(network)]
        self._tensors = [tensor.detach() for tensor, _ in self._halved]
        for tensor, axes in self._halved:
            half = tensor.shape[axes[0]] // 2
            tensor.narrow(axes[0], half, half).copy_(_mirrored(tensor, axes).narrow(axes[0], half, half))

    @torch.no_grad()
    def keep(self) -> None:
        """After a step: each becomes the mean of itself and its mirror image.

        Steps of SGD are linear in the gradient, so this is the step, at half the rate, of weights that the two halves
        share. Other optimisers have stepped each half for itself.
        """
        # A sum is the same from both sides, to the last bit, as lerp's is not.
        torch._foreach_add_(self._tensors, [_mirrored(tensor, axes) for tensor, axes in self._halved])
        torch._foreach_mul_(self._tensors, 0.5)


def _halved(network: Network) -> Iterator[tuple[Tensor, tuple[int, ...]]]:
    """Weights and statistics, each with its axes of channels in two halves."""
    classifier = network.get_classifier()
    pixels = next(tensor for tensor in network.parameters() if tensor.ndim == 4)
    for module in network.modules():
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if module is classifier:
                if tensor.ndim == 2:
                    yield tensor, (1,)
            elif tensor.ndim:
                yield tensor, (0,) if tensor.ndim == 1 or tensor is pixels else (0, 1)


def _mirrored(tensor: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The kernels seen in a mirror, the halves of their channels swapped."""
    seen = tensor.flip(3) if tensor.ndim == 4 else tensor
    return seen.roll([tensor.shape[axis] // 2 for axis in axes], axes)
