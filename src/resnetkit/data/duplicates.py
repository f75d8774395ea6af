"""Which images are copies of each other: exactly, or nearly so, without comparing each with each.

Two 64-bit words that differ in at most 7 bits agree, in at least one of their four 16-bit chunks, up to one bit
(Norouzi, Punjani and Fleet 2012, "Fast search in Hamming space with multi-index hashing"). So each image is compared
only with those that share such a chunk, and of a crowded chunk with its first few, which keeps the work in proportion
to the number of images even if all of them are alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from resnetkit.data.perceptual import LEAST_CORRELATION, MOST_BITS, Sketches, correlations
from resnetkit.data.sources import Indices

_CHUNKS, _VALUES = 4, 1 << 16
_FLIPS = (0, *(1 << bit for bit in range(16)))
_CROWD = 64  # words of one chunk's value that each is compared with
_NEXT = 4  # images of the very same word that each is compared with
_AT_ONCE = 1 << 15  # images whose comparisons are held in memory together

Pairs = tuple[Indices, Indices]


@final
@dataclass(frozen=True, eq=False)
class Likeness:
    """Of N images: those with the same number in `exact` are the same file, in `near` copies of each other."""

    exact: Indices
    near: Indices


def likeness(digests: Sequence[bytes], sketches: Sketches, comparable: NDArray[np.bool_]) -> Likeness:
    """Group images by the digests of their content, and by their sketches where they are `comparable`.

    Exact copies are near ones too, and a copy of a copy counts as a copy.
    """
    exact = _numbered(digests)
    n = len(exact)
    # Of exact copies one is looked up for all.
    first = np.unique(exact, return_index=True)[1]
    candidates = first[comparable[first]]
    left, right = (candidates[rows] for rows in _candidates(sketches.bits[candidates]))
    alike = _verified(sketches, left, right)
    rows = np.concatenate([np.arange(n), left[alike]])
    columns = np.concatenate([first[exact], right[alike]])
    graph = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(n, n))
    return Likeness(exact, connected_components(graph, directed=False)[1].astype(np.int64))


def groups(numbers: Indices) -> list[Indices]:
    """The groups of two or more, in the order of their first member.

    >>> [group.tolist() for group in groups(np.array([4, 9, 4, 9, 9, 2]))]
    [[0, 2], [1, 3, 4]]
    """
    order = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
    several = [group for group in np.split(order, starts[1:]) if len(group) > 1]
    return sorted(several, key=lambda group: int(group[0]))


def _candidates(bits: NDArray[np.uint64]) -> Pairs:
    """Pairs of rows that may be copies: the first rows of near words, and rows of one word beside the next few."""
    words, first = np.unique(bits, return_index=True)
    near = near_pairs(words)
    order = np.argsort(bits, kind="stable")
    pairs = [(first[near[0]], first[near[1]])]
    for step in range(1, _NEXT + 1):
        same = bits[order[step:]] == bits[order[:-step]]
        pairs.append((order[:-step][same], order[step:][same]))
    left, right = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return left, right


def near_pairs(words: NDArray[np.uint64], most: int = MOST_BITS) -> Pairs:
    """Pairs of rows whose words differ in at most `most` (up to 7) bits, the lower row first; not all of a crowd.

    >>> left, right = near_pairs(np.array([0, 0xFF00, 0xFFFF, 2**63], np.uint64))
    >>> list(zip(left.tolist(), right.tolist()))
    [(0, 3)]
    """
    n = len(words)
    chunks = np.ascontiguousarray(words).view(np.uint16).reshape(-1, _CHUNKS).astype(np.int64)
    found = [np.empty(0, np.int64)]
    for chunk in chunks.T:
        order = np.argsort(chunk, kind="stable")
        starts = np.searchsorted(chunk[order], np.arange(_VALUES + 1))
        for begin in range(0, n, _AT_ONCE):
            rows = np.arange(begin, min(begin + _AT_ONCE, n))
            for flip in _FLIPS:
                right, left = _neighbours(rows, chunk[rows] ^ flip, order, starts)
                # Each looks back: the first of a crowd, which all of it see, are its lowest rows.
                near = (left < right) & (np.bitwise_count(words[left] ^ words[right]) <= most)
                found.append(left[near] * n + right[near])
    pairs = np.unique(np.concatenate(found))
    return pairs // max(n, 1), pairs % max(n, 1)


def _neighbours(rows: Indices, values: Indices, order: Indices, starts: Indices) -> Pairs:
    """Each row beside each image whose chunk has the row's value, the first of a crowd only."""
    counts = np.minimum(starts[values + 1] - starts[values], _CROWD)
    ends = np.cumsum(counts)
    offsets = np.arange(counts.sum()) - np.repeat(ends - counts, counts)
    return np.repeat(rows, counts), order[np.repeat(starts[values], counts) + offsets]


def _verified(sketches: Sketches, left: Indices, right: Indices) -> NDArray[np.bool_]:
    """Which pairs' thumbnails are alike too."""
    alike = [
        correlations(sketches.thumbs[left[at : at + _AT_ONCE]], sketches.thumbs[right[at : at + _AT_ONCE]])
        >= LEAST_CORRELATION
        for at in range(0, len(left), _AT_ONCE)
    ]
    return np.concatenate(alike) if alike else np.empty(0, np.bool_)


def _numbered(digests: Sequence[bytes]) -> Indices:
    """Equal digests by equal numbers; an empty one, of what could not be read, equals none."""
    numbers: dict[bytes, int] = {}
    return np.array(
        [numbers.setdefault(digest or b"?%d" % row, len(numbers)) for row, digest in enumerate(digests)], np.int64
    )
