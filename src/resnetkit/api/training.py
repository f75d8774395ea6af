"""Train a network, or continue a run."""

import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from resnetkit.api.budgeting import ready_in
from resnetkit.api.preparing import inspect, loaders, made_ready, new_network, prepare, set_determinism, split
from resnetkit.api.resuming import Continuation, continuation
from resnetkit.catalog.architectures import Architecture
from resnetkit.catalog.recipe import Recipe
from resnetkit.data.dataset import DataSet
from resnetkit.deployment.devices import best_device
from resnetkit.errors import InvalidArgument
from resnetkit.evaluation.scoring import Measure
from resnetkit.training.duration import progress_at
from resnetkit.training.inventory import Inventory
from resnetkit.training.loop import Outcome, fit
from resnetkit.training.plan import Plan
from resnetkit.training.planning import with_passes
from resnetkit.training.processes import is_first, joined
from resnetkit.training.progress import Listener, Preparing, Remark, nobody
from resnetkit.training.run import Run
from resnetkit.training.running import choose_kernels
from resnetkit.training.snapshot import restart_epoch


@dataclass(frozen=True)
class TrainResult:
    """A finished run: its folder, its model file and what the best epoch scored on the images held out to choose it."""

    run: Path
    data: str
    best_epoch: int
    best_score: float | None
    measure: Measure
    """what the best epoch was chosen by: "top1", or with several labels an image "mean_ap" """
    best_loss: float | None
    val_n: int
    epochs: int
    seconds: float
    images_per_second: float

    @property
    def best_top1(self) -> float | None:
        """The best epoch's accuracy; None with several labels an image, or where none was held out."""
        return self.best_score if self.measure == "top1" else None

    @property
    def model(self) -> Path:
        """The best model."""
        return Run(self.run).model

    def to_dict(self) -> dict[str, Any]:
        """`{run, best, epochs, seconds, images_per_second}`; shares of 1."""
        return {
            "run": str(self.run),
            "model": str(self.model),
            "best": {
                "epoch": self.best_epoch, "split": "val", "n": self.val_n,
                self.measure: self.best_score, "loss": self.best_loss,
            },
            "epochs": self.epochs,
            "seconds": self.seconds,
            "images_per_second": self.images_per_second,
        }  # fmt: skip


def train(
    data: str | os.PathLike[str] | None = None,
    *,
    model: str | Path | Architecture | None = None,
    pretrained: bool = False,
    recipe: str | Path | Recipe | None = None,
    output: str | Path | None = None,
    kind: str = "train",
    seed: int | None = None,
    skip_broken: bool = False,
    cache: bool = False,
    deterministic: bool = False,
    checkpoint_steps: int | None = None,
    checkpoint_minutes: float = 10.0,
    minutes: float | None = None,
    began: float | None = None,
    device: str | None = None,
    workers: int | None = None,
    listener: Listener = nobody,
    **fields: Any,
) -> TrainResult:
    """Train on labelled pictures and return the finished run.

    `model` is an architecture's name or row, or a model file, run or published weights to start from; with
    `pretrained` the published weights of the architecture it names. `recipe` is a name, a row, or a YAML file (with a
    run's `recipe.yaml`, `data` and `model` may be left out). `fields` override the recipe's, such as `epochs=10`; None
    means not given. Without `output` the run is runs/KIND.
    `minutes` is the time for everything from `began` (`time.monotonic()`, by default now) to the finished run: it
    replaces the recipe's epochs, and the learning rate reaches zero as the time runs out. With `deterministic` the
    number of steps is fixed beforehand, so that the run can be repeated but only about keeps the time.
    `batch_size="auto"` takes the largest batch that fits into memory, and else computes the recipe's own in pieces.
    With `cache` files are decoded once and their pixels kept on disk, at the short side from which validation crops.
    A checkpoint is written after each epoch, when the last one is `checkpoint_minutes` old, and after every
    `checkpoint_steps` steps if given.
    Raises RunError, DataError and their kin; Interrupted on SIGINT and SIGTERM, after a checkpoint is written.
    """
    began = time.monotonic() if began is None else began
    listener = listener if is_first() else nobody
    _check_positive(minutes=minutes, checkpoint_steps=checkpoint_steps, checkpoint_minutes=checkpoint_minutes)
    prepared = prepare(
        data, model=model, pretrained=pretrained, recipe=recipe, seed=seed, skip_broken=skip_broken, cache=cache,
        deterministic=deterministic, device=device, workers=workers, listener=listener, **fields,
    )  # fmt: skip
    with joined() as processes:
        if minutes is not None:
            ready = ready_in(minutes, prepared, workers, processes, listener, began=began)
        else:
            ready = made_ready(prepared, workers, processes, listener)
            if prepared.former is not None and fields.get("epochs") is None:
                ready = replace(ready, plan=replace(ready.plan, budget=prepared.former.budget))
        network, plan, loader, val = ready.network, ready.plan, ready.train, ready.val
        passes = plan.budget.steps / len(loader) if plan.budget else plan.recipe.epochs
        plan = replace(plan, recipe=with_passes(plan.recipe, passes))
        # What a probe chose in one process counts for all.
        plan = processes.told_by_first(plan)
        run = Run(processes.told_by_first(Run.create(output, kind).path if processes.first else Path()))
        if processes.first:
            _record(run, plan, prepared.found)
        outcome = fit(
            network, plan, run, loader, val,
            checkpoint_steps=checkpoint_steps, checkpoint_minutes=checkpoint_minutes, began=began,
            processes=processes, listener=listener,
        )  # fmt: skip
        return _result(run, plan, outcome)


