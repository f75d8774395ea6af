"""Classes of unequal numbers of images: how much each should count, in the loss or in how often it is drawn."""

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.sources import Source, Weights


def class_counts(source: Source) -> NDArray[np.int64]:
    """Images of each class; one of several classes counts in each of them."""
    if source.targets is not None:
        counts: NDArray[np.int64] = source.targets.sum(axis=0, dtype=np.int64)
        return counts
    return np.bincount(source.labels, minlength=source.num_classes).astype(np.int64)


def class_weights(counts: NDArray[np.int64], beta: float) -> Weights:
    """Weights of classes with these numbers of images, the mean over all images being 1.

    The inverse of the effective number of images, (1 - βⁿ) / (1 - β) (Cui et al. 2019, arXiv 1901.05555, equation 2):
    the n-th image of a class adds the less, the more there are. β 0 weighs all classes alike, β towards 1 by 1/n.

    >>> class_weights(np.array([10, 1000]), 0.99).round(3).tolist()
    [9.562, 0.914]
    """
    effective = -np.expm1(counts * np.log1p(-(1 - beta))) / (1 - beta) if beta else np.minimum(counts, 1.0)
    weights: Weights = np.divide(1.0, effective, out=np.zeros(len(counts)), where=counts > 0)
    weights *= counts.sum() / (counts * weights).sum()
    return weights


def draw_weights(source: Source, weights: Weights) -> Weights:
    """How often to draw each image: by its class, times what its table says. Of several classes the rarest counts."""
    if source.targets is None:
        drawn = weights[source.labels]
    else:
        drawn = np.where(source.targets.any(axis=1), (source.targets * weights).max(axis=1), 1.0)
    return drawn if source.weights is None else drawn * source.weights
