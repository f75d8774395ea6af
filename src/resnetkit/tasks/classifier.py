"""What the upper rooms see: something that turns a uint8 batch into probabilities and knows its classes.

A torch network, an ONNX file and an OpenVINO model are each a `Classifier`; evaluation and prediction know nothing
else.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, final

import torch
from torch import Tensor, nn

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.data.transforms import normalise
from resnetkit.errors import InvalidArgument


class Classifier(Protocol):
    """Called with uint8 images `N,C,H,W` of its preprocessing's size it gives probabilities `N,classes` in float32."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names in the order of the output, or None where nobody recorded them."""

    @property
    def num_classes(self) -> int:
        """Length of each row of probabilities."""

    @property
    def preprocess(self) -> Preprocess:
        """How a picture becomes this classifier's input."""

    @property
    def description(self) -> str:
        """One line for people: network, precision, device."""

    def __call__(self, images: Tensor) -> Tensor:
        """Probabilities of uint8 images."""


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Autocast to bf16 on `device`, or nothing for float32."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


@final
class TorchClassifier:
    """A torch network in evaluation mode as a `Classifier`. The network is used as it is: same object, same device."""

    def __init__(
        self,
        network: nn.Module,
        *,
        num_classes: int,
        class_names: tuple[str, ...] | None,
        preprocess: Preprocess,
        name: str = "network",
        precision: str = "float32",
        temperature: float = 1.0,
    ) -> None:
        if num_classes < 1:
            raise InvalidArgument(f"{name} has no classifier (num_classes=0): it gives features, not classes")
        self.network = network
        self.num_classes = num_classes
        self.class_names = class_names
        self.preprocess = preprocess
        self.precision = precision
        self.temperature = temperature
        self._name = name
        self._device = next(network.parameters()).device

    @property
    def description(self) -> str:
        """Network, precision, device."""
        return f"{self._name} · {self.precision} · {self._device}"

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Probabilities `N,classes` (float32, on the CPU) of uint8 images `N,C,H,W`."""
        self.network.eval()
        inputs = normalise(images.to(self._device), self.preprocess)
        with autocast(self.precision, self._device):
            logits = self.network(inputs)
        return torch.softmax(logits.float() / self.temperature, dim=1).cpu()
