"""A step, whatever befalls it: too little memory lessens what is computed at once, a loss that is no number is skipped.

After a few steps of no number in a row the run goes back to its last snapshot and on at a lower rate; after a few such
ways back it gives up.
"""

import contextlib
import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import final

import torch
from torch import Tensor, nn

from resnetkit.data.balancing import class_weights
from resnetkit.data.batching import Batch
from resnetkit.data.mixing import Mixing, mix, one_hot
from resnetkit.errors import InvalidArgument, RunError
from resnetkit.tasks.memory import OutOfMemory, in_pieces, smaller_pieces
from resnetkit.tasks.objective import Objective, Reduction
from resnetkit.training.images import TrainingImages
from resnetkit.training.learner import Learner
from resnetkit.training.plan import Plan
from resnetkit.training.processes import Processes
from resnetkit.training.run import Run
from resnetkit.training.snapshot import Position, restore_newest
from resnetkit.training.step import Mixed, StepResult, add_gradients

_IN_A_ROW = 3  # steps of no number: one may be an accident, three are not
_WAYS_BACK = 3
_SLOWER = 1 / 3  # of the rate, at each way back
_NAMED = 5  # images in a remark; all are in the run's file

Say = Callable[[str], None]
Name = Callable[[int], str]
"""of the image of an index in a batch"""


class Diverged(RunError):
    """The loss went on being no number after all that could be tried."""


@final
class Stepper:
    """Takes the steps of a run."""

    def __init__(self, learner: Learner, plan: Plan, objective: Objective, run: Run, processes: Processes, say: Say):
        self._learner, self._plan, self._objective = learner, plan, objective
        self._run, self._processes, self._say = run, processes, say
        self._statistics = _Statistics(learner.network)

    def take(self, batch: Batch, name: Name, position: Position, lr: float) -> tuple[StepResult, Position]:
        """One step at rate `lr`, or none where it would do harm: then the position's `skipped` is one more."""
        self._statistics.remember()
        result, pieces = self._gradients(batch, position)
        position = replace(position, pieces=pieces if pieces != self._plan.recipe.accumulate else 0)
        if math.isfinite(result.loss) and self._learner.optimiser.has_finite_gradients():
            self._learner.optimiser.step(lr * position.rate)
            self._learner.stepped(position.global_step)
            return result, replace(position, skipped=0)
        self._statistics.restore()
        self._report(batch, name, position)
        return StepResult(loss=0.0, right=0, images=0), replace(position, skipped=position.skipped + 1)

    def _gradients(self, batch: Batch, position: Position) -> tuple[StepResult, int]:
        def attempt(pieces: int) -> StepResult:
            # Dropout and stochastic depth of this step are a function of (seed, step), not of what was drawn before.
            number = self._plan.seed * 1_000_003 + position.global_step + (self._processes.rank << 40)
            torch.manual_seed(number % 2**63)
            return add_gradients(
                self._learner.network, self._learner.optimiser, batch.images, answers_of(batch, self._plan),
                preprocess=self._plan.preprocess, objective=self._objective, precision=self._plan.recipe.precision,
                pieces=pieces, forward=self._learner.forward, mixed=mixed_of(self._plan, position),
                whole=batch.whole, processes=self._processes,
            )  # fmt: skip

        def more(pieces: int, shortage: str) -> int:
            return self._fewer_at_once(pieces, len(batch.images), shortage)

        return in_pieces(attempt, position.pieces or self._plan.recipe.accumulate, more)

    def _fewer_at_once(self, pieces: int, images: int, shortage: str) -> int:
        self._learner.optimiser.zero_grad()
        self._statistics.restore()
        if self._processes.count > 1:
            raise OutOfMemory(
                f"process {self._processes.rank} has too little memory for {images} images at once: compute each batch "
                f"in pieces with --accumulate {2 * pieces}, or give fewer with --batch-size"
            )
        more = smaller_pieces(pieces, images, shortage)
        self._say(
            f"out of memory with {math.ceil(images / pieces)} images at once: from here on a batch is computed in "
            f"{more} pieces of {math.ceil(images / more)}, whose gradients add up to the same step "
            f"(save the time of finding out with --accumulate {more})"
        )
        return more

    def _report(self, batch: Batch, name: Name, position: Position) -> None:
        indices = self._processes.in_order(torch.from_numpy(batch.indices))
        names = [name(int(index)) for index in indices]
        if self._processes.first:
            line = {"epoch": position.epoch + 1, "step": position.steps_done + 1, "images": names}
            # A report must not end what it reports on.
            with contextlib.suppress(OSError), self._run.not_finite.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        more = f" and {len(names) - _NAMED} more, all in {self._run.not_finite}" if len(names) > _NAMED else ""
        self._say(
            f"the loss or a gradient is not finite in epoch {position.epoch + 1}, step {position.steps_done + 1}: the "
            f"step is skipped; its images were {', '.join(names[:_NAMED])}{more}"
        )