def resume(
    run: str | Path,
    data: str | os.PathLike[str] | None = None,
    *,
    force: bool = False,
    checkpoint_steps: int | None = None,
    checkpoint_minutes: float = 10.0,
    began: float | None = None,
    device: str | None = None,
    workers: int | None = None,
    listener: Listener = nobody,
    **fields: Any,
) -> TrainResult:
    """Continue a run from its newest intact checkpoint to its last epoch; the end is that of a run never stopped.

    Where the data, its classes or the recipe (its file, or `fields` given here) are not those the run began with,
    RunError says in what, unless `force`: then the run goes on with them from the beginning of the epoch it is in.
    On another `device` than the one it was on, the numbers go on but for rounding.
    """
    began = time.monotonic() if began is None else began
    listener = listener if is_first() else nobody
    _check_positive(checkpoint_steps=checkpoint_steps, checkpoint_minutes=checkpoint_minutes)
    existing = Run.existing(run)
    overrides = {key: value for key, value in fields.items() if value is not None}
    going_on = continuation(
        existing, data, overrides, force=force, progress=lambda *news: listener(Preparing(*news))
    )  # fmt: skip
    plan, dataset = going_on.plan, going_on.dataset
    broken: Mapping[str, str] = {}
    if plan.data.skip_broken or plan.data.cache_side or going_on.other_images:
        dataset, seen = inspect(dataset, plan.data.skip_broken, plan.data.cache_side, workers, listener)
        broken = seen.broken
        if going_on.other_images:
            # The indices of copies are those of the images that are there now.
            plan = replace(plan, data=replace(plan.data, together=seen.copies))
    dataset = split(dataset, plan.data.split_seed, plan.data.val_share, plan.data.together, broken, nobody)
    set_determinism(plan.deterministic)
    moved = device is not None and device != plan.device
    plan = replace(plan, device=best_device(device or plan.device))
    network = new_network(plan)
    with joined() as processes:
        if processes.count > 1 or moved:
            plan = plan.with_machine(
                precision=plan.recipe.precision, kernels=choose_kernels("auto", network, processes.count)
            )
        loader, val = loaders(plan, dataset, workers, processes)
        if going_on.changes and processes.first:
            listener(Remark(f"note: continued by force with changes: {'; '.join(going_on.changes)}"))
            if going_on.other_images:
                _warn_of_learnt(going_on, dataset, listener)
            restart_epoch(
                existing.checkpoint, len(loader), same_optimiser=going_on.same_optimiser,
                same_images=not going_on.other_images,
                progress=partial(progress_at, plan, len(loader), counted=processes.count > 1),
            )  # fmt: skip
            _record(existing, plan, going_on.dataset)
        processes.told_by_first(None)  # the others wait until it is written
        outcome = fit(
            network, plan, existing, loader, val,
            checkpoint_steps=checkpoint_steps, checkpoint_minutes=checkpoint_minutes, began=began,
            processes=processes, listener=listener,
        )  # fmt: skip
        return _result(existing, plan, outcome)


def _check_positive(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not 0 < value < math.inf:
            raise InvalidArgument(f"{name} is {value}: it must be more than 0")


def _warn_of_learnt(going_on: Continuation, dataset: DataSet, listener: Listener) -> None:
    """Of what is held out now, the images that the run has learnt from: a score on them says little."""
    val = dataset.splits.get("val")
    if val is None:
        return
    learnt = sum(val.name(index) in going_on.learnt for index in range(len(val)))
    if learnt or not going_on.learnt:
        many = f"{learnt} of the {len(val)}" if going_on.learnt else f"some of the {len(val)}"
        listener(
            Remark(
                f"warning: {many} images that are held out now were learnt from before, so validation scores will be "
                "too good: for a score to rely on give the data a val or test part of its own, or train anew"
            )
        )


def _record(run: Run, plan: Plan, dataset: DataSet) -> None:
    """Write down what the run goes by, and a copy by which a later change is noticed; the recipe last."""
    Inventory.of(dataset).write(run.inventory)
    plan.write(run.begun)
    plan.write(run.recipe)


def _result(run: Run, plan: Plan, outcome: Outcome) -> TrainResult:
    return TrainResult(
        run=run.path, data=plan.data.source, best_epoch=outcome.best_epoch, best_score=outcome.best_score,
        measure=outcome.measure,
        best_loss=outcome.best_loss, val_n=outcome.val_n, epochs=outcome.epochs, seconds=outcome.seconds,
        images_per_second=outcome.images_per_second,
    )  # fmt: skip
