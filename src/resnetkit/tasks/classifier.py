"""A torch network as a `Classifier`."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import final

import torch
from torch import Tensor, nn

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.catalog.tasks import Task
from resnetkit.data.transforms import as_images, normalise
from resnetkit.tasks.contract import Meaning, Pixels, Probabilities


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Autocast to bf16 on `device`, or nothing for float32."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


@contextmanager
def whole_float32(device: torch.device) -> Iterator[None]:
    """float32 with all of its 24 bits on a GPU too, where cuDNN otherwise convolves in TF32, which has 11 of them.

    Training gains time by that and loses nothing; an answer would differ from the CPU's in its third digit.
    """
    with _TF32_OFF if device.type == "cuda" else nullcontext():
        yield


@final
class _Tf32Off:
    """The switch is the process's own: off from the first thread that comes until the last one has gone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside, self._before = 0, True

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = torch.backends.cudnn.allow_tf32
                torch.backends.cudnn.allow_tf32 = False
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                torch.backends.cudnn.allow_tf32 = self._before


_TF32_OFF = _Tf32Off()


def chances(logits: Tensor, task: Task) -> Tensor:
    """Probabilities `N,classes`: shares of one where one class is right, a yes or no each where several may be."""
    return torch.sigmoid(logits) if task == "multilabel" else torch.softmax(logits, dim=1)


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
        task: Task = "classification",
    ) -> None:
        Meaning(name=name, num_classes=num_classes, class_names=class_names, preprocess=preprocess)
        self.network = network
        self.num_classes = num_classes
        self.class_names = class_names
        self.preprocess = preprocess
        self.precision = precision
        self.temperature = temperature
        self.task: Task = task
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
        with whole_float32(self._device), autocast(self.precision, self._device):
            logits = self.network(inputs)
        probabilities: Probabilities = chances(logits.float() / self.temperature, self.task).cpu().numpy()
        return probabilities

    def stream(self, batches: Iterable[Pixels]) -> Iterator[Probabilities]:
        """The probabilities of each batch, one after the other."""
        return map(self, batches)
