"""The recipes that have a name: frozen rows, each with its source and what is published of it.

A row says how to train, and nothing of the data; a batch size and a rate made for a large data set are lessened
together where there are few images (`training.planning`). Figures are top-1 accuracies on ImageNet's validation set
unless they say otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from resnetkit.catalog.recipe import Recipe


@dataclass(frozen=True)
class NamedRecipe:
    """A recipe, for whom it is, where it comes from and what it reached there."""

    summary: str
    recipe: Recipe
    source: str
    result: str


_FINETUNE = NamedRecipe(
    "from published or own weights: the classifier first, then all, the earlier the stage the slower",
    Recipe(
        epochs=10,
        head_epochs=1.0,
        layer_decay=0.7,
        freeze_norm=None,
        lr=None,
        weight_decay=1e-4,
        warmup_epochs=0.5,
        crop_scale=0.35,
    ),
    "phases: Howard and Gugger 2020 (arXiv 2002.04688, fine_tune); rates by stage: Howard and Ruder 2018 (arXiv "
    "1801.06146, section 3.2); SGD for transfer: Kornblith et al. 2018 (arXiv 1805.08974, appendix A.5)",
    "none for these very values",
)
_SCRATCH = NamedRecipe(
    "photos from random weights",
    Recipe(weight_decay=1e-4, warmup_epochs=2.0),
    "the ImageNet practice of He et al. 2015 (arXiv 1512.03385) with the refinements of He et al. 2018 (arXiv "
    "1812.01187): warm-up, no decay of norms and biases, cosine, smoothed labels",
    "ResNet-50-D 78.3 % in 120 epochs of 1024 images a step (1812.01187, table 6, with label smoothing)",
)
_SMALL_IMAGES = NamedRecipe(
    "small images, such as CIFAR's, from random weights",
    Recipe(),
    "momentum and decay of Zagoruyko and Komodakis 2016 (arXiv 1605.07146); a cosine instead of steps (Loshchilov and "
    "Hutter 2016, arXiv 1608.03983)",
    "CIFAR-10: WRN-28-10 96.0 % in 200 epochs, with steps instead of the cosine (1605.07146)",
)
_PAPER = NamedRecipe(
    "the first paper's on ImageNet: three rates, each a tenth of the one before",
    Recipe(
        epochs=90,
        batch_size=256,
        lr=0.1,
        nesterov=False,
        weight_decay=1e-4,
        decay_norms=True,
        schedule="step",
        warmup_epochs=0.0,
        label_smoothing=0.0,
    ),
    "He et al. 2015 (arXiv 1512.03385, section 3.4), with the fixed drops at 30 and 60 of 90 epochs of its later "
    "reproductions (Goyal et al. 2017, arXiv 1706.02677) for the paper's plateaus, and random resized crops",
    "ResNet-50 76.4 % (Goyal et al., table 1a); torchvision's V1 weights 76.13 %",
)
_PAPER_CIFAR = NamedRecipe(
    "the first paper's on CIFAR-10: 64,000 steps of 128 images, the rate falls at half and three quarters",
    Recipe(
        epochs=182,
        batch_size=128,
        lr=0.1,
        nesterov=False,
        weight_decay=1e-4,
        decay_norms=True,
        schedule="step",
        lr_drops=(0.5, 0.75),
        warmup_epochs=0.0,
        label_smoothing=0.0,
    ),
    "He et al. 2015 (arXiv 1512.03385, section 4.2): 45,000 images to learn from, 5,000 to choose by, 182 epochs",
    "CIFAR-10: resnet20 91.25 %, resnet56 93.03 %, resnet110 93.57 % (table 6)",
)
_TORCHVISION_V2 = NamedRecipe(
    "torchvision's second ImageNet weights: long, strongly augmented, averaged, tested larger than trained",
    Recipe(
        epochs=600,
        batch_size=1024,
        lr=0.5,
        nesterov=False,
        weight_decay=2e-5,
        warmup_epochs=5.0,
        label_smoothing=0.1,
        mixup=0.2,
        cutmix=1.0,
        auto_augment="trivial",
        erasing=0.1,
        repeats=4,
        # torchvision states 0.99998 and turns it, every 32 steps, into 1 - 2e-5 · 1024 · 32 / 600.
        ema_decay=0.9989,
        ema_every=32,
        image_size=176,
        test_size=224,
        crop_share=224 / 232,
    ),
    "V. Vryniotis 2021, How to train state-of-the-art models using TorchVision's latest primitives, pytorch.org/blog",
    "ResNet-50 80.858 %",
)


def _rsb(recipe: Recipe, result: str, summary: str) -> NamedRecipe:
    return NamedRecipe(
        f"ResNet strikes back, {summary}",
        recipe,
        "Wightman, Touvron and Jégou 2021 (arXiv 2110.00476, table 2). Gradients are shortened to norm 1, as timm's "
        "LAMB does unasked; RandAugment's operations are torchvision's, not timm's stronger set",
        result,
    )


_RSB_A1 = _rsb(
    Recipe(
        epochs=600, batch_size=2048, optimiser="lamb", lr=5e-3, weight_decay=0.01, clip_norm=1.0, warmup_epochs=5.0,
        loss="bce", label_smoothing=0.1, drop_path=0.05, repeats=3, auto_augment="rand", magnitude=7.0,
        magnitude_deviation=0.5, mixup=0.2, cutmix=1.0, image_size=224, crop_share=0.95, interpolation="bicubic",
    ),
    "ResNet-50 80.4 %",
    "600 epochs for the best accuracy",
)  # fmt: skip
_RSB_A2 = _rsb(
    Recipe(
        epochs=300, batch_size=2048, optimiser="lamb", lr=5e-3, weight_decay=0.02, clip_norm=1.0, warmup_epochs=5.0,
        loss="bce", label_smoothing=0.0, drop_path=0.05, repeats=3, auto_augment="rand", magnitude=7.0,
        magnitude_deviation=0.5, mixup=0.1, cutmix=1.0, image_size=224, crop_share=0.95, interpolation="bicubic",
    ),
    "ResNet-50 79.8 %",
    "300 epochs, comparable to others' schedules",
)  # fmt: skip
_RSB_A3 = _rsb(
    Recipe(
        epochs=100, batch_size=2048, optimiser="lamb", lr=8e-3, weight_decay=0.02, clip_norm=1.0, warmup_epochs=5.0,
        loss="bce", label_smoothing=0.0, auto_augment="rand", magnitude=6.0, magnitude_deviation=0.5, mixup=0.1,
        cutmix=1.0, image_size=160, test_size=224, crop_share=0.95, interpolation="bicubic",
    ),
    "ResNet-50 78.1 %",
    "100 epochs at 160 pixels",
)  # fmt: skip
_FAST = NamedRecipe(
    "small images in the fewest minutes, with networks made for it; give it --minutes",
    Recipe(
        model="resnet8_w40",
        larger_models=("resnet8_w56", "resnet8_w80"),
        epochs=30,
        val_share=0.02,
        batch_size=128,
        lr=0.4,
        weight_decay=5e-4,
        warmup_epochs=2.0,
        # Of 32 px: 20 and 24, whose halves and quarters are whole; 26 px take a quarter longer than 24.
        early_sizes=(20 / 32, 24 / 32),
        early_until=(0.4, 0.75),
        padding_mode="reflect",
        colour_jitter=0.4,
        greyscale=0.15,
        mirrored_weights=None,
        cutmix=None,
        mix_share=0.5,
        mix_until=0.9,
    ),
    "this project; progressive resizing after Howard 2018 (DAWNBench) and Tan and Le 2021 (arXiv 2104.00298)",
    "benchmarks/README.md",
)
_IMAGENETTE = NamedRecipe(
    "photos of few classes in few epochs from random weights",
    Recipe(
        epochs=20,
        batch_size=64,
        lr=0.1,
        weight_decay=5e-4,
        warmup_epochs=1.0,
        label_smoothing=0.1,
        image_size=128,
        crop_scale=0.35,
    ),
    "the task of fastai's Imagenette (J. Howard 2019, github.com/fastai/imagenette): 5 to 200 epochs at 128 to 256 px",
    "Imagenette: its leaderboard has 91.57 % at 128 px in 20 epochs, with another network and optimiser",
)

RECIPES: Mapping[str, NamedRecipe] = MappingProxyType({
    "finetune": _FINETUNE,
    "scratch": _SCRATCH,
    "small-images": _SMALL_IMAGES,
    "fast": _FAST,
    "imagenette": _IMAGENETTE,
    "paper-2015": _PAPER,
    "paper-2015-cifar": _PAPER_CIFAR,
    "torchvision-v2": _TORCHVISION_V2,
    "rsb-a1": _RSB_A1,
    "rsb-a2": _RSB_A2,
    "rsb-a3": _RSB_A3,
})  # fmt: skip
"""name → row"""
