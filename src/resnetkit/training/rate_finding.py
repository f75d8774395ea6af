"""Which learning rate? The range test: a few steps at ever higher rates, and where the loss falls and where it breaks.

Smith 2015 (arXiv 1506.01186, section 3.3). What is learnt on the way is thrown away.
"""

import copy
import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from resnetkit.catalog.recipe import OptimiserKind
from resnetkit.data.batching import Batch
from resnetkit.errors import RunError
from resnetkit.models import Network
from resnetkit.tasks.memory import in_pieces, smaller_pieces
from resnetkit.training.images import TrainingImages
from resnetkit.training.learner import Learner
from resnetkit.training.plan import Plan
from resnetkit.training.snapshot import Position
from resnetkit.training.step import add_gradients
from resnetkit.training.stepping import answers_of, mixed_of, objective_of

_STEPS = 100
# From where nothing moves to where everything breaks.
_ENDS: Mapping[OptimiserKind, tuple[float, float]] = {
    "sgd": (1e-4, 10.0), "adamw": (1e-6, 0.1), "lamb": (1e-5, 1.0), "muon": (1e-6, 0.1),
}  # fmt: skip
_WIDTH = 3.0  # steps: a batch says little by itself
_BROKEN = 4.0  # times the lowest loss so far, over a few steps: nothing but worse will come
_FEWEST = 10  # steps, from which a curve says something
_CHANCE = 5.0  # standard errors of the smoothed loss, which a fall must exceed to be one

Progress = Callable[[int, int], None]
"""steps done, and of how many"""


@final
@dataclass(frozen=True)
class FoundRate:
    """What a range test found: `losses` of the batch after a step at each of `rates`, and `smoothed` over steps."""

    suggestion: float
    """the peak rate to train with: half way, in powers, from the careful to the bold one"""
    tenth_of_lowest: float
    """a tenth of the rate with the lowest loss: the careful one"""
    steepest: float
    """where the loss falls steepest: the bold one, in a test so short often near the lowest"""
    lowest: float
    """the rate with the lowest loss, from which on it breaks"""
    usual: float
    """the rate that the recipe would have"""
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "suggestion": self.suggestion, "tenth_of_lowest": self.tenth_of_lowest, "steepest": self.steepest,
            "lowest": self.lowest, "recipe": self.usual,
            "steps": [
                {"rate": rate, "loss": loss, "smoothed": smoothed}
                for rate, loss, smoothed in zip(self.rates, self.losses, self.smoothed, strict=True)
            ],
        }  # fmt: skip


def find_rate(network: Network, plan: Plan, train: TrainingImages, progress: Progress) -> FoundRate:
    """Try a copy of `network` at rising rates with the plan's optimiser, batches and augmentation, at full image size.

    Raises RunError where the loss never falls, and OutOfMemory.
    """
    low, high = _ENDS[plan.recipe.optimiser]
    rates = np.geomspace(low, high, _STEPS)
    losses = list(_losses(network, plan, train, rates, progress))
    return read_curve(rates[: len(losses)], losses, usual=plan.recipe.lr or math.nan)


def read_curve(rates: Sequence[float] | NDArray[np.float64], losses: Sequence[float], *, usual: float) -> FoundRate:
    """What a curve of losses over rates, a constant factor apart, says.

    >>> rates = np.geomspace(1e-4, 10, 101)
    >>> found = read_curve(rates, 2.3 - 1 / (1 + 0.1 / rates) + (rates / 3) ** 2, usual=0.2)
    >>> round(found.steepest, 2), found.lowest > found.steepest > found.suggestion > found.tenth_of_lowest
    (0.1, True)
    """
    if len(losses) < _FEWEST:
        raise RunError(
            f"the loss was not finite, or broke, after {len(losses)} step(s) at the lowest rates, so there is nothing "
            "to read from it: look at the images and at the weights that it starts from, or keep the recipe's rate"
        )
    curve = smoothed(np.asarray(losses, np.float64))
    lowest = int(curve.argmin())
    if not curve[0] - curve[lowest] > _CHANCE * _error(losses):
        raise RunError(
            f"the loss did not fall by more than chance from rate {rates[0]:.1g} to {rates[len(losses) - 1]:.1g}, so "
            "there is nothing to read from it: give a larger --batch-size, or keep the recipe's rate"
        )
    steepest = rates[int(np.gradient(curve)[: lowest + 1].argmin())]
    return FoundRate(
        suggestion=_two_digits(math.sqrt(rates[lowest] / 10 * steepest)),
        tenth_of_lowest=_two_digits(rates[lowest] / 10),
        steepest=_two_digits(steepest),
        lowest=_two_digits(rates[lowest]),
        usual=usual,
        rates=tuple(map(float, rates)), losses=tuple(map(float, losses)), smoothed=tuple(map(float, curve)),
    )  # fmt: skip


