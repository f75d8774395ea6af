"""The loop: epochs of steps, a score on the validation part, the best model and a checkpoint after each.

A run is a function of its plan. The order of an epoch and the augmentation of its images depend on (seed, epoch), what
a network draws at random in a step on (seed, step); so a run continued from a checkpoint ends as if never stopped.
"""

import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from resnetkit.checkpoints import modelfile
from resnetkit.data.loader import Loader
from resnetkit.errors import CheckpointError, DataError, RunError
from resnetkit.evaluation.scoring import Measure, Scores
from resnetkit.evaluation.several import SeveralScores, judge, measure_of
from resnetkit.models import Network
from resnetkit.training.duration import Duration, duration_of, expected_seconds
from resnetkit.training.images import TrainingImages
from resnetkit.training.interruption import Interrupted, Interruption, noted_interruption
from resnetkit.training.keeping import Keeper
from resnetkit.training.learner import Learner
from resnetkit.training.pace import Pace
from resnetkit.training.plan import Plan
from resnetkit.training.processes import ALONE, Processes
from resnetkit.training.progress import Began, EpochEnded, Listener, Remark, Stepped, nobody
from resnetkit.training.run import Run
from resnetkit.training.schedule import Schedule
from resnetkit.training.shared_norm import share_norms
from resnetkit.training.snapshot import Position, restore_newest
from resnetkit.training.stepping import Stepper, go_back, has_diverged, objective_of
from resnetkit.training.validating import Validation


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its best epoch (from 1) with its validation scores, and the training speed."""

    best_epoch: int
    best_score: float | None
    measure: Measure
    best_loss: float | None
    val_n: int
    epochs: int
    seconds: float
    images_per_second: float


def fit(
    network: Network,
    plan: Plan,
    run: Run,
    train: TrainingImages,
    val: Loader | None,
    *,
    checkpoint_steps: int | None = None,
    checkpoint_minutes: float = 10.0,
    began: float | None = None,
    processes: Processes = ALONE,
    listener: Listener,
) -> Outcome:
    """Train `network` as `plan` says, from the run's newest checkpoint if it has one, to the last step.

    `began` is the moment (`time.monotonic`) from which a budget of minutes counts, by default now. In a job of several
    processes the loaders give each its share, of every batch and of the validation part; the first one writes.

    Raises Interrupted on SIGINT or SIGTERM, after the step is finished and a checkpoint is written; Diverged,
    OutOfMemory and WriteFailed after all else was tried.
    """
    listener = listener if processes.first else nobody
    learner = Learner(network, plan.recipe)

    def say(text: str) -> None:
        listener(Remark(text))

    if processes.first:
        run.remove_unfinished()
    run.read_metrics()  # what is damaged about them is said before anything is trained
    position = _with_its_best(restore_newest(run.checkpoint, learner, say), run, say)
    duration = duration_of(
        plan, len(train), began=time.monotonic() if began is None else began, spent=position.spent,
        counted=processes.count > 1,
    )  # fmt: skip
    steps_left = duration.total - position.global_step
    seconds = 0.0 if position.finished else expected_seconds(network, plan, train, val, steps_left)
    if processes.count > 1:
        share_norms(network)  # after the trials, which a process makes for itself
    keeper = Keeper(run, learner, say, steps=checkpoint_steps, minutes=checkpoint_minutes, writes=processes.first)
    with noted_interruption() as interruption:
        training = _Training(
            plan=plan, run=run, learner=learner, train=train, duration=duration, keeper=keeper, pace=Pace(),
            validation=None if val is None else Validation(learner.model, plan, val, say),
            interruption=interruption, processes=processes, listener=listener,
        )  # fmt: skip
        return training.to_the_end(position, seconds)


@final
@dataclass(frozen=True, kw_only=True)
class _Training:
    """All that one run is made of, in one process."""

    plan: Plan
    run: Run
    learner: Learner
    train: TrainingImages
    validation: Validation | None
    duration: Duration
    keeper: Keeper
    pace: Pace
    interruption: Interruption
    processes: Processes
    listener: Listener

    def to_the_end(self, position: Position, seconds: float) -> Outcome:
        """From `position` to the last step, which is expected to take `seconds`."""
        self._begin(position, seconds)
        validated = position.epoch % _validate_every(self.plan) == 0
        if not position.steps_done and validated and self._over(position):
            position = replace(position, finished=True)
        while not position.finished:
            position = self._train_epoch(position)
            ended = time.monotonic()
            due = self.duration.over(position) or (position.epoch + 1) % _validate_every(self.plan) == 0
            diverged = has_diverged(position, self.learner)
            answers = self._answers(position) if due and not diverged else None
            # Weights that are numbers can still give answers that are none.
            if diverged or (answers and not np.isfinite(answers[0]).all()):
                position = go_back(position, self.learner, self.run, self._say)
                self.keeper.forget_from(position.epoch)
                continue
            position = self._end_epoch(position, judge(*answers, self.plan.data.class_names) if answers else None)
            position = self._keep_epoch(position, due)
            if due:
                self.duration.validated(time.monotonic() - ended)
            self._stop_if_asked(position)
        self.keeper.finish(position, self.interruption)
        return Outcome(
            best_epoch=(position.best_epoch or 0) + 1,
            best_score=position.best_score if self.validation else None,
            measure=measure_of(self.plan.data.task),
            best_loss=position.best_loss if self.validation else None,
            val_n=position.val_n,
            epochs=position.epoch,
            seconds=position.seconds,
            images_per_second=self.pace.images_per_second,
        )

    def _begin(self, position: Position, seconds: float) -> None:
        known = self.train.class_images
        self.listener(
            Began(
                plan=self.plan, run=str(self.run.path), train_images=self.train.images,
                val_images=int(self.processes.totals(self.validation.images if self.validation else 0)[0]),
                steps=len(self.train), parameters=sum(p.numel() for p in self.learner.network.parameters()),
                total=self.duration.total,
                class_images=() if known is None else tuple(known.tolist()),
                seconds=seconds,
                resumed_epoch=position.epoch if position.global_step else None, resumed_step=position.steps_done,
            )
        )  # fmt: skip
        if not position.global_step:
            # Whether the disk takes it is known before the first step, and a first step that fails has a way back.
            self.keeper.keep_first_snapshot(position)

    def _train_epoch(self, position: Position) -> Position:
        """The steps of the epoch that `position` has not done yet, as far as the run goes on and is in its senses."""
        plan, duration, steps = self.plan, self.duration, len(self.train)
        schedule = Schedule.of(plan.recipe, steps, duration.total)
        stepper = Stepper(self.learner, plan, objective_of(plan, self.train), self.run, self.processes, self._say)
        self.learner.train_head_only(duration.at(position) < schedule.head)
        try:
            with closing(self.train.batches(position.epoch, position.steps_done, position.epoch_progress)) as batches:
                for batch in self.pace.timed(batches):
                    if position.steps_done and duration.over(position):
                        break
                    rate = schedule.rate(duration.at(position))
                    result, position = stepper.take(batch, self.train.name, position, rate)
                    position = duration.moved(
                        replace(
                            position,
                            steps_done=position.steps_done + 1,
                            global_step=position.global_step + 1,
                            loss_sum=position.loss_sum + result.loss * result.images,
                            right=position.right + result.right,
                            images=position.images + result.images,
                            seconds=position.seconds + self.pace.stepped(batch.whole),
                        )
                    )
                    # Before a snapshot can be written, so that the run continued from it stands the same.
                    self.learner.train_head_only(duration.at(position) < schedule.head)
                    self._stepped(position)
                    if position.skipped and has_diverged(position, self.learner):
                        break
                    self.keeper.keep_snapshot_if_due(position)
                    self._stop_if_asked(position)
        except DataError as error:
            raise self._without_images(position, error) from error
        return position

    def _answers(self, position: Position) -> tuple[NDArray[np.float32], NDArray[np.int64]] | None:
        """Those of the validation part, if there is one; `position` is that of the epoch's last step."""
        if self.validation is None:
            return None

        def before_batch() -> None:
            # A validation may take longer than whoever sent a signal waits.
            self._stop_if_asked(position)

        try:
            return self.validation.answers(self.processes, before_batch)
        except DataError as error:
            raise self._without_images(position, error) from error

    def _stepped(self, position: Position) -> None:
        self.listener(
            Stepped(
                epoch=position.epoch + 1, epochs=self._epochs(position),
                step=position.steps_done, steps=len(self.train),
                loss=position.loss_sum / max(1, position.images), accuracy=position.right / max(1, position.images),
                images_per_second=self.pace.images_per_second,
                seconds_left=self.duration.seconds_left(position, self.pace.seconds_a_step),
            )
        )  # fmt: skip

    def _end_epoch(self, position: Position, scores: Scores | SeveralScores | None) -> Position:
        """Keep the model if it is the best so far, write the epoch's line, and stand at the start of the next epoch.

        The order is such that a kill at any moment loses no more than a repetition of the epoch, which gives the same.
        """
        epoch = position.epoch
        # Without a validation part there is nothing to choose by, so the newest model is the one.
        best = self.validation is None or (scores is not None and _better(scores, position))
        if best:
            self.keeper.keep_model(_card(self.plan, epoch, scores))
            position = replace(position, best_epoch=epoch)
            if scores:
                position = replace(position, best_score=scores.headline[1], best_loss=scores.loss, val_n=scores.n)
        ended = EpochEnded(
            epoch=epoch + 1, epochs=self._epochs(position),
            loss=position.loss_sum / max(1, position.images), accuracy=position.right / max(1, position.images),
            val_loss=scores.loss if scores else None, val_score=scores.headline[1] if scores else None,
            val_n=scores.n if scores else 0, best=best,
            images_per_second=self.pace.images_per_second, waited=self.pace.waited_share, seconds=position.seconds,
            seconds_left=self.duration.seconds_left(position, self.pace.seconds_a_step),
        )  # fmt: skip
        self.keeper.keep_line(
            epoch,
            {
                "train_loss": ended.loss, "train_top1": ended.accuracy, "val_loss": ended.val_loss,
                f"val_{measure_of(self.plan.data.task)}": ended.val_score, "val_n": ended.val_n, "best": best,
                "images_per_second": round(ended.images_per_second, 2), "waited": round(ended.waited, 4),
                "seconds": round(position.seconds, 3), "writing_seconds": round(self.keeper.paused, 3),
            },
        )  # fmt: skip
        self.listener(ended)
        return replace(
            position, epoch=epoch + 1, epoch_progress=position.progress, steps_done=0, loss_sum=0.0, right=0, images=0
        )

    def _keep_epoch(self, position: Position, due: bool) -> Position:
        """A snapshot of an epoch's end, which says whether the run is finished: so it is, too, when it is resumed.

        Never without a validation of what is there, even if the time runs out while the snapshot is written.
        """
        position = replace(self.duration.moved(position), finished=due and self._over(position))
        self.keeper.keep_snapshot(position)
        position = self.duration.moved(position)
        ran_out = due and not position.finished and self._over(position)
        return self._keep_epoch(position, due) if ran_out else position

    def _over(self, position: Position) -> bool:
        """Whether nothing is left to do: the time is up, or no epoch was better for long."""
        patience, best = self.plan.recipe.early_stopping, position.best_epoch
        stale = patience is not None and best is not None and position.epoch - 1 - best >= patience
        return stale or self.duration.over(position)

    def _epochs(self, position: Position) -> int:
        """How many epochs there will be, the last perhaps cut short; where a clock ends the run, as far as known."""
        steps_left = self.duration.total - self.duration.at(position)
        return position.epoch + math.ceil((position.steps_done + steps_left) / len(self.train) - 1e-6)

    def _stop_if_asked(self, position: Position) -> None:
        received = self.interruption.agreed(self.processes)
        if received:
            self.keeper.keep_snapshot(position)
            # The others wait until it is written: torchrun ends all processes of a job as soon as one has ended.
            self.processes.told_by_first(None)
            raise Interrupted(str(self.run.path), received, self.keeper.refusal)

    def _without_images(self, position: Position, error: DataError) -> DataError:
        """What to raise where images can no longer be had: the storage may be back tomorrow, so all is kept first."""
        self.keeper.keep_snapshot(position)
        return DataError(f"{error}. Once that is mended, continue with: resnetkit train --resume {self.run.path}")

    def _say(self, text: str) -> None:
        self.listener(Remark(text))


