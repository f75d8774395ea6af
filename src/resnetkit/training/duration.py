"""How long a run goes on: for a number of steps, or until a moment. Either way the schedule is a function of progress.

A run of a number of steps is addressed by step, so it can be repeated. A run by the clock moves its progress on by the
share that each step took of the time left; whatever the pace does, progress is 1 when the time is up, and with it the
learning rate is zero.
"""

import time
from dataclasses import dataclass, replace
from typing import Protocol, final

from resnetkit.data.loader import Loader
from resnetkit.models import Network
from resnetkit.tasks.sparing import Sparing
from resnetkit.training.images import TrainingImages
from resnetkit.training.plan import Budget, Plan
from resnetkit.training.precision import Probe
from resnetkit.training.snapshot import Position
from resnetkit.training.validating import classifier_of

_VALIDATING = 0.02  # of the training time, at most, where a budget has to be kept
_CALIBRATING = 0.01  # of the budget
_LEAVING = 1.5  # seconds for the last files and for the process to end
_NOISE = 0.004  # of the budget, for a machine that is busier at the end than before
_DOUBT = 0.03  # of the steps, where their number cannot be corrected later


class Duration(Protocol):
    """Tells where in its schedule a run stands, and when it is over."""

    total: int
    """steps from the first to the last, as far as known"""

    def at(self, position: Position) -> float:
        """The next step's place in 0 … total."""

    def over(self, position: Position) -> bool:
        """Whether there is no next step."""

    def moved(self, position: Position) -> Position:
        """The position with its clock, and its progress, after a step or an epoch's end."""

    def validated(self, seconds: float) -> None:
        """Learn how long it takes to validate and to write the model."""

    def seconds_left(self, position: Position, seconds_a_step: float) -> float:
        """Until the last step is done."""


@final
class Steps:
    """A run of `total` steps."""

    def __init__(self, total: int) -> None:
        self.total = total

    def at(self, position: Position) -> float:
        """The step itself."""
        return position.global_step

    def over(self, position: Position) -> bool:
        """After the last step."""
        return position.global_step >= self.total

    def moved(self, position: Position) -> Position:
        """Progress is the share of the steps."""
        return replace(position, progress=position.global_step / self.total)

    def validated(self, seconds: float) -> None:
        """Changes nothing here."""

    def seconds_left(self, position: Position, seconds_a_step: float) -> float:
        """Of the steps left."""
        return (self.total - position.global_step) * seconds_a_step


@final
class Clock:
    """A run that ends by the clock: `spent` seconds of its `minutes` had passed at the moment `began`."""

    def __init__(self, budget: Budget, *, began: float, spent: float) -> None:
        self.total = budget.steps
        self._seconds = 60 * budget.minutes
        self._began = began - spent
        self._mark = time.monotonic()
        self._step = 0.0
        self._tail = _tail(self._seconds, budget.validating)

    def at(self, position: Position) -> float:
        """By progress."""
        return min(position.progress, 1.0) * self.total

    def over(self, position: Position) -> bool:
        """When a further step, as long as the last ones, would end too late."""
        return position.global_step > 0 and time.monotonic() + self._step > self._end

    def moved(self, position: Position) -> Position:
        """Progress grows by the share of the time left that has passed since it was last asked."""
        now = time.monotonic()
        left = max(self._end - self._mark, 1e-9)
        passed = min(1.0, (now - self._mark) / left)
        # The longer of this step and a slowly forgotten past, so that one quick step promises nothing.
        self._step = max(now - self._mark, 0.9 * self._step) if position.steps_done else self._step
        self._mark = now
        progress = position.progress + (1.0 - position.progress) * passed
        return replace(position, progress=progress, spent=now - self._began)

    def validated(self, seconds: float) -> None:
        """The last validation is expected to take what this one took."""
        self._tail = _tail(self._seconds, seconds)

    def seconds_left(self, position: Position, seconds_a_step: float) -> float:
        """Until the time is up."""
        return max(0.0, self._end - time.monotonic())

    @property
    def _end(self) -> float:
        """The moment at which the last step must be done."""
        return self._began + self._seconds - self._tail


