"""From what a person asked for to a plan in which nothing is left to be decided: the plain choices that suit most."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from resnetkit.catalog.preprocessing import Normalisation, Preprocess, usual_normalisation
from resnetkit.catalog.recipe import OptimiserKind, Recipe
from resnetkit.data.colour_jitter import ColourJitter
from resnetkit.data.dataset import DataSet
from resnetkit.data.greyscale import RandomGreyscale
from resnetkit.data.pixel_policies import PixelPolicy, RandAugment, RandomErasing, TrivialAugment
from resnetkit.errors import DataError

SMALL_IMAGE = 64
"""pixels; images up to this size keep it and get a network without an ImageNet stem"""

_PHOTO_SIZE = 224
_LARGEST_BATCH = 1024  # up to which a rate in proportion holds with no more than the usual warm-up
_FEW = 1000  # images, from which batch norm learns no better statistics than it has
# The peak rate at 128 images a step (docs/decisions/0003 for sgd); with other batches as `Recipe.with_batch` says.
_RATE_AT_128: Mapping[OptimiserKind, float] = {"sgd": 0.2, "adamw": 1e-3, "lamb": 5e-3 / 4, "muon": 1e-3}
_PASSES_FOR_CUTMIX = 60  # over 10,000 small images, 32 are too few and 106 are enough (docs/decisions/0011)
PASSES_FOR_LARGER = 110
"""epochs from which a larger network is worth its time; with less a smaller one learns more (docs/decisions/0011)"""
_TUNED = 0.1  # of that, where a network starts from weights that are good already


@dataclass(frozen=True)
class ImageFacts:
    """The median size of the images, in pixels, and their normalisation where it was measured."""

    height: int
    width: int
    normalisation: Normalisation | None = None

    @property
    def small(self) -> bool:
        """Whether the images are so small that they should keep their size."""
        return max(self.height, self.width) <= SMALL_IMAGE


def default_recipe(images: ImageFacts, weights: bool) -> str:
    """The name of the recipe for training on such images, from weights or from random ones."""
    return "finetune" if weights else "small-images" if images.small else "scratch"


def default_model(images: ImageFacts) -> str:
    """The network that is trained in reasonable time on any machine."""
    return "resnet20" if images.small else "resnet18"


def resolve_recipe(
    recipe: Recipe, images: ImageFacts, dataset: DataSet, *, weights: bool = False, batch_stated: bool = True
) -> Recipe:
    """The recipe with every open choice made, the precision alone excepted, which takes a probe.

    `weights` says that the network starts from some. A batch size that nobody stated for this data, such as a
    published recipe's 1024, is lessened to suit it, and the rate with it.
    """
    train_images = len(dataset.split("train"))
    small = (recipe.image_size or (1 if images.small else _PHOTO_SIZE)) <= SMALL_IMAGE
    batch_size = recipe.batch_size or _batch_size(128 if small else 32, train_images)
    if recipe.batch_size and not batch_stated:
        batch_size = _batch_size(recipe.batch_size, train_images)
        recipe = recipe.with_batch(batch_size)
    if recipe.lr is None:
        usual = _RATE_AT_128[recipe.optimiser] * (_TUNED if weights else 1.0)
        # A batch is no larger than all the images, whatever was asked for.
        recipe = replace(recipe, lr=usual, batch_size=128).with_batch(min(batch_size, max(1, train_images)))
    return replace(
        recipe,
        batch_size=batch_size,
        image_size=recipe.image_size or _learnt_size(recipe, images),
        augmentation=("small" if small else "photo") if recipe.augmentation == "auto" else recipe.augmentation,
        freeze_norm=(weights and train_images < _FEW) if recipe.freeze_norm is None else recipe.freeze_norm,
        flip=(dataset.flip if recipe.flip is None else recipe.flip) and recipe.augmentation != "none",
    )


def _learnt_size(recipe: Recipe, images: ImageFacts) -> int | None:
    """The side to learn from where none was stated; a test size of its own is not to change it."""
    if not images.small:
        return _PHOTO_SIZE
    return min(images.height, images.width) if recipe.test_size else None


def with_passes(recipe: Recipe, passes: float) -> Recipe:
    """The recipe for so many passes over the images: with CutMix where they pay for it, if that was left open.

    The network is known by then, and no other takes its place.

    >>> [with_passes(Recipe(cutmix=None), passes).cutmix for passes in (30, 80)]
    [0.0, 1.0]
    """
    mixed = 1.0 if passes >= _PASSES_FOR_CUTMIX else 0.0
    return replace(recipe, cutmix=mixed if recipe.cutmix is None else recipe.cutmix, larger_models=())


def preprocess_for(
    recipe: Recipe,
    images: ImageFacts,
    channels: int,
    known: Preprocess | None = None,
) -> Preprocess:
    """Small images keep their size and are seen whole; of photos the middle 7/8 becomes the network's square.

    Of the preprocessing that the first weights know, mean and std count where the channels are the same, unless the
    recipe prefers those of the images; and how sides are rounded. The rest of it is in the recipe (`own_fields`).
    """
    normalisation = (known.mean, known.std) if known is not None and known.channels == channels else None
    if recipe.normalise_by == "data":
        measured = _measured(images)
        normalisation = measured if measured is not None and len(measured[0]) == channels else None
    mean, std = normalisation or usual_normalisation(channels)
    size = recipe.test_size or recipe.image_size
    own = (images.height, images.width)
    # Of an image as long as the crop only the middle of a larger copy would be seen, where it is not a square.
    whole = size is None and images.height != images.width and recipe.crop_mode == "centre"
    return Preprocess.for_size(
        size or own, crop_share=recipe.crop_share if size and size > SMALL_IMAGE else 1.0, mean=mean, std=std,
        interpolation=recipe.interpolation, crop_mode="squash" if whole else recipe.crop_mode,
        rounding=known.rounding if known else "floor",
    )  # fmt: skip


def own_fields(known: Preprocess) -> dict[str, Any]:
    """The recipe's fields that say how weights have seen pictures so far.

    The crop's share of small images says nothing, as they are never cut.

    >>> own_fields(Preprocess.for_size(224, crop_share=0.875, crop_mode="pad"))
    {'crop_mode': 'pad', 'interpolation': 'bilinear', 'crop_share': 0.875}
    """
    seen: dict[str, Any] = {"crop_mode": known.crop_mode, "interpolation": known.interpolation}
    return {**seen, "crop_share": known.crop_share} if min(known.size) > SMALL_IMAGE else seen


def _measured(images: ImageFacts) -> Normalisation | None:
    """The images' own mean and std; images of one colour have no std to divide by, and a grey level stands in."""
    if images.normalisation is None:
        return None
    mean, std = images.normalisation
    return mean, tuple(max(value, 1 / 255) for value in std)


