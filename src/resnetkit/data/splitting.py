"""Hold out a stratified part of labelled images: each class gives its share, and the seed says which images."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.randomness import permutation
from resnetkit.data.sources import Indices, Labels


def hold_out(labels: Labels, count: int, seed: int, together: Sequence[Sequence[int]] = ()) -> tuple[Indices, Indices]:
    """Indices `(kept, held_out)`, each in rising order, with exactly `count` held out where the classes allow it.

    Every class with two images or more gives at least one and keeps at least one; a class with one image keeps it.
    Images that are `together` in a group (copies of each other) are held out all or none; where that leaves a class
    nothing to give but one large group, the group is kept.

    >>> kept, held = hold_out(np.array([0] * 8 + [1] * 4), 3, seed=0)
    >>> np.bincount(labels_of_held := np.array([0] * 8 + [1] * 4)[held]).tolist()
    [2, 1]
    >>> sorted(hold_out(np.array([0] * 8), 2, seed=0, together=[[0, 1, 2, 3, 4, 5]])[1].tolist())
    [6, 7]
    """
    first = np.arange(len(labels))
    for group in together:
        first[list(group)] = min(group)
    sizes = np.bincount(first, minlength=len(labels))
    quota = _apportion(np.bincount(labels[first]), count)
    held = np.zeros(len(labels), np.bool_)
    order = permutation("split", seed, 0, len(labels))
    order = order[first[order] == order]
    for label in np.flatnonzero(quota):
        left = int(quota[label])
        for row in order[labels[order] == label]:
            if sizes[row] <= left:
                held[row] = True
                left -= int(sizes[row])
            if not left:
                break
    held_out = np.flatnonzero(held[first])
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def _apportion(sizes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """How many each class gives, nearest to proportional (largest remainders), between 1 and its size less 1."""
    least, most = np.minimum(sizes - 1, 1).clip(0), (sizes - 1).clip(0)
    exact = sizes * count / max(1, sizes.sum())
    quota: NDArray[np.int64] = np.clip(np.floor(exact).astype(np.int64), least, most)
    while quota.sum() < count and (quota < most).any():
        quota[np.argmax(np.where(quota < most, exact - quota, -np.inf))] += 1
    return quota
