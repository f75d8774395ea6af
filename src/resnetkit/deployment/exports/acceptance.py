"""Whether an int8 model may stand for the float32 one: both on the same labelled pictures. No torch."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.decode import Pixels
from resnetkit.deployment.exports.opened import ExportedModel
from resnetkit.errors import DataError

_BATCH = 16
_LEAST_INTEGER = 0.8
"""of convolutions and matrix products; the last layer may stay in float32"""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What int8 may cost."""

    max_loss: float = 0.005
    """of top-1, as a share of 1"""
    min_agreement: float = 0.99
    """share of the pictures for which both say the same class"""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A model on labelled pictures beside the one that it has to agree with."""

    n: int
    top1: float
    reference_top1: float
    agreement: float
    max_difference: float
    """largest of any probability"""
    milliseconds: float
    """for one picture, median"""
    reference_milliseconds: float

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    def objections(self, bounds: Bounds) -> list[str]:
        """What is out of bounds, in words; nothing if the model is accepted."""
        found = []
        lost = self.reference_top1 - self.top1
        if lost > bounds.max_loss + 1e-9:
            found.append(f"top-1 falls by {100 * lost:.2f} points (at most {100 * bounds.max_loss:g})")
        if self.agreement < bounds.min_agreement - 1e-9:
            found.append(f"agreement is {100 * self.agreement:.2f} % (at least {100 * bounds.min_agreement:g} %)")
        return found


def compare(
    model: ExportedModel,
    reference: ExportedModel,
    picture: Callable[[int], Pixels],
    truth: NDArray[np.int64],
    progress: Callable[[int], None] | None = None,
) -> Comparison:
    """Both models on the pictures 0 to `len(truth)`, whose classes are `truth`, and how long each takes for one."""
    n = len(truth)
    if not n:
        raise DataError("there is no image to compare on: this part of the data is empty")
    own, theirs = [], []
    for start in range(0, n, _BATCH):
        pictures = [picture(index) for index in range(start, min(start + _BATCH, n))]
        own.append(model.answer(pictures))
        theirs.append(reference.answer(pictures))
        if progress:
            progress(start + len(pictures))
    mine, wanted = np.concatenate(own), np.concatenate(theirs)
    milliseconds, reference_milliseconds = _in_turns(model, reference, picture(0))
    return Comparison(
        n=n,
        top1=float((mine.argmax(1) == truth).mean()),
        reference_top1=float((wanted.argmax(1) == truth).mean()),
        agreement=float((mine.argmax(1) == wanted.argmax(1)).mean()),
        max_difference=float(np.abs(mine - wanted).max()),
        milliseconds=milliseconds,
        reference_milliseconds=reference_milliseconds,
    )


def stayed_in_float(integer: int, total: int) -> str | None:
    """What is wrong with a model of which `integer` of `total` operations compute in int8.

    >>> stayed_in_float(20, 21) is None, stayed_in_float(3, 21)
    (True, 'only 3 of 21 convolutions and matrix products compute in int8 here')
    """
    if total and integer >= _LEAST_INTEGER * total:
        return None
    return f"only {integer} of {total} convolutions and matrix products compute in int8 here"


def _in_turns(first: ExportedModel, second: ExportedModel, picture: Pixels, turns: int = 9) -> tuple[float, float]:
    """Median milliseconds of each; in turns, so that a busy moment slows both."""
    seen: tuple[list[float], list[float]] = ([], [])
    for _ in range(turns):
        for model, times in zip((first, second), seen, strict=True):
            begun = time.perf_counter()
            model.answer([picture])
            times.append(1000 * (time.perf_counter() - begun))
    return float(np.median(seen[0])), float(np.median(seen[1]))
