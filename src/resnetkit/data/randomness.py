"""Random numbers that are addressed, not drawn: the same address gives the same number in any order, on any worker.

Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") is a function from a key and a counter to
random bits. The key says what for and in which epoch (or step), the counter says which sample. Only its raw bits are
used: they are the part of numpy's random module that is promised never to change.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Purpose = Literal["order", "augment", "split", "mix", "partner", "draw"]
_PURPOSES: dict[Purpose, int] = {"order": 1, "augment": 2, "split": 3, "mix": 4, "partner": 5, "draw": 6}
_WORDS_PER_COUNT = 4  # Philox gives four 64-bit words for each value of its counter


def raw_bits(
    purpose: Purpose, seed: int, epoch: int, *, count: int, start: int = 0, words: int = 1
) -> NDArray[np.uint64]:
    """Rows `start` … `start + count` of a table `rows × words` of random 64-bit words.

    >>> table = raw_bits("augment", seed=7, epoch=2, count=100, words=5)
    >>> bool((raw_bits("augment", seed=7, epoch=2, start=60, count=10, words=5) == table[60:70]).all())
    True
    """
    counts_per_row = -(-words // _WORDS_PER_COUNT)  # whole counts, so that a row starts at a count of its own
    key = [seed % 2**64, (_PURPOSES[purpose] << 56) + epoch]
    bits = np.random.Philox(key=np.array(key, np.uint64), counter=start * counts_per_row)
    width = counts_per_row * _WORDS_PER_COUNT
    table: NDArray[np.uint64] = bits.random_raw(count * width).reshape(count, width)
    return table[:, :words]


def uniform(
    purpose: Purpose, seed: int, epoch: int, *, count: int, start: int = 0, columns: int = 1
) -> NDArray[np.float64]:
    """Rows `start` … `start + count` of a table `rows × columns` of numbers in [0, 1)."""
    bits = raw_bits(purpose, seed, epoch, count=count, start=start, words=columns)
    return (bits >> np.uint64(11)) * np.float64(2.0**-53)


def permutation(purpose: Purpose, seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """The numbers 0 … n-1 in a random order.

    >>> sorted(permutation("order", seed=0, epoch=0, n=5).tolist())
    [0, 1, 2, 3, 4]
    """
    return np.argsort(raw_bits(purpose, seed, epoch, count=n)[:, 0], kind="stable")