def duration_of(plan: Plan, steps_an_epoch: int, *, began: float, spent: float, counted: bool = False) -> Duration:
    """By the clock where the plan has a budget and its steps need not be `counted` or repeatable, else by steps."""
    if plan.budget is None:
        return Steps(steps_an_epoch * plan.recipe.epochs)
    if plan.deterministic or counted:
        return Steps(plan.budget.steps)
    return Clock(plan.budget, began=began, spent=spent)


def progress_at(plan: Plan, steps_an_epoch: int, position: Position, *, counted: bool = False) -> float:
    """The share of the schedule that is behind `position`, as the run is planned now: of its steps, or of its time.

    For a run whose plan was changed; one that goes on as planned keeps what it counted. `counted` as in `duration_of`.
    """
    if plan.budget is None or plan.deterministic or counted:
        total = steps_an_epoch * plan.recipe.epochs if plan.budget is None else plan.budget.steps
        return min(1.0, position.global_step / total)
    return min(1.0, position.spent / (60 * plan.budget.minutes))


@dataclass(frozen=True)
class _Measured:
    """Seconds of a step (the mean over the training), of a whole validation, and since `began`."""

    step: float
    validating: float
    spent: float


def plan_budget(
    minutes: float, network: Network, plan: Plan, train: TrainingImages, val: Loader | None, *, began: float
) -> Budget:
    """How many steps fit into `minutes` since `began`, from a few steps and a validation batch on a copy."""
    seconds = 60 * minutes
    measured = _measure(network, plan, train, val, _CALIBRATING * seconds, began)
    epoch = len(train) * measured.step
    every = max(1, round(measured.validating / (_VALIDATING * epoch)))
    share = epoch / (epoch + measured.validating / every)
    left = seconds - measured.spent - _tail(seconds, measured.validating)
    if plan.deterministic:
        left *= 1 - _DOUBT
    return Budget(
        minutes=minutes,
        steps=max(1, int(left * share / measured.step)),
        validate_every=every,
        validating=round(measured.validating, 3),
    )


def expected_seconds(network: Network, plan: Plan, train: TrainingImages, val: Loader | None, steps: int) -> float:
    """How long `steps` steps and their validations will take: the budget, or from four steps of each size on a copy."""
    if plan.budget is not None:
        return 60 * plan.budget.minutes
    measured = _measure(network, plan, train, val, 0.0, time.monotonic())
    return steps * measured.step + steps / len(train) * measured.validating


def _measure(
    network: Network, plan: Plan, train: TrainingImages, val: Loader | None, seconds: float, began: float
) -> _Measured:
    ends = (*train.begins[1:], 1.0)
    each = seconds / len(ends)
    step = sum(
        (end - begin) * _step_seconds(network, plan, train, begin, each)
        for begin, end in zip(train.begins, ends, strict=True)
    )
    validating = _validation_seconds(network, plan, val) if val else 0.0
    return _Measured(step, validating, time.monotonic() - began)


def _step_seconds(network: Network, plan: Plan, train: TrainingImages, progress: float, seconds: float) -> float:
    """A step with images of the size that belongs to `progress`, from trials of about `seconds`."""
    probe, times = None, []
    start = time.perf_counter()
    mark = start
    batches = train.batches(progress=progress)
    for batch in batches:
        probe = probe or Probe(network, batch.images, batch.labels, plan.preprocess, plan.recipe)
        probe.seconds_of_a_step()
        now = time.perf_counter()
        times.append(now - mark)
        mark = now
        if len(times) > 3 and now - start > seconds:
            break
    batches.close()
    # The first step pays for kernels being made; of the others the mean, because pauses are part of the pace.
    later = times[1:] or times
    return sum(later) / len(later)


def _validation_seconds(network: Network, plan: Plan, val: Loader) -> float:
    classifier = Sparing(classifier_of(network, plan))
    batches = val.batches(0)
    batch = next(batches)
    classifier(batch.pixels)
    start = time.perf_counter()
    classifier(batch.pixels)
    took = time.perf_counter() - start
    batches.close()
    return took * len(val) * 1.5  # decoding, and scoring, which a batch in hand does not show


def _tail(budget: float, validating: float) -> float:
    """Seconds kept for what comes after the last step."""
    return min(0.5 * budget, 1.2 * validating + _LEAVING + _NOISE * budget)
