"""From what a person asked for to a plan, its images and its network: all that comes before the first step."""

import math
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from resnetkit.api.choosing import (
    choose,
    former_plan,
    named_model,
    named_recipe,
    published_name,
    said,
    share_to_hold_out,
)
from resnetkit.api.loading import training_images
from resnetkit.catalog.architectures import Architecture
from resnetkit.catalog.recipe import Kernels, Precision, Recipe, recipe_from_dict
from resnetkit.data.cache import with_cache
from resnetkit.data.dataset import DataSet
from resnetkit.data.loader import Loader
from resnetkit.data.opening import open_data, with_validation
from resnetkit.data.places import cache_folder
from resnetkit.data.scanning import Scan, scan
from resnetkit.data.transforms import EvalTransform
from resnetkit.deployment.devices import best_device
from resnetkit.deployment.opening import open_model
from resnetkit.errors import InvalidArgument
from resnetkit.models import Network, build, fit_weights
from resnetkit.tasks.bf16 import SLOW, has_native_bf16
from resnetkit.training.batch_size import choose_batch
from resnetkit.training.images import TrainingImages
from resnetkit.training.plan import DataPlan, ModelPlan, Plan
from resnetkit.training.planning import (
    ImageFacts,
    cached_side,
    check_trainable,
    largest_batch,
    preprocess_for,
)
from resnetkit.training.precision import faster_precision
from resnetkit.training.processes import Processes, local_device
from resnetkit.training.progress import Listener, Preparing, Remark
from resnetkit.training.running import choose_kernels
from resnetkit.training.symmetry import choose_symmetry


@dataclass(frozen=True)
class Prepared:
    """A plan before any probe, and its data."""

    plan: Plan
    found: DataSet
    """as it was found"""
    dataset: DataSet
    """as it is learnt from: without broken files, perhaps from a cache"""
    former: Plan | None
    """the run whose recipe is used again"""
    fit_batch: bool = False
    """whether the batch is to be as large as fits into memory"""
    rate_stated: bool = False
    """whether somebody said the learning rate, so that it does not follow the batch"""


@dataclass(frozen=True)
class Ready:
    """All that training needs, with what this machine decides decided."""

    network: Network
    plan: Plan
    train: TrainingImages
    val: Loader | None


def prepare(
    data: str | os.PathLike[str] | None,
    *,
    model: str | Path | Architecture | None = None,
    pretrained: bool = False,
    recipe: str | Path | Recipe | None = None,
    seed: int | None = None,
    skip_broken: bool = False,
    cache: bool = False,
    deterministic: bool = False,
    device: str | None = None,
    workers: int | None = None,
    listener: Listener,
    **fields: Any,
) -> Prepared:
    """Decide all that `train` leaves open, but for what takes a probe; its arguments mean what they mean there."""
    overrides = {key: value for key, value in fields.items() if value is not None}
    fit_batch = overrides.get("batch_size") == "auto"
    if fit_batch:
        del overrides["batch_size"]
    # Whatever was named wrongly is said before anything is opened.
    base = named_recipe(recipe)
    recipe_from_dict({**base.fields, **overrides})
    former = former_plan(recipe)
    if former is not None:
        data = former.data.source if data is None else data
        model = (former.model.weights or former.model.row) if model is None else model
        seed = former.seed if seed is None else seed
        device = former.device if device is None else device
        skip_broken = skip_broken or former.data.skip_broken
        cache = cache or former.data.cache_side is not None
        deterministic = deterministic or former.deterministic
    if data is None:
        raise InvalidArgument("train needs DATA: a folder of pictures, an .npz file, or digits")
    if pretrained:
        model = published_name(model)
    chosen_model = None if model is None else named_model(model)
    seed = 0 if seed is None else seed
    if not 0 <= seed < 2**63:
        raise InvalidArgument(f"seed {seed}: it is a whole number from 0 to 2**63 - 1")
    device = best_device(device)
    dataset = open_data(data, val_share=0, progress=lambda *news: listener(Preparing(*news)))
    check_trainable(dataset)
    overrides["val_share"] = share_to_hold_out(base, overrides, len(dataset.split("train")))
    cache_side = cached_side(said(base, chosen_model, overrides)) if cache else None
    found = dataset
    dataset, seen = inspect(dataset, skip_broken, cache_side, workers, listener)
    # What is held out is decided once the copies are known, so that none falls on both sides.
    dataset = split(dataset, seed, overrides["val_share"], seen.copies, seen.broken, listener)
    images = ImageFacts(seen.height, seen.width, seen.normalisation)
    chosen, start = choose(dataset, images, base, chosen_model, overrides)
    set_determinism(deterministic)
    plan = Plan(
        data=DataPlan(
            source=_source(data), fingerprint=dataset.fingerprint, class_names=dataset.class_names,
            num_classes=dataset.num_classes, task=dataset.task, val_share=chosen.val_share, split_seed=seed,
            skip_broken=skip_broken, cache_side=cache_side,
            together=seen.copies if dataset.val_from_train else (),
        ),
        model=ModelPlan(name=start.name, row=start.row, in_chans=dataset.channels, weights=start.weights),
        recipe=chosen,
        preprocess=preprocess_for(chosen, images, dataset.channels, start.known),
        seed=seed,
        device=device,
        deterministic=deterministic,
    )  # fmt: skip
    return Prepared(plan, found, dataset, former, fit_batch, "lr" in overrides)


