"""Networks of which a part stands still: its weights get no gradient and its batch norms keep their statistics."""

from collections.abc import Iterable

from torch import nn

from resnetkit.errors import InvalidArgument
from resnetkit.models.network import Network


class StillBatchNorm2d(nn.BatchNorm2d):
    """A batch norm that normalises with the statistics it has, in training too, whoever calls `train()`."""

    def train(self, mode: bool = True) -> "StillBatchNorm2d":
        """Stay in evaluation mode."""
        return super().train(False)


def freeze(network: Network, until: str) -> None:
    """Let nothing change from the image up to "stem", "stage1", "stage2", … or, with "body", all but the classifier.

    The stem is what leads to the first feature map, each stage what leads from one map to the next.
    Raises InvalidArgument where the network has no such stage.
    """
    modules = body(network) if until == "body" else _until(network, until)
    for module in modules:
        module.requires_grad_(False)
        freeze_norms(module)


def freeze_norms(module: nn.Module) -> None:
    """Let the batch norms of a module keep their statistics; their scales and shifts go on learning."""
    for norm in module.modules():
        if type(norm) is nn.BatchNorm2d:
            norm.__class__ = StillBatchNorm2d
            norm.eval()


def thaw_norms(module: nn.Module) -> None:
    """Undo `freeze_norms`; the mode is the one that the next `train()` or `eval()` says."""
    for norm in module.modules():
        if type(norm) is StillBatchNorm2d:
            norm.__class__ = nn.BatchNorm2d  # type: ignore[assignment]


def body(network: Network) -> tuple[nn.Module, ...]:
    """The modules directly below the network that make its features, or lie before the classifier proper."""
    classifier = network.get_classifier()
    return tuple(_around(network, classifier))


def _around(module: nn.Module, hole: nn.Module) -> Iterable[nn.Module]:
    for child in module.children():
        if child is hole:
            continue
        if any(each is hole for each in child.modules()):
            yield from _around(child, hole)
        else:
            yield child


def _until(network: Network, until: str) -> list[nn.Module]:
    steps = network.steps()
    names = ["stem", *(f"stage{number}" for number in range(1, len(steps)))]
    if until not in names:
        raise InvalidArgument(f"there is no {until!r} to freeze: the network has {', '.join(names)} and body")
    return [module for step in steps[: names.index(until) + 1] for module in step]
