"""The loop: epochs of steps, a score on the validation part, the best model and a checkpoint after each.

A run is a function of its plan. The order of an epoch and the augmentation of its images depend on (seed, epoch), what
a network draws at random in a step on (seed, step); so a run continued from a checkpoint ends as if never stopped.
"""

import math
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from resnetkit.checkpoints import modelfile
from resnetkit.data.balancing import class_counts, class_weights
from resnetkit.data.loader import Batch, Loader
from resnetkit.data.mixing import Mixing, mix, one_hot
from resnetkit.evaluation.scoring import Measure, Scores, probabilities
from resnetkit.evaluation.several import SeveralScores, judge, measure_of
from resnetkit.models import Network
from resnetkit.tasks.classifier import TorchClassifier
from resnetkit.tasks.labels import LabelMap
from resnetkit.tasks.objective import Objective, Reduction
from resnetkit.training.duration import Duration, duration_of, expected_seconds
from resnetkit.training.images import TrainingImages
from resnetkit.training.interruption import Interrupted, Interruption, noted_interruption
from resnetkit.training.learner import Learner
from resnetkit.training.plan import Plan
from resnetkit.training.progress import Began, EpochEnded, Listener, Remark, Stepped
from resnetkit.training.run import Run
from resnetkit.training.schedule import Schedule
from resnetkit.training.snapshot import Position, restore_newest, save_snapshot
from resnetkit.training.step import Mixed, train_step


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
    listener: Listener,
) -> Outcome:
    """Train `network` as `plan` says, from the run's newest checkpoint if it has one, to the last step.

    `began` is the moment (`time.monotonic`) from which a budget of minutes counts, by default now.

    Raises Interrupted on SIGINT or SIGTERM, after the step is finished and a checkpoint is written.
    """
    recipe = plan.recipe
    learner = Learner(network, recipe)
    position = restore_newest(run.checkpoint, learner, lambda text: listener(Remark(text)))
    steps = len(train)
    duration = duration_of(plan, steps, began=time.monotonic() if began is None else began, spent=position.spent)
    listener(
        Began(
            plan=plan, run=str(run.path), train_images=len(train.source), val_images=len(val.source) if val else 0,
            steps=steps, parameters=sum(p.numel() for p in network.parameters()),
            total=duration.total,
            class_images=tuple(class_counts(train.source).tolist()),
            seconds=expected_seconds(network, plan, train, val, duration.total - position.global_step),
            resumed_epoch=position.epoch if position.global_step else None, resumed_step=position.steps_done,
        )
    )  # fmt: skip
    saver = _Saver(run, learner, checkpoint_steps, checkpoint_minutes)
    pace = _Pace()
    with noted_interruption() as interruption:
        finished = not position.steps_done and duration.over(position)
        while not finished:
            position = _train_epoch(learner, plan, train, position, duration, saver, pace, interruption, listener)
            ended = time.monotonic()
            due = duration.over(position) or (position.epoch + 1) % _validate_every(plan) == 0
            scores = _validate(learner.model, plan, val) if val and due else None
            # Without a validation part there is nothing to choose by, so the newest model is the one.
            best = val is None or (scores is not None and _better(scores, position))
            position = _end_epoch(learner.model, plan, run, train, position, scores, best, duration, pace, listener)
            saver.save(position)
            if due:
                duration.validated(time.monotonic() - ended)
            position = duration.moved(position)
            # Never without a validation of what is there, even if the time ran out while a checkpoint was written.
            finished = due and duration.over(position)
            _stop_if_asked(interruption, run)
    return Outcome(
        best_epoch=(position.best_epoch or 0) + 1,
        best_score=position.best_score if val else None,
        measure=measure_of(plan.data.task),
        best_loss=position.best_loss if val else None,
        val_n=len(val.source) if val else 0,
        epochs=position.epoch,
        seconds=position.seconds,
        images_per_second=pace.images_per_second,
    )


