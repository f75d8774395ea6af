"""The validation part through the network, in whatever memory there is."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from resnetkit.data.loader import Loader
from resnetkit.evaluation.scoring import probabilities
from resnetkit.tasks.classifier import TorchClassifier
from resnetkit.tasks.contract import Classifier, Pixels, Probabilities
from resnetkit.tasks.labels import LabelMap
from resnetkit.training.memory import in_pieces, smaller_pieces
from resnetkit.training.plan import Plan
from resnetkit.training.processes import Processes


@final
class Validation:
    """Scores `network` on held-out images; a shortage of memory makes the batches smaller, from then on."""

    def __init__(self, network: nn.Module, plan: Plan, held_out: Loader, say: Callable[[str], None]) -> None:
        self._classifier = Sparing(classifier_of(network, plan), say)
        self._held_out, self._same = held_out, LabelMap(tuple(range(plan.data.num_classes)))

    @property
    def images(self) -> int:
        """How many this process has."""
        return len(self._held_out.source)

    def answers(self, processes: Processes) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Probabilities and truth, each image by one of the processes."""
        probs, truth = probabilities(self._classifier, self._held_out.batches(0), self._same)
        return (
            processes.in_order(torch.from_numpy(probs)).numpy(),
            processes.in_order(torch.from_numpy(truth)).numpy(),
        )


@final
class Sparing:
    """A classifier that computes as many images at once as fit into memory."""

    def __init__(self, classifier: Classifier, say: Callable[[str], None] = lambda text: None) -> None:
        self.class_names, self.num_classes = classifier.class_names, classifier.num_classes
        self.preprocess, self.description = classifier.preprocess, classifier.description
        self._classifier, self._say = classifier, say
        self._most: int | None = None

    def __call__(self, pixels: Pixels) -> Probabilities:
        """Probabilities `N,classes` of uint8 images `N,h,w,C`. Raises OutOfMemory where not even a few fit."""
        answers: list[Probabilities] = []
        done = 0
        while done < len(pixels):
            part = pixels[done : done + (self._most or len(pixels))]
            answers += self._answers(part)
            done += len(part)
        return np.concatenate(answers)

    def stream(self, batches: Iterable[Pixels]) -> Iterator[Probabilities]:
        """The probabilities of each batch, one after the other."""
        return map(self, batches)

    def _answers(self, pixels: Pixels) -> list[Probabilities]:
        def more(pieces: int, shortage: str) -> int:
            halved = smaller_pieces(pieces, len(pixels), shortage)
            self._most = math.ceil(len(pixels) / halved)
            self._say(
                f"out of memory with {math.ceil(len(pixels) / pieces)} held-out images at once: from here on they are "
                f"scored {self._most} at a time, which changes no score"
            )
            return halved

        return in_pieces(lambda pieces: list(map(self._classifier, np.array_split(pixels, pieces))), 1, more)[0]


def classifier_of(network: nn.Module, plan: Plan) -> TorchClassifier:
    """The network as a run scores it."""
    return TorchClassifier(
        network, num_classes=plan.data.num_classes, class_names=plan.data.class_names, preprocess=plan.preprocess,
        precision=plan.recipe.precision, task=plan.data.task,
    )  # fmt: skip
