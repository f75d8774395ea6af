"""The first batch of a training, as the network would get it, on one picture."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from resnetkit.api.choosing import Start, choose, named_recipe, share_to_hold_out
from resnetkit.api.loading import training_images
from resnetkit.catalog.recipe import Recipe
from resnetkit.data.contact_sheet import contact_sheet
from resnetkit.data.dataset import DataSet
from resnetkit.data.mixing import Mixing, mix, one_hot
from resnetkit.data.opening import with_validation
from resnetkit.training.planning import ImageFacts, check_trainable, preprocess_for, with_passes

_SHOWN = 32


def show_training(
    dataset: DataSet,
    images: ImageFacts,
    *,
    recipe: str | Path | Recipe | None,
    start: Start | None,
    fields: Mapping[str, Any],
    copies: Sequence[Sequence[int]],
    broken: Collection[str],
    workers: int | None,
) -> Image.Image:
    """What `train` with these arguments and seed 0 feeds in its first step: order, augmentation and mixing are its own.

    `dataset` is not yet split; `copies` are groups of its training images, `broken` the names of those left out.
    """
    base = named_recipe(recipe)
    share = share_to_hold_out(base, fields, len(dataset.split("train")))
    dataset = with_validation(dataset, 0, share, copies).without(broken)
    check_trainable(dataset)
    chosen, start = choose(dataset, images, base, start, {**fields, "val_share": share})
    chosen = with_passes(chosen, chosen.epochs)
    preprocess = preprocess_for(chosen, images, dataset.channels, start.known)
    source = dataset.split("train")
    batches = training_images(chosen, preprocess, source, seed=0, workers=workers).batches()
    batch = next(batches)
    batches.close()
    targets = one_hot(batch.labels, dataset.num_classes) if batch.targets is None else batch.targets
    mixing = Mixing(mixup=chosen.mixup, cutmix=chosen.cutmix or 0.0, share=chosen.mix_share)
    pixels, targets = mix(batch.images, targets, mixing, seed=0, step=0)
    names = dataset.class_names or tuple(map(str, range(dataset.num_classes)))
    captions = [
        _caption(target, names, source.name(int(index)))
        for target, index in zip(targets[:_SHOWN], batch.indices[:_SHOWN], strict=True)
    ]
    height, width = pixels.shape[-2:]
    title = f"{dataset.name}: what training feeds first, {width} by {height} px, {_description(chosen)}"
    return contact_sheet(pixels[:_SHOWN], captions, title)


def _caption(target: Tensor, names: Sequence[str], file: str) -> tuple[str, str]:
    """The class or classes above the file's name; of mixed images the shares of both."""
    labels = sorted(target.nonzero().flatten().tolist(), key=lambda label: -float(target[label]))
    if bool((target[labels] == 1).all()):
        return ", ".join(names[label] for label in labels) or "none", file
    shares = [f"{float(target[label]):.2f} {names[label]}" for label in labels]
    return shares[0], " + ".join(shares[1:])


def _description(recipe: Recipe) -> str:
    """The augmentation in the recipe's own words: fields that are not at rest."""
    said = [f"augmentation {recipe.augmentation}", "mirror" if recipe.flip else "no mirror"]
    usual = Recipe()
    for name in ("padding_mode", "auto_augment", "colour_jitter", "greyscale", "erasing", "mixup", "cutmix", "repeats"):
        value = getattr(recipe, name)
        if value != getattr(usual, name):
            said.append(f"{name.replace('_', ' ')} {value}")
    return ", ".join(said)
