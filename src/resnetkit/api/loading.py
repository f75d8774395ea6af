"""The images that training feeds, made from a recipe: one place for training itself and for those who want to see."""

from dataclasses import replace

import torch

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.catalog.recipe import Recipe
from resnetkit.data.augmentation import PadAndCrop, RandomResizedCrop, policy_for, train_transform
from resnetkit.data.balancing import class_counts, class_weights, draw_weights
from resnetkit.data.loader import Loader
from resnetkit.data.resident import ResidentLoader, fits
from resnetkit.data.sources import Source
from resnetkit.data.transforms import EvalTransform
from resnetkit.training.images import GrowingImages, Size, TrainingImages
from resnetkit.training.planning import pixel_policies, training_sizes


def training_images(
    recipe: Recipe,
    preprocess: Preprocess,
    source: Source,
    *,
    seed: int,
    share: tuple[int, int] = (0, 1),
    workers: int | None,
    device: torch.device | None = None,
) -> TrainingImages:
    """Batches of augmented images, in the order of `seed`, as a resolved recipe says; of growing size if it does.

    Of each batch only the `share` of a process, as `Loader` has it. Small images are kept and made on the `device` that
    learns from them, where it is a GPU and has room.
    """
    weights = source.weights
    if recipe.balance == "sampler":
        weights = draw_weights(source, class_weights(class_counts(source), recipe.balance_beta))

    def batches(size: Size | None) -> Loader | ResidentLoader:
        sized = preprocess.restated(image_size=size)
        policy = policy_for(sized.size, kind=recipe.augmentation, flip=bool(recipe.flip))
        match policy:
            case RandomResizedCrop():
                policy = replace(policy, scale=(recipe.crop_scale, 1.0))
            case PadAndCrop():
                policy = replace(policy, mode=recipe.padding_mode)
        transform = train_transform(policy, sized, pixel_policies(recipe))
        loader = Loader(
            source, transform, recipe.batch_size or 1,
            shuffle_seed=seed, weights=weights, repeats=recipe.repeats, share=share,
            workers=workers,
        )  # fmt: skip
        if device is None or not fits(loader, device):
            return loader
        return ResidentLoader(loader, EvalTransform(sized), device)

    return GrowingImages(batches, training_sizes(recipe, preprocess))