def _train_epoch(
    learner: Learner,
    plan: Plan,
    train: TrainingImages,
    position: Position,
    duration: Duration,
    saver: "_Saver",
    pace: "_Pace",
    interruption: Interruption,
    listener: Listener,
) -> Position:
    """The steps of the epoch that `position` has not done yet, as far as the run goes on."""
    recipe, steps = plan.recipe, len(train)
    schedule = Schedule.of(recipe, steps, duration.total)
    objective = _objective(plan, train)
    with closing(train.batches(position.epoch, position.steps_done, position.epoch_progress)) as batches:
        for batch in pace.timed(batches):
            if position.steps_done and duration.over(position):
                break
            # Dropout and stochastic depth of this step are a function of (seed, step), not of what was drawn before.
            torch.manual_seed(plan.seed * 1_000_003 + position.global_step)
            place = duration.at(position)
            learner.train_head_only(place < schedule.head)
            result = train_step(
                learner.network,
                learner.optimiser,
                batch.images,
                _answers(batch, plan),
                preprocess=plan.preprocess,
                objective=objective,
                lr=schedule.rate(place),
                precision=recipe.precision,
                pieces=recipe.accumulate,
                mixed=_mixed(plan, position.global_step),
                forward=learner.forward,
            )
            learner.stepped(position.global_step)
            seconds = pace.stepped(result.images)
            position = replace(
                position,
                steps_done=position.steps_done + 1,
                global_step=position.global_step + 1,
                loss_sum=position.loss_sum + result.loss * result.images,
                right=position.right + result.right,
                images=position.images + result.images,
                seconds=position.seconds + seconds,
            )
            position = duration.moved(position)
            listener(
                Stepped(
                    epoch=position.epoch + 1, epochs=_epochs(duration, position, steps),
                    step=position.steps_done, steps=steps,
                    loss=position.loss_sum / position.images, accuracy=position.right / position.images,
                    images_per_second=pace.images_per_second,
                    seconds_left=duration.seconds_left(position, pace.seconds_a_step),
                )
            )  # fmt: skip
            saver.save_if_due(position)
            if interruption.received:
                saver.save(position)
            _stop_if_asked(interruption, saver.run)
    return position


def _answers(batch: Batch, plan: Plan) -> Tensor:
    """What is right about the images, as classes, or where they are mixed or have several, as shares of each class."""
    if batch.targets is not None:
        return batch.targets
    mixes = plan.recipe.mixup or plan.recipe.cutmix
    return one_hot(batch.labels, plan.data.num_classes) if mixes else batch.labels


def _mixed(plan: Plan, step: int) -> Mixed | None:
    recipe = plan.recipe
    if not recipe.mixup and not recipe.cutmix:
        return None
    mixing = Mixing(mixup=recipe.mixup, cutmix=recipe.cutmix, share=recipe.mix_share)
    return partial(mix, mixing=mixing, seed=plan.seed, step=step)


def _objective(plan: Plan, train: TrainingImages) -> Objective:
    recipe, weights = plan.recipe, None
    if recipe.balance == "loss":
        weights = torch.from_numpy(class_weights(class_counts(train.source), recipe.balance_beta)).float()
    # With the mean over classes the usual rates were ten times too small for ten labels (mean average precision of two
    # digits side by side after 10 epochs 0.29, with ten times the rate 0.72).
    classes: Reduction = "sum" if plan.data.task == "multilabel" else "mean"
    return Objective(recipe.loss, smoothing=recipe.label_smoothing, weights=weights, classes=classes)


def _validate(network: nn.Module, plan: Plan, val: Loader) -> Scores | SeveralScores:
    classifier = TorchClassifier(
        network,
        num_classes=plan.data.num_classes,
        class_names=plan.data.class_names,
        preprocess=plan.preprocess,
        precision=plan.recipe.precision,
        task=plan.data.task,
    )
    same = LabelMap(tuple(range(plan.data.num_classes)))
    return judge(*probabilities(classifier, val.batches(0), same), plan.data.class_names)