def objective_of(plan: Plan, train: TrainingImages) -> Objective:
    """The loss of a step, where rare classes may count for more."""
    recipe, weights = plan.recipe, None
    if recipe.balance == "loss":
        if train.class_images is None:
            raise InvalidArgument("balance loss weighs classes by their images, and nobody knows a stream's beforehand")
        weights = torch.from_numpy(class_weights(train.class_images, recipe.balance_beta)).float()
    # With the mean over classes the usual rates were ten times too small for ten labels (mean average precision of two
    # digits side by side after 10 epochs 0.29, with ten times the rate 0.72).
    classes: Reduction = "sum" if plan.data.task == "multilabel" else "mean"
    return Objective(recipe.loss, smoothing=recipe.label_smoothing, weights=weights, classes=classes)


def answers_of(batch: Batch, plan: Plan) -> Tensor:
    """What is right about the images, as classes, or where they are mixed or have several, as shares of each class."""
    if batch.targets is not None:
        return batch.targets
    mixes = plan.recipe.mixup or plan.recipe.cutmix
    return one_hot(batch.labels, plan.data.num_classes) if mixes else batch.labels


def mixed_of(plan: Plan, position: Position) -> Mixed | None:
    """How the batch of the step at `position` is mixed, if it is."""
    recipe = plan.recipe
    if not (recipe.mixup or recipe.cutmix) or position.progress >= recipe.mix_until:
        return None
    mixing = Mixing(mixup=recipe.mixup, cutmix=recipe.cutmix or 0.0, share=recipe.mix_share)
    return partial(mix, mixing=mixing, seed=plan.seed, step=position.global_step)


def has_diverged(position: Position, learner: Learner) -> bool:
    """Whether the run has to go back: a few skipped steps in a row, or weights that are no numbers."""
    return position.skipped >= _IN_A_ROW or not learner.finite()


def go_back(position: Position, learner: Learner, run: Run, say: Say) -> Position:
    """Stand at the newest snapshot again, with a lower rate. Raises Diverged when that was tried often enough."""
    if position.rollbacks >= _WAYS_BACK:
        raise Diverged(
            f"the loss is not finite again and again, {position.rollbacks} times after going back to a checkpoint and "
            f"on at a lower rate: give a lower --lr, or look at the images in {run.not_finite}"
        )
    before = restore_newest(run.checkpoint, learner, say)
    rate = position.rate * _SLOWER
    say(
        f"back to the checkpoint of epoch {before.epoch + 1}, step {before.steps_done}, and on at {rate:.3g} times the "
        f"recipe's rate ({position.rollbacks + 1} of {_WAYS_BACK} times)"
    )
    return replace(before, skipped=0, rollbacks=position.rollbacks + 1, rate=rate)


@final
class _Statistics:
    """The buffers of a network (batch norm's statistics), which a forward pass changes, kept aside."""

    def __init__(self, network: nn.Module) -> None:
        self._theirs: list[Tensor] = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
        self._counts: list[Tensor] = [buffer for buffer in network.buffers() if not buffer.is_floating_point()]
        self._kept = [buffer.clone() for buffer in self._theirs]
        self._kept_counts = [buffer.clone() for buffer in self._counts]

    def remember(self) -> None:
        """Keep them as they are."""
        self._copy(self._kept, self._theirs)
        self._copy(self._kept_counts, self._counts)

    def restore(self) -> None:
        """Make them what they were."""
        self._copy(self._theirs, self._kept)
        self._copy(self._counts, self._kept_counts)

    @staticmethod
    @torch.no_grad()
    def _copy(to: list[Tensor], of: list[Tensor]) -> None:
        if to:
            torch._foreach_copy_(to, of)
