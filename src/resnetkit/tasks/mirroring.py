"""Asking twice: a picture and its mirror image (test-time augmentation)."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import final

import numpy as np

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.tasks.contract import Classifier, Pixels, Probabilities


@final
class Mirrored:
    """A `Classifier` that gives the mean of another's probabilities for an image and for its mirror image.

    Twice the work, for what a network that learnt from both disagrees about (Krizhevsky et al. 2012, section 4.1,
    averaged five crops and their mirror images).
    """

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The other's."""
        return self._classifier.class_names

    @property
    def num_classes(self) -> int:
        """The other's."""
        return self._classifier.num_classes

    @property
    def preprocess(self) -> Preprocess:
        """The other's."""
        return self._classifier.preprocess

    @property
    def description(self) -> str:
        """The other's, and that images are also mirrored."""
        return f"{self._classifier.description} · mean of an image and its mirror image"

    def __call__(self, pixels: Pixels) -> Probabilities:
        """Probabilities of uint8 images."""
        return _mean(self._classifier(pixels), self._classifier(_mirror(pixels)))

    def stream(self, batches: Iterable[Pixels]) -> Iterator[Probabilities]:
        """The probabilities of each batch, in order."""
        answers = self._classifier.stream(each for pixels in batches for each in (pixels, _mirror(pixels)))
        while pair := tuple(islice(answers, 2)):
            yield _mean(*pair)


def _mirror(pixels: Pixels) -> Pixels:
    return pixels[:, :, ::-1].copy()


def _mean(one: Probabilities, other: Probabilities) -> Probabilities:
    mean: Probabilities = (one + other) * np.float32(0.5)
    return mean
