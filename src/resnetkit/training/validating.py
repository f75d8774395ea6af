"""The validation part through the network, in whatever memory there is."""

import math
from collections.abc import Callable, Generator
from contextlib import closing
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from resnetkit.data.batching import Batch
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

    def answers(
        self, processes: Processes, before_batch: Callable[[], None]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Probabilities and truth, each image by one of the processes.

        `before_batch` is called in all of them together, and may end it all by raising.
        """
        with closing(self._batches(processes, before_batch)) as batches:
            probs, truth = probabilities(self._classifier, batches, self._same)
        return (
            processes.in_order(torch.from_numpy(probs)).numpy(),
            processes.in_order(torch.from_numpy(truth)).numpy(),
        )

    def _batches(self, processes: Processes, before_batch: Callable[[], None]) -> Generator[Batch, None, None]:
        # Shares differ by one image at most, and that one may be a batch of its own, which the others have not.
        smallest = int(processes.totals(self.images)[0]) // processes.count
        together = math.ceil(smallest / self._held_out.batch_size)
        with closing(self._held_out.batches(0)) as batches:
            for number, batch in enumerate(batches):
                if number < together:
                    before_batch()
                yield batch


def classifier_of(network: nn.Module, plan: Plan) -> TorchClassifier:
    """The network as a run scores it."""
    return TorchClassifier(
        network, num_classes=plan.data.num_classes, class_names=plan.data.class_names, preprocess=plan.preprocess,
        precision=plan.recipe.precision, task=plan.data.task,
    )  # fmt: skip
