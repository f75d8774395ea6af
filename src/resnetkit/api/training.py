"""Train a network, or continue a run."""

import math
import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from resnetkit.api.choosing import choose, former_plan, named_model, named_recipe, published_name
from resnetkit.api.loading import training_images
from resnetkit.catalog.architectures import Architecture
from resnetkit.catalog.recipe import Kernels, Precision, Recipe, recipe_from_dict
from resnetkit.data.cache import with_cache
from resnetkit.data.dataset import DataSet
from resnetkit.data.loader import Loader
from resnetkit.data.opening import check_share, open_data, with_validation
from resnetkit.data.places import kept_in
from resnetkit.data.scanning import Scan, scan
from resnetkit.data.transforms import EvalTransform
from resnetkit.deployment.devices import best_device
from resnetkit.deployment.opening import open_model
from resnetkit.errors import InvalidArgument, RunError
from resnetkit.evaluation.scoring import Measure
from resnetkit.models import Network, build, fit_weights
from resnetkit.training.duration import plan_budget
from resnetkit.training.images import TrainingImages
from resnetkit.training.loop import Outcome, fit
from resnetkit.training.plan import DataPlan, ModelPlan, Plan
from resnetkit.training.planning import (
    ImageFacts,
    cached_side,
    check_trainable,
    preprocess_for,
)
from resnetkit.training.precision import faster_precision
from resnetkit.training.progress import Listener, Preparing, Remark, nobody
from resnetkit.training.run import Run
from resnetkit.training.running import choose_kernels


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
    val_share: float | None = None,
    skip_broken: bool = False,
    cache: bool = False,
    deterministic: bool = False,
    checkpoint_steps: int | None = None,
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
    With `cache` files are decoded once and their pixels kept on disk, at the short side from which validation crops.
    Raises RunError, DataError and their kin; Interrupted on SIGINT and SIGTERM, after a checkpoint is written.
    """
    began = time.monotonic() if began is None else began
    if minutes is not None and not 0 < minutes < math.inf:
        raise InvalidArgument(f"minutes is {minutes}: it must be more than 0")
    overrides = {key: value for key, value in fields.items() if value is not None}
    recipe_from_dict(overrides)  # a wrong field is named before anything is opened
    former = former_plan(recipe)
    if former is not None:
        data = former.data.source if data is None else data
        model = (former.model.weights or former.model.row) if model is None else model
        seed = former.seed if seed is None else seed
        val_share = former.data.val_share if val_share is None else val_share
        device = former.device if device is None else device
        skip_broken = skip_broken or former.data.skip_broken
        cache = cache or former.data.cache_side is not None
        deterministic = deterministic or former.deterministic
    if data is None:
        raise InvalidArgument("train needs DATA: a folder of pictures, an .npz file, or digits")
    # Whatever was named wrongly is said before any image is read.
    base = named_recipe(recipe)
    if pretrained:
        model = published_name(model)
    chosen_model = None if model is None else named_model(model)
    seed = 0 if seed is None else seed
    if seed < 0:
        raise InvalidArgument(f"seed {seed}: it is a whole number from 0")
    device = best_device(device)
    val_share = 0.1 if val_share is None else val_share
    check_share(val_share)
    dataset = open_data(data, val_share=0, progress=lambda *news: listener(Preparing(*news)))
    check_trainable(dataset)
    cache_side = cached_side({**base.fields, **overrides}) if cache else None
    dataset, found = _inspect(dataset, skip_broken, cache_side, workers, listener)
    # What is held out is decided once the copies are known, so that none falls on both sides.
    dataset = _split(dataset, seed, val_share, found.copies, found.broken, listener)
    images = ImageFacts(found.height, found.width)
    chosen, start = choose(dataset, images, base, chosen_model, overrides)
    _set_determinism(deterministic)
    plan = Plan(
        data=DataPlan(
            source=_source(data), fingerprint=dataset.fingerprint, class_names=dataset.class_names,
            num_classes=dataset.num_classes, task=dataset.task, val_share=val_share, split_seed=seed,
            skip_broken=skip_broken, cache_side=cache_side,
            together=found.copies if dataset.val_from_train else (),
        ),
        model=ModelPlan(name=start.name, row=start.row, in_chans=dataset.channels, weights=start.weights),
        recipe=chosen,
        preprocess=preprocess_for(chosen, images, dataset.channels, start.normalisation),
        seed=seed,
        device=device,
        deterministic=deterministic,
    )  # fmt: skip
    network = _new_network(plan)
    loader, val = _loaders(plan, dataset, workers)
    kernels = choose_kernels(plan.recipe.kernels, network)
    plan = plan.with_machine(precision=_precision(network, plan, loader, kernels), kernels=kernels)
    if minutes is not None:
        plan = replace(plan, budget=plan_budget(minutes, network, plan, loader, val, began=began))
    elif former is not None and "epochs" not in overrides:
        plan = replace(plan, budget=former.budget)
    run = Run.create(output, kind)
    plan.write(run.recipe)
    return _result(
        run,
        plan,
        fit(network, plan, run, loader, val, checkpoint_steps=checkpoint_steps, began=began, listener=listener),
    )


def resume(
    run: str | Path,
    *,
    checkpoint_steps: int | None = None,
    began: float | None = None,
    workers: int | None = None,
    listener: Listener = nobody,
) -> TrainResult:
    """Continue a run from its newest intact checkpoint to its last epoch; the end is that of a run never stopped."""
    began = time.monotonic() if began is None else began
    existing = Run.existing(run)
    plan = Plan.read(existing.recipe)
    dataset = open_data(plan.data.source, channels=plan.model.in_chans, val_share=0)
    if dataset.fingerprint != plan.data.fingerprint:
        raise RunError(
            f"the data at {plan.data.source} is not what {existing.path} was trained on: images or classes were added, "
            "removed or renamed; put them back, or train anew"
        )
    broken: Mapping[str, str] = {}
    if plan.data.skip_broken or plan.data.cache_side:
        dataset, found = _inspect(dataset, plan.data.skip_broken, plan.data.cache_side, workers, listener)
        broken = found.broken
    dataset = _split(dataset, plan.data.split_seed, plan.data.val_share, plan.data.together, broken, nobody)
    _set_determinism(plan.deterministic)
    network = _new_network(replace(plan, device=best_device(plan.device)))
    loader, val = _loaders(plan, dataset, workers)
    outcome = fit(
        network, plan, existing, loader, val, checkpoint_steps=checkpoint_steps, began=began, listener=listener
    )
    return _result(existing, plan, outcome)


def _inspect(
    dataset: DataSet, skip_broken: bool, cache_side: int | None, workers: int | None, listener: Listener
) -> tuple[DataSet, Scan]:
    """Decode every image of train and val once, so that a broken file stops the run before its first step."""
    for note in dataset.notes:
        listener(Remark(f"note: {note}"))
    total = sum(len(dataset.splits[part]) for part in ("train", "val") if part in dataset.splits)
    if cache_side:
        folder = kept_in("pixels")
        listener(Remark(f"note: decoded pixels are kept in {folder}, at a short side of {cache_side} or less"))
        tell = partial(_tell, listener, "decoding into the cache", total)
        dataset = with_cache(dataset, folder, short_side=cache_side, workers=workers, progress=tell)
    parts = [dataset.splits[part] for part in ("train", "val") if part in dataset.splits]
    found = scan(*parts, workers=workers, progress=partial(_tell, listener, "looking at the images", total))
    if not skip_broken:
        found.refuse_broken()
    elif found.broken:
        listener(Remark(f"note: {len(found.broken)} broken of {found.n} images left out: {', '.join(found.broken)}"))
    return dataset, found


def _split(
    dataset: DataSet, seed: int, val_share: float, together: Sequence[Sequence[int]], broken: Collection[str],
    listener: Listener,
) -> DataSet:  # fmt: skip
    """Hold out validation images where the data has no part for them, then leave out what is broken."""
    split = with_validation(dataset, seed, val_share, together)
    for note in split.notes[len(dataset.notes) :]:
        listener(Remark(f"note: {note}"))
    if broken:
        split = split.without(broken)
        check_trainable(split)
    return split


def _tell(listener: Listener, doing: str, total: int, done: int) -> None:
    listener(Preparing(doing, done, total))


def _new_network(plan: Plan) -> Network:
    """The network before its first step: weights by the seed, or from the file it starts from."""
    torch.manual_seed(plan.seed)
    network = build(
        plan.model.row, num_classes=plan.data.num_classes, in_chans=plan.model.in_chans,
        drop_rate=plan.recipe.dropout, drop_path_rate=plan.recipe.drop_path,
    )  # fmt: skip
    if plan.model.weights is not None:
        _start_from(network, plan.model.weights)
    network.to(plan.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def _start_from(network: Network, weights: str) -> None:
    """Take the weights of a file or a published name; a classifier of other classes stays new."""
    network.load_state_dict(fit_weights(network, open_model(weights).network.state_dict()))


def _loaders(plan: Plan, dataset: DataSet, workers: int | None) -> tuple[TrainingImages, Loader | None]:
    train = training_images(plan.recipe, plan.preprocess, dataset.split("train"), seed=plan.seed, workers=workers)
    val = None
    if "val" in dataset.splits and len(dataset.split("val")):
        batch_size = 2 * (plan.recipe.batch_size or 1)
        val = Loader(dataset.split("val"), EvalTransform(plan.preprocess), batch_size, workers=workers)
    return train, val


def _precision(network: Network, plan: Plan, images: TrainingImages, kernels: Kernels) -> Precision:
    if plan.recipe.precision != "auto":
        return plan.recipe.precision
    if plan.deterministic:
        return "float32"
    batches = images.batches(progress=1.0)  # at full size, where most of the time goes
    batch = next(batches)
    batches.close()
    return faster_precision(network, batch.images, batch.labels, preprocess=plan.preprocess, kernels=kernels)


def _set_determinism(deterministic: bool) -> None:
    torch.use_deterministic_algorithms(deterministic)


def _source(data: str | os.PathLike[str]) -> str:
    """An absolute path, so that the run can be resumed from any folder; a built-in name stays one."""
    return os.path.abspath(data) if os.path.exists(data) else os.fspath(data)


def _result(run: Run, plan: Plan, outcome: Outcome) -> TrainResult:
    return TrainResult(
        run=run.path, data=plan.data.source, best_epoch=outcome.best_epoch, best_score=outcome.best_score,
        measure=outcome.measure,
        best_loss=outcome.best_loss, val_n=outcome.val_n, epochs=outcome.epochs, seconds=outcome.seconds,
        images_per_second=outcome.images_per_second,
    )  # fmt: skip
