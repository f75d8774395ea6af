"""Whether a run may be continued: with the data, the classes and the recipe that it began with, or by force."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from resnetkit.catalog.recipe import check_fields, recipe_from_dict
from resnetkit.data.dataset import DataSet
from resnetkit.data.known import Progress
from resnetkit.data.opening import open_data
from resnetkit.data.splitting import hold_out
from resnetkit.errors import RunError
from resnetkit.training.inventory import Inventory
from resnetkit.training.plan import Plan
from resnetkit.training.run import Run

_OWN_MATTER = ("data.", "device")  # data is compared as it is, wherever it lies; a device is no part of the answer
_SPLIT = ("val_share", "data.val_share", "data.split_seed")
"""what decides which images are held out"""
_BROKEN = "data.skip_broken"
_NETWORK = (
    "model.", "larger_models", "preprocess.", "image_size", "test_size", "crop_share", "crop_mode", "interpolation",
    "normalise_by", "layer_decay", "freeze", "head_epochs",
)  # fmt: skip
"""what the tensors of a checkpoint were made for"""
_DECIDED = (
    "batch_size", "lr", "augmentation", "flip", "freeze_norm", "mirrored_weights", "cutmix", "precision", "kernels",
)  # fmt: skip
"""what a run decides as it begins, where it is left open"""


@dataclass(frozen=True)
class Continuation:
    """A run to be continued: its plan, its data, and what about them is another than when it began."""

    plan: Plan
    dataset: DataSet
    changes: tuple[str, ...] = ()
    same_optimiser: bool = True
    other_images: bool = False
    learnt: frozenset[str] = frozenset()
    """the images that it has learnt from so far, by name, as far as they were written down"""


def continuation(
    run: Run,
    source: str | os.PathLike[str] | None,
    overrides: Mapping[str, Any],
    *,
    force: bool,
    progress: Progress | None = None,
) -> Continuation:
    """What `run` goes on with, where `source` or some fields of the recipe may have been given anew.

    `progress` is told of a download. Raises RunError that lists the differences, unless `force`; for some of them even
    then.
    """
    check_fields(overrides)  # a wrong one is named before anything is opened
    found = Plan.read(run.recipe)
    begun = Plan.read(run.begun) if run.begun.is_file() else found
    plan = replace(found, recipe=recipe_from_dict({**found.recipe.to_dict(), **overrides}))
    if "epochs" in overrides:  # which say how long from now on, in place of a time
        plan = replace(plan, budget=None)
    where = found.data.source if source is None else os.fspath(source)
    dataset = open_data(where, channels=plan.model.in_chans, val_share=0, progress=progress)
    of_data = _changes_of_data(run, begun, dataset)
    of_plan = changes_of_plan(begun, plan)
    if not of_data and not of_plan:
        return Continuation(plan, dataset)
    if left_open := [name for name in _DECIDED if name in of_plan and getattr(plan.recipe, name) in (None, "auto")]:
        raise RunError(
            f"{run.path} cannot be continued with {of_plan[left_open[0]]}: a run decides that as it begins; "
            "give a value"
        )
    said = "; ".join([*of_plan.values(), *of_data])
    if of_plan.keys() & set(_SPLIT):
        raise RunError(
            f"{run.path} cannot be continued with this change: {said}. It has learnt from images that would be held "
            "out, or its best score is on images that would not be: train anew with another --val-share or --seed"
        )
    if plan.recipe.mirrored_weights and not begun.recipe.mirrored_weights:
        raise RunError(
            f"{run.path} cannot be continued with this change: {said}. Its weights have learnt left and right apart: "
            "train anew"
        )
    fixed = [key for key in of_plan if key.startswith(_NETWORK)]
    if fixed or dataset.num_classes != begun.data.num_classes:
        why = of_plan[fixed[0]] if fixed else f"{begun.data.num_classes} → {dataset.num_classes} classes"
        raise RunError(
            f"{run.path} cannot be continued with this change: {said}. Its checkpoint does not fit ({why}): begin a "
            f"new run from its weights with resnetkit train {where} --model {run.path}"
        )
    if not force:
        raise RunError(
            f"{run.path} was begun with something else: {said}. Put it back, or continue with the change with --force"
        )
    data = replace(
        plan.data, source=os.path.abspath(where) if os.path.exists(where) else where,
        fingerprint=dataset.fingerprint, class_names=dataset.class_names,
    )  # fmt: skip
    return Continuation(
        replace(plan, data=data), dataset, (*of_plan.values(), *of_data),
        same_optimiser=plan.recipe.optimiser == begun.recipe.optimiser,
        other_images=bool(of_data),
        learnt=_learnt(run, begun) if of_data else frozenset(),
    )  # fmt: skip


def changes_of_plan(before: Plan, after: Plan) -> dict[str, str]:
    """Each field that is another, as `epochs: 3 → 40`."""
    old, new = before.flat(), after.flat()
    compared = [key for key in {**old, **new} if not key.startswith(_OWN_MATTER) or key in (*_SPLIT, _BROKEN)]
    keys = [key for key in compared if old.get(key) != new.get(key)]
    return {
        key.removeprefix("recipe."): f"{key.removeprefix('recipe.')}: {old.get(key)} → {new.get(key)}" for key in keys
    }


def _changes_of_data(run: Run, begun: Plan, dataset: DataSet) -> list[str]:
    before = Inventory.read(run.inventory)
    changes = before.changes(Inventory.of(dataset)) if before else []
    if dataset.fingerprint != begun.data.fingerprint and not changes:
        return [f"the images at {dataset.name} are others than before"]
    return changes


def _learnt(run: Run, begun: Plan) -> frozenset[str]:
    """The training images of the data as it was, less those that were held out of it."""
    before = Inventory.read(run.inventory)
    if before is None or before.parts is None:
        return frozenset()
    names, labels = list(before.parts["train"]), np.array(list(before.parts["train"].values()), np.int64)
    if "val" in before.parts or not begun.data.val_share:
        return frozenset(names)
    kept, _ = hold_out(
        labels, round(begun.data.val_share * len(labels)), begun.data.split_seed, begun.data.together
    )  # fmt: skip
    return frozenset(names[index] for index in kept)