def _end_epoch(
    network: nn.Module,
    plan: Plan,
    run: Run,
    train: TrainingImages,
    position: Position,
    scores: Scores | SeveralScores | None,
    best: bool,
    duration: Duration,
    pace: "_Pace",
    listener: Listener,
) -> Position:
    """Keep the model if it is the best so far, write the epoch's line, and stand at the start of the next epoch.

    The order is such that a kill at any moment loses no more than a repetition of the epoch, which gives the same.
    """
    epoch = position.epoch
    if best:
        modelfile.save(run.model, network.state_dict(), _card(plan, epoch, scores))
        if scores:
            position = replace(position, best_epoch=epoch, best_score=scores.headline[1], best_loss=scores.loss)
        else:
            position = replace(position, best_epoch=epoch)
    ended = EpochEnded(
        epoch=epoch + 1, epochs=_epochs(duration, position, len(train)),
        loss=position.loss_sum / position.images, accuracy=position.right / position.images,
        val_loss=scores.loss if scores else None, val_score=scores.headline[1] if scores else None,
        val_n=scores.n if scores else 0, best=best,
        images_per_second=pace.images_per_second, waited=pace.waited_share, seconds=position.seconds,
        seconds_left=duration.seconds_left(position, pace.seconds_a_step),
    )  # fmt: skip
    run.append_metrics(
        epoch,
        {
            "train_loss": ended.loss, "train_top1": ended.accuracy, "val_loss": ended.val_loss,
            f"val_{measure_of(plan.data.task)}": ended.val_score, "val_n": ended.val_n, "best": best,
            "images_per_second": round(ended.images_per_second, 2), "waited": round(ended.waited, 4),
            "seconds": round(position.seconds, 3),
        },
    )  # fmt: skip
    listener(ended)
    return replace(
        position, epoch=epoch + 1, epoch_progress=position.progress, steps_done=0, loss_sum=0.0, right=0, images=0
    )


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


def _epochs(duration: Duration, position: Position, steps: int) -> int:
    """How many epochs there will be, the last perhaps cut short; where a clock ends the run, as far as known."""
    return position.epoch + math.ceil((position.steps_done + duration.total - duration.at(position)) / steps - 1e-6)


def _stop_if_asked(interruption: Interruption, run: Run) -> None:
    if interruption.received:
        raise Interrupted(str(run.path), interruption.received)


class _Saver:
    """Writes a snapshot when enough steps or minutes have passed since the last one."""

    def __init__(self, run: Run, learner: Learner, steps: int | None, minutes: float) -> None:
        self.run = run
        self._learner = learner
        self._steps, self._minutes = steps, minutes
        self._last = time.monotonic()

    def save(self, position: Position) -> None:
        save_snapshot(self.run.checkpoint, self._learner, position)
        self._last = time.monotonic()

    def save_if_due(self, position: Position) -> None:
        by_steps = self._steps is not None and position.global_step % self._steps == 0
        if by_steps or time.monotonic() - self._last > 60 * self._minutes:
            self.save(position)


class _Pace:
    """The clock of this process: images a second and the share of time spent waiting for them."""

    def __init__(self) -> None:
        self._images = self._steps = 0
        self._seconds = self._epoch_seconds = self._epoch_waiting = 0.0
        self._mark = time.perf_counter()

    def timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """An epoch's batches."""
        self._epoch_seconds = self._epoch_waiting = 0.0
        self._mark = time.perf_counter()
        for batch in batches:
            self._epoch_waiting += batch.waited
            yield batch

    def stepped(self, images: int) -> float:
        """Seconds since the step before, waiting for the batch included."""
        now = time.perf_counter()
        seconds, self._mark = now - self._mark, now
        self._images, self._steps, self._seconds = self._images + images, self._steps + 1, self._seconds + seconds
        self._epoch_seconds += seconds
        return seconds

    @property
    def images_per_second(self) -> float:
        return self._images / self._seconds if self._seconds else 0.0

    @property
    def seconds_a_step(self) -> float:
        return self._seconds / self._steps if self._steps else 0.0

    @property
    def waited_share(self) -> float:
        """Of the epoch's time so far."""
        return self._epoch_waiting / self._epoch_seconds if self._epoch_seconds else 0.0
