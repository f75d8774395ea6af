"""What the upper rooms see: something that turns a batch of pixels into probabilities and knows its classes.

A torch network, an ONNX model and an OpenVINO model are each a `Classifier`; evaluation and prediction know nothing
else. Nothing here needs torch, so that an exported model is used without it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.errors import CheckpointError, InvalidArgument

Pixels = NDArray[np.uint8]
"""images `N,h,w,C` of the size that the preprocessing says"""
Probabilities = NDArray[np.float32]
"""`N,classes`"""


def finite(answers: Probabilities) -> Probabilities:
    """The answers as they are; CheckpointError where some are no numbers, as damaged weights give."""
    if not np.isfinite(answers).all():
        raise CheckpointError("the network answers with what is no number (nan): its weights are damaged")
    return answers


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What a model's numbers mean: name, classes in the order of its output, preprocessing."""

    name: str
    num_classes: int
    class_names: tuple[str, ...] | None
    """None where nobody recorded them"""
    preprocess: Preprocess

    def __post_init__(self) -> None:
        if self.num_classes < 1:
            raise InvalidArgument(f"{self.name} has no classifier (num_classes=0): it gives features, not classes")


class Classifier(Protocol):
    """Called with uint8 images `N,h,w,C` of its preprocessing's size it gives probabilities `N,classes` in float32."""

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
        """One line for people: network, runtime, precision."""

    def __call__(self, pixels: Pixels) -> Probabilities:
        """Probabilities of one batch."""

    def stream(self, batches: Iterable[Pixels]) -> Iterator[Probabilities]:
        """The probabilities of each batch, in order; several batches are under way at once where that is quicker."""
