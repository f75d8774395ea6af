"""Scores where an image may have several labels: each class is a yes or no of its own."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnetkit.catalog.tasks import Task
from resnetkit.errors import DataError
from resnetkit.evaluation.scoring import Measure, Scores, score
from resnetkit.tasks.contract import finite

Shares = NDArray[np.float32]
Targets = NDArray[np.uint8]


@dataclass(frozen=True)
class LabelScore:
    """How one class fared: `n` images have it, the share of them found, and the share of claims that were right."""

    name: str
    n: int
    average_precision: float
    recall: float
    precision: float | None


@dataclass(frozen=True)
class SeveralScores:
    """What a classifier scored on `n` images with any number of labels each; shares are of 1."""

    n: int
    mean_ap: float
    """mean average precision over the classes that occur, whatever the threshold"""
    loss: float
    """mean binary cross-entropy over images and classes, in nats"""
    threshold: float
    """from which probability on a class is said to be there"""
    f1: float
    """of all yes and no together at the threshold (micro)"""
    exact: float
    """share of images whose labels are all right and complete"""
    classes: tuple[LabelScore, ...]

    @property
    def headline(self) -> tuple[Measure, float]:
        """What the best model is chosen by."""
        return "mean_ap", self.mean_ap

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**vars(self), "classes": [vars(each) for each in self.classes]}


def score_several(
    probs: Shares, targets: Targets, class_names: tuple[str, ...] | None = None, threshold: float | None = None
) -> SeveralScores:
    """Scores of probabilities `N,classes` against `N,classes` of 0 and 1; without a threshold, at the best one.

    The best threshold of these images flatters their F1: choose it on others. Raises DataError where no image has a
    label.

    >>> probs = np.array([[0.9, 0.4], [0.2, 0.6], [0.7, 0.1]], np.float32)
    >>> scores = score_several(probs, np.array([[1, 1], [0, 1], [1, 0]], np.uint8))
    >>> scores.mean_ap, scores.f1, round(scores.threshold, 2)
    (1.0, 1.0, 0.3)
    """
    from sklearn.metrics import average_precision_score  # a second to import, and only this question needs it

    n, num_classes = probs.shape
    counts = targets.sum(axis=0)
    if not counts.any():
        raise DataError("none of these images has a label: there is nothing to score")
    cut = best_threshold(probs, targets) if threshold is None else threshold
    said, there = probs >= cut, targets.astype(bool)
    hits, claims = (said & there).sum(axis=0), said.sum(axis=0)
    names = class_names or tuple(str(index) for index in range(num_classes))
    classes = tuple(
        LabelScore(
            names[c], int(counts[c]), float(average_precision_score(targets[:, c], probs[:, c])),
            float(hits[c] / counts[c]), float(hits[c] / claims[c]) if claims[c] else None,
        )
        for c in range(num_classes)
        if counts[c]
    )  # fmt: skip
    chance = np.clip(probs.astype(np.float64), 1e-7, 1 - 1e-7)
    return SeveralScores(
        n=n,
        mean_ap=float(np.mean([each.average_precision for each in classes])),
        loss=float(-np.where(there, np.log(chance), np.log1p(-chance)).mean()),
        threshold=cut,
        f1=_f1(hits.sum(), claims.sum(), counts.sum()),
        exact=float((said == there).all(axis=1).mean()),
        classes=classes,
    )


def measure_of(task: Task) -> Measure:
    """What models of this task are chosen by."""
    return "mean_ap" if task == "multilabel" else "top1"


def judge(
    probs: Shares, truth: NDArray[np.int64], class_names: tuple[str, ...] | None = None, threshold: float | None = None
) -> Scores | SeveralScores:
    """The scores that fit the question: of true classes `N`, or of `N,classes` of 0 and 1."""
    finite(probs)
    if truth.ndim == 1:
        return score(probs, truth, class_names)
    return score_several(probs, truth.astype(np.uint8), class_names, threshold)


def best_threshold(probs: Shares, targets: Targets) -> float:
    """The threshold with the best F1 over all decisions together, half way between the probabilities beside it."""
    order = np.argsort(-probs, axis=None, kind="stable")
    ranked, hits = probs.ravel()[order], np.cumsum(targets.ravel()[order])
    claims = np.arange(1, len(ranked) + 1)
    # A threshold cannot part equal probabilities.
    parts = np.append(ranked[:-1] > ranked[1:], True)
    f1 = np.where(parts, 2 * hits / (claims + int(targets.sum())), -1.0)
    best = int(f1.argmax())
    below = float(ranked[best + 1]) if best + 1 < len(ranked) else 0.0
    return (float(ranked[best]) + below) / 2


def _f1(hits: int, claims: int, present: int) -> float:
    return float(2 * hits / (claims + present))
