"""A torch network as a `Classifier`."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import final

import torch
from torch import nn

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.data.transforms import as_images, normalise
from resnetkit.tasks.contract import Meaning, Pixels, Probabilities


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
        Meaning(name=name, num_classes=num_classes, class_names=class_names, preprocess=preprocess)
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
    def __call__(self, pixels: Pixels) -> Probabilities:
        """Probabilities `N,classes` of uint8 images `N,h,w,C`."""
        self.network.eval()
        inputs = normalise(as_images(pixels).to(self._device), self.preprocess)
        with autocast(self.precision, self._device):
            logits = self.network(inputs)
        probabilities: Probabilities = torch.softmax(logits.float() / self.temperature, dim=1).cpu().numpy()
        return probabilities

    def stream(self, batches: Iterable[Pixels]) -> Iterator[Probabilities]:
        """The probabilities of each batch, one after the other."""
        return map(self, batches)
