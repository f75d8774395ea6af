"""Feature maps instead of logits: what U-Net, FPN and explanation stand on."""

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from resnetkit.errors import InvalidArgument
from resnetkit.models.network import Network


@final
class FeatureExtractor(nn.Module):
    """Gives the feature maps of a network, from the finest to the coarsest that was asked for, as a list.

    `feature_info.channels()` and `.reduction()` say their channels and strides. Modules keep the network's names;
    what no asked-for map needs is left out. Map 0 is the stem before its pooling, map i is what stage i gives; a
    pre-activation network's maps have not yet been normalised.

    >>> import torch
    >>> from resnetkit.catalog.architectures import architecture
    >>> from resnetkit.models.build import build
    >>> extract = FeatureExtractor(build(architecture("resnet18")), out_indices=(1, 4))
    >>> extract.feature_info.channels(), extract.feature_info.reduction()
    ([64, 512], [4, 32])
    >>> [tuple(features.shape) for features in extract(torch.zeros(1, 3, 64, 96))]
    [(1, 64, 16, 24), (1, 512, 2, 3)]
    """

    def __init__(self, network: Network, out_indices: Sequence[int] | None = None) -> None:
        super().__init__()
        levels = len(network.feature_info.names)
        given = tuple(range(levels)) if out_indices is None else tuple(out_indices)
        if not given or not all(-levels <= index < levels for index in given):
            raise InvalidArgument(f"out_indices {given} are not among this network's feature maps 0 to {levels - 1}")
        self.out_indices = tuple(sorted({index % levels for index in given}))
        self.feature_info = network.feature_info.select(self.out_indices)
        self.row, self.in_chans = network.row, network.in_chans
        names = {module: name for name, module in network.named_modules()}
        steps = network.steps()[: self.out_indices[-1] + 1]
        self.steps = tuple(tuple(names[module] for module in step) for step in steps)
        for name in (name for step in self.steps for name in step):
            _keep(self, name, network.get_submodule(name))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images N,C,H,W to one map for each of `out_indices`."""
        maps = []
        for index, step in enumerate(self.steps):
            for name in step:
                x = self.get_submodule(name)(x)
            if index in self.out_indices:
                maps.append(x)
        return maps


def _keep(root: nn.Module, name: str, module: nn.Module) -> None:
    """Put `module` under the dotted `name` that it has in the network, so that weights keep their keys."""
    *path, last = name.split(".")
    for part in path:
        if part not in dict(root.named_children()):
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    root.add_module(last, module)
