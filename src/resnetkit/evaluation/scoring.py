"""Run a classifier over labelled batches and keep its probabilities; then read scores off them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from torch import Tensor

from resnetkit.errors import DataError
from resnetkit.tasks.contract import Classifier, Pixels, Probabilities
from resnetkit.tasks.labels import LabelMap


class LabelledBatch(Protocol):
    """A batch as the loader gives it: uint8 images `N,h,w,C` and class indices `N`, or targets of several labels."""

    @property
    def pixels(self) -> Pixels:
        """uint8 images."""

    @property
    def labels(self) -> Tensor:
        """Class indices in the data set's order."""

    @property
    def targets(self) -> Tensor | None:
        """`N,classes` of 0 and 1 in the data set's order where an image may have several labels, else None."""


Measure = Literal["top1", "mean_ap"]


@dataclass(frozen=True)
class ClassScore:
    """How one class fared: `n` images of it, the share recognised, and the share of claims to it that were right."""

    name: str
    n: int
    recall: float
    precision: float | None


@dataclass(frozen=True)
class Scores:
    """What a classifier scored on `n` images; shares are of 1, the loss is the mean negative log-likelihood in nats."""

    n: int
    right: int
    top1: float
    top5: float
    loss: float
    top1_ci95: tuple[float, float]
    """Wilson's 95 % interval of top1"""
    ece: float
    """expected calibration error over 15 equal bins (Guo et al. 2017, arXiv 1706.04599, equation 3)"""
    balanced: float
    """mean recall over the classes that occur"""
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    """rows are true classes, columns what was said, in the model's order"""

    @property
    def headline(self) -> tuple[Measure, float]:
        """What the best model is chosen by."""
        return "top1", self.top1

    def to_dict(self) -> dict[str, Any]:
        """JSON values, without the confusion matrix of many classes (over 100)."""
        values: dict[str, Any] = {
            "n": self.n, "right": self.right, "top1": self.top1, "top5": self.top5, "loss": self.loss,
            "top1_ci95": list(self.top1_ci95), "ece": self.ece, "balanced": self.balanced,
            "classes": [vars(each) for each in self.classes],
        }  # fmt: skip
        if len(self.confusion) <= 100:
            values["confusion"] = [list(row) for row in self.confusion]
        return values


def probabilities(
    classifier: Classifier,
    batches: Iterable[LabelledBatch],
    labels: LabelMap,
    progress: Callable[[int], None] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """All probabilities `N,classes` and the true classes in the model's indices; `progress` gets images done.

    True classes are indices `N`, or `N,classes` of 0 and 1 where an image may have several labels.
    """
    to_model = np.array(labels.to_model)
    rows: list[Probabilities] = []
    truth: list[NDArray[np.int64]] = []

    def seen() -> Iterator[Pixels]:
        for batch in batches:
            truth.append(_truth(batch, to_model, classifier.num_classes))
            yield batch.pixels

    done = 0
    for answers in classifier.stream(seen()):
        rows.append(answers)
        done += len(answers)
        if progress:
            progress(done)
    if not rows:
        raise DataError("there is no image to evaluate: this part of the data is empty")
    return np.concatenate(rows), np.concatenate(truth)


def _truth(batch: LabelledBatch, to_model: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    if batch.targets is None:
        classes: NDArray[np.int64] = to_model[batch.labels.numpy()]
        return classes
    several = np.zeros((len(batch.labels), num_classes), np.int64)
    several[:, to_model] = batch.targets.numpy()
    return several


def score(probs: NDArray[np.float32], truth: NDArray[np.int64], class_names: tuple[str, ...] | None = None) -> Scores:
    """Scores of probabilities `N,classes` against true classes `N`.

    A tie with a wrong class counts as right only if the true class comes first, as argmax would say.

    >>> score(np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], np.float32), np.array([0, 1, 1])).right
    2
    """
    n, num_classes = probs.shape
    said = probs.argmax(axis=1)
    correct = said == truth
    right = int(correct.sum())
    # Rank of the true class: how many are above it, ties going to the lower index as in argmax.
    own = probs[np.arange(n), truth]
    earlier = np.arange(num_classes)[None, :] < truth[:, None]
    rank = ((probs > own[:, None]) | ((probs == own[:, None]) & earlier)).sum(axis=1)
    interval = binomtest(right, n).proportion_ci(method="wilson")
    confusion = np.bincount(truth * num_classes + said, minlength=num_classes**2).reshape(num_classes, num_classes)
    occurs, claimed, hits = confusion.sum(axis=1), confusion.sum(axis=0), confusion.diagonal()
    recall = hits / np.maximum(occurs, 1)
    names = class_names or tuple(str(index) for index in range(num_classes))
    return Scores(
        n=n,
        right=right,
        top1=right / n,
        top5=float((rank < 5).mean()),
        loss=float(-np.log(np.maximum(own.astype(np.float64), np.finfo(np.float32).tiny)).mean()),
        top1_ci95=(float(interval.low), float(interval.high)),
        ece=_calibration_error(probs.max(axis=1), correct),
        balanced=float(recall[occurs > 0].mean()),
        classes=tuple(
            ClassScore(names[c], int(occurs[c]), float(recall[c]), float(hits[c] / claimed[c]) if claimed[c] else None)
            for c in range(num_classes)
            if occurs[c]
        ),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
    )


def _calibration_error(confidence: NDArray[np.float32], correct: NDArray[np.bool_], bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over equal bins of confidence, weighted by their share of images."""
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(which, weights=confidence.astype(np.float64) - correct, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))
