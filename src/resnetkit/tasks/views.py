"""Asking several times: a picture, its mirror image, and both moved a little (test-time augmentation)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal, final

import numpy as np

from resnetkit.errors import InvalidArgument
from resnetkit.tasks.contract import Classifier, Pixels, Probabilities
from resnetkit.tasks.wrapping import Wrapping

Augmentation = Literal["none", "flip", "shifts"]
"""what else is asked about a picture: nothing, its mirror image, or both also moved to either side"""


@final
@dataclass(frozen=True)
class View:
    """A picture as it is asked about, and the share that the answer has."""

    share: float
    mirrored: bool = False
    moved: int = 0
    """thirty-seconds of the sides by which it is moved down and to the right; the edge is repeated"""

    def of(self, pixels: Pixels) -> Pixels:
        """uint8 `N,h,w,C` → the same shape.

        >>> row = np.arange(4, dtype=np.uint8).reshape(1, 1, 4, 1)
        >>> View(1.0, mirrored=True).of(row).ravel().tolist(), View(1.0, moved=1).of(row).ravel().tolist()
        ([3, 2, 1, 0], [0, 0, 1, 2])
        """
        if self.moved:
            down, across = (_places(side, self.moved) for side in pixels.shape[1:3])
            pixels = pixels[:, down[:, None], across]
        return pixels[:, :, ::-1].copy() if self.mirrored else pixels


_VIEWS: dict[Augmentation, tuple[View, ...]] = {
    "flip": (View(1 / 2), View(1 / 2, mirrored=True)),
    "shifts": tuple(
        View(share / 2, mirrored, moved)
        for share, moved in ((1 / 2, 0), (1 / 4, -1), (1 / 4, 1))
        for mirrored in (False, True)
    ),
}


def asked_with(augmentation: Augmentation, classifier: Classifier) -> Classifier:
    """The classifier, asked as `augmentation` says."""
    if augmentation == "none":
        return classifier
    if augmentation not in _VIEWS:
        raise InvalidArgument(f"test-time augmentation {augmentation!r}: choose none, flip or shifts")
    return SeveralViews(classifier, augmentation)


@final
class SeveralViews(Wrapping):
    """A `Classifier` that gives the mean of another's probabilities for several views of an image.

    As many times the work, for what a network that learnt from all of them disagrees about (Krizhevsky et al. 2012,
    section 4.1, averaged five crops and their mirror images). "shifts" are the six views of Jordan 2024 (arXiv
    2404.00498, section 3.5): a pixel of 32 up and to the left, down and to the right, half as much as where it is.
    """

    def __init__(self, classifier: Classifier, augmentation: Literal["flip", "shifts"]) -> None:
        super().__init__(classifier)
        self._views = _VIEWS[augmentation]
        self._said = "an image and its mirror image"
        if augmentation == "shifts":
            self._said += ", also moved to either side"

    @property
    def description(self) -> str:
        """The other's, and which views are asked about."""
        return f"{self._classifier.description} · mean of {self._said}"

    def __call__(self, pixels: Pixels) -> Probabilities:
        """Probabilities of uint8 images."""
        return self._mean(self._classifier(view.of(pixels)) for view in self._views)

    def stream(self, batches: Iterable[Pixels]) -> Iterator[Probabilities]:
        """The probabilities of each batch, in order."""
        answers = self._classifier.stream(view.of(pixels) for pixels in batches for view in self._views)
        while several := list(islice(answers, len(self._views))):
            yield self._mean(several)

    def _mean(self, answers: Iterable[Probabilities]) -> Probabilities:
        shares = (np.float32(view.share) for view in self._views)
        mean: Probabilities = np.sum([share * each for share, each in zip(shares, answers, strict=True)], axis=0)
        return mean


def _places(side: int, moved: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Where the pixels along a side come from."""
    by = moved * max(1, round(side / 32))
    return np.clip(np.arange(side) - by, 0, side - 1)
