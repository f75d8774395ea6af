"""The validation part through the network, in whatever memory there is."""

from collections.abc import Callable
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from resnetkit.data.loader import Loader
from resnetkit.evaluation.scoring import probabilities
from resnetkit.tasks.classifier import TorchClassifier
from resnetkit.tasks.labels import LabelMap
from resnetkit.tasks.sparing import Sparing
from resnetkit.training.plan import Plan
from resnetkit.training.processes import Processes


@final
class Validation:
    """Scores `network` on held-out images; a shortage of memory makes the batches smaller, from then on."""

    def __init__(self, network: nn.Module, plan: Plan, held_out: Loader, say: Callable[[str], None]) -> None:
        def tell(tried: int, most: int) -> None:
            say(
                f"out of memory with {tried} held-out images at once: from here on they are scored {most} at a time, "
                "which changes no score"
            )

        self._classifier = Sparing(classifier_of(network, plan), tell)
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


def classifier_of(network: nn.Module, plan: Plan) -> TorchClassifier:
    """The network as a run scores it."""
    return TorchClassifier(
        network, num_classes=plan.data.num_classes, class_names=plan.data.class_names, preprocess=plan.preprocess,
        precision=plan.recipe.precision, task=plan.data.task,
    )  # fmt: skip
