"""A network compiled by torch, its weights frozen into the code, as a `Classifier`."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import Any, final

import torch
from torch import nn
from torch._inductor.exc import InductorError

from resnetkit.catalog.tasks import Task
from resnetkit.data.transforms import as_images, normalise
from resnetkit.deployment.backends.filling import filled_up
from resnetkit.deployment.folding import fold
from resnetkit.tasks.classifier import chances
from resnetkit.tasks.contract import Meaning, Pixels, Probabilities


@final
class CompiledTorchClassifier:
    """Compiled when the first batch of a size comes, which takes about a minute, and anew in each process.

    Where this machine cannot compile it computes uncompiled, and `say` gets a line of it.
    """

    def __init__(
        self, network: nn.Module, meaning: Meaning, *, precision: str, temperature: float, task: Task,
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        folded = fold(network).to(device="cpu", dtype=self._dtype)
        self._network: Any = folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with warnings.catch_warnings():  # a part of torch that compiling imports warns of torch's own deprecations
            warnings.simplefilter("ignore")
            import_module("torch.utils.mkldnn")
        self._run: Any = torch.compile(self._network, dynamic=False, options={"freezing": True})
        self._precision, self._temperature, self._task = precision, temperature, task
        self.class_names, self.num_classes = meaning.class_names, meaning.num_classes
        self.preprocess = meaning.preprocess
        self._name = meaning.name
        self._compiles, self._say = True, say

    @property
    def description(self) -> str:
        """Network, precision, runtime."""
        return f"{self._name} · {self._precision} · torch" + (" compiled" if self._compiles else "")

    def __call__(self, pixels: Pixels) -> Probabilities:
        """Probabilities `N,classes` of uint8 images `N,h,w,C`."""
        with torch.no_grad():  # freezing does not know inference mode
            inputs = normalise(as_images(pixels), self.preprocess).to(self._dtype)
            logits = self._logits(inputs)
            probabilities: Probabilities = chances(logits.float() / self._temperature, self._task).numpy()
        return probabilities

    def stream(self, batches: Iterable[Pixels]) -> Iterator[Probabilities]:
        """The probabilities of each batch, one after the other; one smaller than those before is filled up."""
        size = 0
        for pixels in batches:
            size = max(size, len(pixels))
            yield self(filled_up(pixels, size))[: len(pixels)]

    def _logits(self, inputs: torch.Tensor) -> torch.Tensor:
        try:
            logits: torch.Tensor = self._run(inputs)
        except InductorError as error:
            reason = str(error).strip().splitlines()[0]
            self._say(f"torch cannot compile here ({reason}): computing uncompiled; a C++ compiler makes it faster")
            self._run, self._compiles = self._network, False
            logits = self._network(inputs)
        return logits