def made_ready(prepared: Prepared, workers: int | None, processes: Processes, listener: Listener) -> Ready:
    """The network and the images of a plan, and in the plan what depends on the network or takes a probe."""
    prepared = replace(prepared, plan=_with_symmetry(prepared.plan))
    plan, network = prepared.plan, new_network(prepared.plan)
    if prepared.fit_batch:
        if processes.count > 1:
            raise InvalidArgument(
                f"--batch-size auto is for one process, and this job has {processes.count}: give a number"
            )
        plan = _with_batch_that_fits(prepared, network, listener)
    train, val = loaders(plan, prepared.dataset, workers, processes)
    kernels = choose_kernels(plan.recipe.kernels, network, processes.count)
    plan = plan.with_machine(precision=precision_of(network, plan, train, kernels), kernels=kernels)
    if plan.recipe.precision == "bf16" and not has_native_bf16(torch.device(plan.device)):
        listener(Remark(f"note: {SLOW}"))
    return Ready(network, plan, train, val)


def _with_symmetry(plan: Plan) -> Plan:
    weights = plan.model.weights is not None
    mirrored = choose_symmetry(plan.recipe, plan.model.row, weights=weights)
    return replace(plan, recipe=replace(plan.recipe, mirrored_weights=mirrored))


def _with_batch_that_fits(prepared: Prepared, network: Network, listener: Listener) -> Plan:
    plan = prepared.plan
    choice = choose_batch(network, plan, largest_batch(len(prepared.dataset.split("train"))))
    recipe = replace(plan.recipe.with_batch(choice.images), accumulate=choice.pieces)
    if prepared.rate_stated:
        recipe = replace(recipe, lr=plan.recipe.lr)
    pieces = f" in {choice.pieces} pieces" if choice.pieces > 1 else ""
    listener(Remark(f"note: batch size auto: {choice.images} images a step{pieces} ({choice.reason})"))
    return replace(plan, recipe=recipe)


def inspect(
    dataset: DataSet, skip_broken: bool, cache_side: int | None, workers: int | None, listener: Listener
) -> tuple[DataSet, Scan]:
    """Decode every image of train and val once, so that a broken file stops the run before its first step."""
    for note in dataset.notes:
        listener(Remark(f"note: {note}"))
    total = sum(len(dataset.splits[part]) for part in ("train", "val") if part in dataset.splits)
    if cache_side:
        folder = cache_folder() / "pixels"
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


def split(
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


def new_network(plan: Plan) -> Network:
    """The network before its first step: weights by the seed, or from the file it starts from."""
    torch.manual_seed(plan.seed)
    network = build(
        plan.model.row, num_classes=plan.data.num_classes, in_chans=plan.model.in_chans,
        drop_rate=plan.recipe.dropout, drop_path_rate=plan.recipe.drop_path,
    )  # fmt: skip
    if plan.model.weights is not None:
        _start_from(network, plan.model.weights)
    network.to(local_device(plan.device)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def _start_from(network: Network, weights: str) -> None:
    """Take the weights of a file or a published name; a classifier of other classes stays new."""
    network.load_state_dict(fit_weights(network, open_model(weights).network.state_dict()))


def loaders(
    plan: Plan, dataset: DataSet, workers: int | None, processes: Processes
) -> tuple[TrainingImages, Loader | None]:
    """The images to learn from and those held out, of both the share of this process."""
    train = training_images(
        plan.recipe, plan.preprocess, dataset.split("train"),
        seed=plan.seed, share=(processes.rank, processes.count), workers=workers,
        device=torch.device(local_device(plan.device)),
    )  # fmt: skip
    val = None
    if "val" in dataset.splits and len(dataset.split("val")):
        # Scoring keeps less of each image than learning, but no more of them may be in memory at once than fit there.
        batch_size = 2 * math.ceil((plan.recipe.batch_size or 1) / plan.recipe.accumulate)
        held = processes.part_of(dataset.split("val"))
        val = Loader(held, EvalTransform(plan.preprocess), batch_size, workers=workers)
    return train, val


def precision_of(network: Network, plan: Plan, images: TrainingImages, kernels: Kernels) -> Precision:
    """The plan's precision, or the one that a probe finds to be faster."""
    if plan.recipe.precision != "auto":
        return plan.recipe.precision
    if plan.deterministic:
        return "float32"
    batches = images.batches(progress=1.0)  # at full size, where most of the time goes
    batch = next(batches)
    batches.close()
    return faster_precision(network, batch.images, batch.labels, preprocess=plan.preprocess, kernels=kernels)


def set_determinism(deterministic: bool) -> None:
    """Let torch use deterministic algorithms only, or any."""
    if deterministic:
        # Without a workspace of a fixed size cuBLAS has none, and torch refuses; read when cuBLAS is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)


def _source(data: str | os.PathLike[str]) -> str:
    """An absolute path, so that the run can be resumed from any folder; a built-in name stays one."""
    return os.path.abspath(data) if os.path.exists(data) else os.fspath(data)
