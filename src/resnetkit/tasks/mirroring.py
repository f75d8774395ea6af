"""Asking twice: a picture and its mirror image (test-time augmentation)."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Literal, final

import numpy as np

from resnetkit.errors import InvalidArgument
from resnetkit.tasks.contract import Classifier, Pixels, Probabilities
from resnetkit.tasks.wrapping import Wrapping

Augmentation = Literal["none", "flip"]
"""of a picture that is asked about: nothing, or its mirror image as well"""


def asked_with(augmentation: Augmentation, classifier: Classifier) -> Classifier:
    """The classifier, asked as `augmentation` says."""
    if augmentation not in ("none", "flip"):
        raise InvalidArgument(f"test-time augmentation {augmentation!r}: choose none or flip")
    return Mirrored(classifier) if augmentation == "flip" else classifier


@final
class Mirrored(Wrapping):
    """A `Classifier` that gives the mean of another's probabilities for an image and for its mirror image.

    Twice the work, for what a network that learnt from both disagrees about (Krizhevsky et al. 2012, section 4.1,
    averaged five crops and their mirror images).
    """

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