def smoothed(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over neighbours on both sides, weighted by a bell of `_WIDTH` steps.

    A running mean over the past, such as is usual, shows each fall later than it came, and so at a higher rate; and
    where neighbours are missing, at the ends, the weights of those that are there have to make up one.

    >>> smoothed(np.full(5, 2.0)).round(9).tolist()
    [2.0, 2.0, 2.0, 2.0, 2.0]
    """
    places = np.arange(len(losses))
    weights = np.exp(-0.5 * ((places[:, None] - places) / _WIDTH) ** 2)
    curve: NDArray[np.float64] = weights @ losses / weights.sum(axis=1)
    return curve


def _error(losses: Sequence[float]) -> float:
    """The standard error of the smoothed loss, from how much batches differ while the rate moves nothing yet."""
    differences = np.diff(np.asarray(losses, np.float64)[: len(losses) // 3])
    return float(differences.std()) / math.sqrt(2) / math.sqrt(2 * math.sqrt(math.pi) * _WIDTH)


def _losses(
    network: Network, plan: Plan, train: TrainingImages, rates: NDArray[np.float64], progress: Progress
) -> Iterator[float]:
    """The loss after a step at each rate, until it is broken: that of the next batch, before it changes anything."""
    trial = _Trial(network, plan, train)
    past: list[float] = []
    with closing(_endless(train)) as batches:
        trial.step(next(batches), float(rates[0]))
        for done, batch in enumerate(batches, start=1):
            loss = trial.step(batch, float(rates[min(done, len(rates) - 1)]))
            if not math.isfinite(loss):
                return
            past.append(loss)
            yield loss
            progress(done, len(rates))
            if done == len(rates) or _broken(past):
                return


@final
class _Trial:
    """Steps of a plan on a copy of the network."""

    def __init__(self, network: Network, plan: Plan, train: TrainingImages) -> None:
        self._learner, self._plan = Learner(copy.deepcopy(network), plan.recipe), plan
        self._objective = objective_of(plan, train)
        self._pieces, self._steps = plan.recipe.accumulate, 0
        torch.manual_seed(plan.seed)

    def step(self, batch: Batch, rate: float) -> float:
        """The loss of the batch, and a step at this rate. Raises OutOfMemory."""
        plan = self._plan

        def attempt(pieces: int) -> float:
            return add_gradients(
                self._learner.network, self._learner.optimiser, batch.images, answers_of(batch, plan),
                preprocess=plan.preprocess, objective=self._objective, precision=plan.recipe.precision, pieces=pieces,
                mixed=mixed_of(plan, Position(global_step=self._steps)), forward=self._learner.forward,
            ).loss  # fmt: skip

        def more(pieces: int, shortage: str) -> int:
            self._learner.optimiser.zero_grad()
            return smaller_pieces(pieces, len(batch.images), shortage)

        loss, self._pieces = in_pieces(attempt, self._pieces, more)
        self._learner.optimiser.step(rate)
        self._learner.stepped(self._steps)
        self._steps += 1
        return loss


def _broken(losses: Sequence[float]) -> bool:
    recent = losses[-3:]
    return len(losses) > 3 and sum(recent) / len(recent) > _BROKEN * min(losses)


def _endless(train: TrainingImages) -> Generator[Batch, None, None]:
    """Epoch after epoch, in the size that images have in the end."""
    for epoch in count():
        yield from train.batches(epoch, progress=1.0)


def _two_digits(rate: float) -> float:
    return float(f"{rate:.2g}")
