"""Whether a model may stand for another: both on the same labelled pictures, int8 and float32 as a rule. No torch."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.decode import Pixels
from resnetkit.errors import DataError, InvalidArgument
from resnetkit.tasks.contract import finite

_BATCH = 16
_LEAST_INTEGER = 0.8
"""of convolutions and matrix products; the last layer may stay in float32"""
_MAY_FLIP = 2
"""pictures whose answer may change with how a processor rounds; of a small part they are more than the bound"""


class Answering(Protocol):
    """An exported file, or a network in another process."""

    def answer(self, pictures: Sequence[Pixels]) -> NDArray[np.float32]:
        """Probabilities `N,classes` of uint8 pictures `H,W,C` of any size."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a model may lose against another."""

    max_loss: float = 0.005
    """of top-1, as a share of 1"""
    min_agreement: float = 0.99
    """share of the pictures for which both say the same class"""

    def __post_init__(self) -> None:
        if not (abs(self.max_loss) <= 1 and 0 <= self.min_agreement <= 1):
            raise InvalidArgument(
                f"at most {100 * self.max_loss:g} points lost and at least {100 * self.min_agreement:g} % agreement: "
                "both are numbers up to 100"
            )


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

    @property
    def remark(self) -> str | None:
        """What a person should know before using int8 here: without VNNI or the like it may gain nothing."""
        if self.milliseconds < self.reference_milliseconds:
            return None
        return (
            f"int8 is not faster than float32 on this processor ({self.milliseconds:.1f} ms a picture against "
            f"{self.reference_milliseconds:.1f}): use it where there is VNNI or the like, or for its size"
        )

    def objections(self, bounds: Bounds) -> list[str]:
        """What is out of bounds, in words; nothing if the model is accepted."""
        found = []
        lost = self.reference_top1 - self.top1
        if lost > bounds.max_loss + 1e-9:
            found.append(f"top-1 falls by {100 * lost:.2f} points (at most {100 * bounds.max_loss:g})")
        if self.agreement < bounds.min_agreement - 1e-9:
            found.append(f"agreement is {100 * self.agreement:.2f} % (at least {100 * bounds.min_agreement:g} %)")
        return found


@dataclass(frozen=True, kw_only=True)
class Alone:
    """A model on labelled pictures, with no other beside it."""

    n: int
    top1: float
    measured_top1: float | None
    """on these very pictures when it was made; None where that is not known"""
    milliseconds: float
    """for one picture, median"""

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    def objections(self, bounds: Bounds) -> list[str]:
        """What is out of bounds, in words; nothing where there is no measurement to be held to."""
        lost = (self.measured_top1 or 0) - self.top1
        if lost <= max(bounds.max_loss, _MAY_FLIP / self.n) + 1e-9:
            return []
        return [
            f"top-1 is {100 * lost:.2f} points below the {100 * (self.measured_top1 or 0):.2f} % "
            f"that were measured on these pictures when it was made (at most {100 * bounds.max_loss:g})"
        ]


def compare(
    model: Answering,
    reference: Answering,
    picture: Callable[[int], Pixels],
    truth: NDArray[np.int64],
    progress: Callable[[int], None] | None = None,
) -> Comparison:
    """Both models on the pictures 0 to `len(truth)`, whose classes are `truth`, and how long each takes for one."""
    mine, wanted = _answers((model, reference), picture, len(truth), progress)
    milliseconds, reference_milliseconds = _in_turns((model, reference), picture(0))
    return Comparison(
        n=len(truth),
        top1=float((mine.argmax(1) == truth).mean()),
        reference_top1=float((wanted.argmax(1) == truth).mean()),
        agreement=float((mine.argmax(1) == wanted.argmax(1)).mean()),
        max_difference=float(np.abs(mine - wanted).max()),
        milliseconds=milliseconds,
        reference_milliseconds=reference_milliseconds,
    )


def score(
    model: Answering,
    picture: Callable[[int], Pixels],
    truth: NDArray[np.int64],
    measured_top1: float | None,
    progress: Callable[[int], None] | None = None,
) -> Alone:
    """One model on the pictures 0 to `len(truth)`, whose classes are `truth`."""
    (answers,) = _answers((model,), picture, len(truth), progress)
    (milliseconds,) = _in_turns((model,), picture(0))
    top1 = float((answers.argmax(1) == truth).mean())
    return Alone(n=len(truth), top1=top1, measured_top1=measured_top1, milliseconds=milliseconds)


def stayed_in_float(integer: int, total: int) -> str | None:
    """What is wrong with a model of which `integer` of `total` operations compute in int8.

    >>> stayed_in_float(20, 21) is None, stayed_in_float(3, 21)
    (True, 'only 3 of 21 convolutions and matrix products compute in int8 here')
    """
    if total and integer >= _LEAST_INTEGER * total:
        return None
    return f"only {integer} of {total} convolutions and matrix products compute in int8 here"


def _answers(
    models: Sequence[Answering],
    picture: Callable[[int], Pixels],
    n: int,
    progress: Callable[[int], None] | None,
) -> list[NDArray[np.float32]]:
    """The probabilities that each model gives to the pictures 0 to `n`, `n,classes`."""
    if not n:
        raise DataError("there is no image to compare on: this part of the data is empty")
    rows: list[list[NDArray[np.float32]]] = [[] for _ in models]
    for start in range(0, n, _BATCH):
        pictures = [picture(index) for index in range(start, min(start + _BATCH, n))]
        for model, own in zip(models, rows, strict=True):
            own.append(finite(model.answer(pictures)))
        if progress:
            progress(start + len(pictures))
    return [np.concatenate(own) for own in rows]


def _in_turns(models: Sequence[Answering], picture: Pixels, turns: int = 9) -> list[float]:
    """Median milliseconds of each; in turns, so that a busy moment slows all."""
    seen: list[list[float]] = [[] for _ in models]
    for _ in range(turns):
        for model, times in zip(models, seen, strict=True):
            begun = time.perf_counter()
            model.answer([picture])
            times.append(1000 * (time.perf_counter() - begun))
    return [float(np.median(times)) for times in seen]
