"""Asking twice: a picture and its mirror image (test-time augmentation)."""

from typing import final

from torch import Tensor

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.tasks.classifier import Classifier


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

    def __call__(self, images: Tensor) -> Tensor:
        """Probabilities of uint8 images."""
        return (self._classifier(images) + self._classifier(images.flip(-1))) / 2