def training_sizes(recipe: Recipe, preprocess: Preprocess) -> tuple[tuple[float, tuple[int, int] | None], ...]:
    """From which share of the training on images have which height and width; None is the size of the preprocessing.

    Early sides are rounded to what networks halve well: to multiples of 32 pixels for photos, of 2 for small images.

    >>> recipe = Recipe(early_sizes=(0.6, 0.8), early_until=(0.4, 0.75))
    >>> training_sizes(recipe, Preprocess.for_size((48, 32)))
    ((0.0, (28, 20)), (0.4, (38, 26)), (0.75, None))
    >>> training_sizes(recipe, Preprocess.for_size(224))
    ((0.0, (128, 128)), (0.4, (192, 192)), (0.75, None))
    """
    full = (recipe.image_size, recipe.image_size) if recipe.image_size else preprocess.size
    unit = 32 if max(full) > SMALL_IMAGE else 2

    def side(share: float, whole: int) -> int:
        return max(unit, round(share * whole / unit) * unit)

    early = ((side(share, full[0]), side(share, full[1])) for share in recipe.early_sizes)
    last = full if recipe.test_size else None
    return tuple(zip((0.0, *recipe.early_until), (*early, last), strict=True))


def pixel_policies(recipe: Recipe) -> tuple[PixelPolicy, ...]:
    """What is done to the pixels after the crop, in order."""
    policies: list[PixelPolicy] = []
    if recipe.colour_jitter:
        by = recipe.colour_jitter
        policies.append(ColourJitter(brightness=by, contrast=by, saturation=by))
    if recipe.greyscale:
        policies.append(RandomGreyscale(share=recipe.greyscale))
    if recipe.auto_augment == "trivial":
        policies.append(TrivialAugment())
    elif recipe.auto_augment == "rand":
        policies.append(RandAugment(magnitude=recipe.magnitude, deviation=recipe.magnitude_deviation))
    if recipe.erasing:
        policies.append(RandomErasing(probability=recipe.erasing))
    return tuple(policies)


def cached_side(fields: Mapping[str, Any]) -> int:
    """The short side that pixels need for a recipe of these fields: what validation crops from, or training if larger.

    >>> cached_side({}), cached_side({"image_size": 160, "test_size": 224}), cached_side({"image_size": 32})
    (256, 256, 73)
    """
    largest = max(fields.get("image_size") or _PHOTO_SIZE, SMALL_IMAGE)
    seen = max(fields.get("test_size") or largest, SMALL_IMAGE)
    share = fields.get("crop_share", Recipe.crop_share)
    return max(largest, Preprocess.for_size(seen, crop_share=share).resize)


def check_trainable(dataset: DataSet) -> None:
    """Whether there is something to learn; DataError says what is missing."""
    if dataset.num_classes < 2:
        raise DataError(f"{dataset.name} has one class: a classifier needs at least two, each in a folder of its own")
    n = len(dataset.split("train"))
    if n < 2:
        raise DataError(f"{dataset.name} has {n} training image(s): at least two are needed")


def largest_batch(images: int) -> int:
    """The largest batch that a training on so many images is the better for, if it is the quicker for it at all."""
    return _batch_size(_LARGEST_BATCH, images)


def _batch_size(most: int, images: int) -> int:
    """A power of two that leaves at least 20 steps an epoch, but not under 8 images."""
    size = most
    while size > 8 and images / size < 20:
        size //= 2
    return min(size, images)
