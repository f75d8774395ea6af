"""Hold out a stratified part of labelled images: each class gives its share, and the seed says which images."""

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.randomness import permutation
from resnetkit.data.sources import Indices, Labels


def hold_out(labels: Labels, count: int, seed: int) -> tuple[Indices, Indices]:
    """Indices `(kept, held_out)`, each in rising order, with exactly `count` held out where the classes allow it.

    Every class with two images or more gives at least one and keeps at least one; a class with one image keeps it.

    >>> kept, held = hold_out(np.array([0] * 8 + [1] * 4), 3, seed=0)
    >>> np.bincount(labels_of_held := np.array([0] * 8 + [1] * 4)[held]).tolist()
    [2, 1]
    """
    sizes = np.bincount(labels)
    quota = _apportion(sizes, count)
    held = []
    order = permutation("split", seed, 0, len(labels))
    for label in np.flatnonzero(quota):
        members = order[labels[order] == label]
        held.append(members[: quota[label]])
    held_out = np.sort(np.concatenate(held)) if held else np.empty(0, np.int64)
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def _apportion(sizes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """How many each class gives, nearest to proportional (largest remainders), between 1 and its size less 1."""
    least, most = np.minimum(sizes - 1, 1).clip(0), (sizes - 1).clip(0)
    exact = sizes * count / max(1, sizes.sum())
    quota: NDArray[np.int64] = np.clip(np.floor(exact).astype(np.int64), least, most)
    while quota.sum() < count and (quota < most).any():
        quota[np.argmax(np.where(quota < most, exact - quota, -np.inf))] += 1
    return quota
