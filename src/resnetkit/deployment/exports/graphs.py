"""A network as a graph that another runtime can take: what goes in, what comes out, and the program torch makes of it.

Three graphs of one network. `tensor` is the bare network: float32 `N,C,H,W`, already normalised, to logits. `pixels`
takes uint8 `N,h,w,C` of the preprocessing's size and gives probabilities: what a `Classifier` is. `picture` takes
uint8 `N,H,W,C` of any size (one size a call), and resizes and crops as well. The batch is free in all three.
"""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from resnetkit.checkpoints.modelfile import ModelCard
from resnetkit.deployment.exports.picture import PictureToPixels
from resnetkit.deployment.folding import fold
from resnetkit.errors import InvalidArgument
from resnetkit.tasks.classifier import chances

Graph = Literal["tensor", "pixels", "picture"]

OUTPUT: dict[Graph, str] = {"tensor": "logits", "pixels": "probabilities", "picture": "probabilities"}
"""what each graph gives, and the name of its output; its input is called as the graph is"""


@final
class PixelsToProbabilities(nn.Module):
    """uint8 `N,h,w,C` → probabilities `N,classes`: normalises, asks the network, divides by the temperature."""

    def __init__(self, network: nn.Module, card: ModelCard) -> None:
        super().__init__()
        mean, std = torch.tensor(card.preprocess.mean), torch.tensor(card.preprocess.std)
        self._scale: Tensor
        self._shift: Tensor
        self.register_buffer("_scale", 1 / (255 * std), persistent=False)
        self.register_buffer("_shift", -mean / std, persistent=False)
        self.network = network
        self._temperature, self._task = card.temperature or 1.0, card.task

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels to probabilities."""
        x = pixels.to(torch.float32) * self._scale + self._shift
        logits = self.network(x.permute(0, 3, 1, 2))
        return chances(logits / self._temperature, self._task)


@final
class PictureToProbabilities(nn.Module):
    """uint8 `N,H,W,C` of any one size → probabilities `N,classes`."""

    def __init__(self, network: nn.Module, card: ModelCard) -> None:
        super().__init__()
        self.preprocess = PictureToPixels(card.preprocess)
        self.classify = PixelsToProbabilities(network, card)

    def forward(self, picture: Tensor) -> Tensor:
        """Pictures to probabilities."""
        pixels: Tensor = self.preprocess(picture)
        probabilities: Tensor = self.classify(pixels)
        return probabilities


def program(network: nn.Module, card: ModelCard, graph: Graph) -> ExportedProgram:
    """The network as a torch program with a free batch. It shares no weights with the network, which stays as it is."""
    if card.num_classes < 1:
        raise InvalidArgument("the network has no classifier (num_classes=0): it gives features, which are no answer")
    return exported(module_of(ready(network), card, graph), graph, card)


def module_of(network: nn.Module, card: ModelCard, graph: Graph) -> nn.Module:
    """The torch module that a graph is made from."""
    match graph:
        case "tensor":
            return network
        case "pixels":
            return PixelsToProbabilities(network, card)
        case "picture":
            return PictureToProbabilities(network, card)


def ready(network: nn.Module) -> nn.Module:
    """A folded copy on the CPU in float32 and evaluation mode."""
    network = copy.deepcopy(network).to(device="cpu", dtype=torch.float32)
    network = network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return fold(network)


def exported(module: nn.Module, graph: Graph | Literal["preprocess"], card: ModelCard) -> ExportedProgram:
    """torch.export of a module that takes what `graph` takes ("preprocess" takes pictures)."""
    height, width = card.preprocess.size
    channels = card.in_chans
    free = Dim.DYNAMIC
    sides: dict[int, object] = {0: free}
    if graph == "tensor":
        example = torch.zeros(2, channels, height, width)
    elif graph == "pixels":
        example = torch.zeros(2, height, width, channels, dtype=torch.uint8)
    else:
        # Sides that occur nowhere else, or the exporter would think that they must always be equal.
        example = torch.zeros(2, height + 41, width + 83, channels, dtype=torch.uint8)
        sides = {0: free, 1: free, 2: free}
    with quietly(), torch.no_grad():
        return torch.export.export(module.eval(), (example,), dynamic_shapes=(sides,))


@contextmanager
def quietly() -> Iterator[None]:
    """The exporters warn of their own deprecations and of torchvision's absence, about which nobody can do anything."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