def _with_its_best(position: Position, run: Run, say: Callable[[str], None]) -> Position:
    """The best model was written before the snapshot that counts on it; if it is gone, another is to be chosen."""
    if position.best_epoch is None or _is_whole(run.model):
        return position
    if position.finished:
        raise RunError(
            f"{run.model} is missing or damaged, and the run has ended: train on from its last weights with "
            f"resnetkit train --resume {run.path} --epochs {position.epoch + 1} --force"
        )
    say(f"{run.model} is missing or damaged: the best epoch is chosen anew, among those from here on")
    return position.without_best()


def _is_whole(model: Path) -> bool:
    try:
        modelfile.read(model)
    except CheckpointError:
        return False
    return True


def _card(plan: Plan, epoch: int, scores: Scores | SeveralScores | None) -> modelfile.ModelCard:
    measured: dict[str, Any] = {}
    if scores:
        few = {"n", "top1", "top1_ci95", "mean_ap", "f1", "loss"}
        measured["val"] = {key: value for key, value in scores.to_dict().items() if key in few}
    return modelfile.ModelCard(
        architecture=plan.model.name,
        row=plan.model.row,
        num_classes=plan.data.num_classes,
        in_chans=plan.model.in_chans,
        class_names=plan.data.class_names,
        preprocess=plan.preprocess,
        task=plan.data.task,
        threshold=scores.threshold if isinstance(scores, SeveralScores) else None,
        training={"epoch": epoch + 1, **plan.to_dict()},
        scores=measured,
    )


def _validate_every(plan: Plan) -> int:
    return 1 if plan.budget is None else plan.budget.validate_every


def _better(scores: Scores | SeveralScores, position: Position) -> bool:
    return (scores.headline[1], -scores.loss) > (position.best_score, -position.best_loss)
