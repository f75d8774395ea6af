"""What is decided where nobody decided."""

import numpy as np
import pytest

from resnetkit.api.choosing import show_recipe
from resnetkit.api.loading import training_images
from resnetkit.api.networks import create_model
from resnetkit.api.training import resume, train
from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.catalog.recipe import Recipe
from resnetkit.catalog.recipes import RECIPES
from resnetkit.data.opening import open_data
from resnetkit.data.transforms import EvalTransform
from resnetkit.errors import InvalidArgument, UnknownName
from resnetkit.training.plan import Plan
from resnetkit.training.planning import ImageFacts, preprocess_for, resolve_recipe
from resnetkit.training.running import choose_kernels

DIGITS = ImageFacts(8, 8)


def test_a_published_batch_is_lessened_to_the_data_and_its_rate_with_it():
    shown = show_recipe("digits", recipe="rsb-a2").recipe
    assert shown.batch_size == 64  # 1293 images: twenty steps an epoch
    assert shown.lr == pytest.approx(5e-3 * (64 / 2048) ** 0.5)
    asked = show_recipe("digits", recipe="rsb-a2", batch_size=256).recipe
    assert (asked.batch_size, asked.lr) == (256, pytest.approx(5e-3 * (256 / 2048) ** 0.5))
    both = show_recipe("digits", recipe="rsb-a2", batch_size=256, lr=0.1).recipe
    assert (both.batch_size, both.lr) == (256, 0.1)


def test_nothing_is_left_open_but_the_precision_and_what_the_time_decides():
    for name in RECIPES:
        shown = show_recipe("digits", recipe=name).recipe
        given = shown.to_dict()
        open_still = {key for key, value in given.items() if value is None}
        # Small images keep their own size; how often an image is seen, and by which network, is known once the time is.
        assert open_still <= {"image_size", "test_size", "early_stopping", "cutmix", "mirrored_weights"}, name
        assert given["flip"] is False, "a mirrored digit is none"


def test_images_are_mixed_where_there_is_time_for_it(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    np.savez(tmp_path / "few.npz", train_images=pixels, train_labels=np.arange(40)[:, None] % 2)
    for epochs, alpha in ((59, 0.0), (60, 1.0)):
        folder = tmp_path / str(epochs)
        run = train(tmp_path / "few.npz", recipe="fast", epochs=epochs, early_stopping=1, output=folder).run
        assert Plan.read(run / "recipe.yaml").recipe.cutmix == alpha


def test_a_published_recipe_holds_out_enough_to_choose_by_and_what_is_said_counts(tmp_path):
    assert RECIPES["fast"].recipe.val_share == 0.02
    fast = show_recipe("digits", recipe="fast").recipe
    assert fast.val_share == 0.1, "a fiftieth of 1,437 images is too little"
    assert show_recipe("digits", recipe="fast", val_share=0.02).recipe.val_share == 0.02
    (tmp_path / "mine.yaml").write_text("epochs: 1\nval_share: 0.3\n")
    first = train("digits", recipe=tmp_path / "mine.yaml", output=tmp_path / "first")
    again = train(recipe=first.run / "recipe.yaml", output=tmp_path / "again")
    less = train(recipe=first.run / "recipe.yaml", val_share=0.2, output=tmp_path / "less")
    assert [each.val_n for each in (first, again, less)] == [431, 431, 287]


def test_images_of_one_shade_are_divided_by_a_grey_level():
    black = ImageFacts(8, 8, ((0.0,), (0.0,)))
    known = Preprocess.for_size(8, mean=(0.5,), std=(0.25,))
    row = preprocess_for(Recipe(normalise_by="data"), black, 1, known)
    assert (row.mean, row.std) == ((0.0,), (1 / 255,))
    assert preprocess_for(Recipe(), black, 1, known).mean == (0.5,)


def test_small_images_that_are_no_squares_are_seen_whole_and_keep_their_shape_early(tmp_path):
    row = preprocess_for(Recipe(), ImageFacts(48, 24), 1)
    image = np.random.default_rng(0).integers(0, 256, (48, 24, 1), np.uint8)
    assert np.array_equal(EvalTransform(row)(image)[0], image[..., 0])
    # What is white at the edges and black in the middle is not black all over in the early epochs.
    framed = np.full((20, 48, 24), 255, np.uint8)
    framed[:, 12:36, 6:18] = 0
    np.savez(tmp_path / "framed.npz", train_images=framed, train_labels=np.arange(20)[:, None] % 2)
    recipe = Recipe(
        early_sizes=(0.5,), early_until=(0.5,), augmentation="none", flip=False, batch_size=20, image_size=None
    )  # fmt: skip
    images = training_images(
        recipe, row, open_data(tmp_path / "framed.npz", channels=1).split("train"), seed=0, workers=0
    )
    batch = next(images.batches())
    assert batch.images.shape[-2:] == (24, 12)
    assert batch.images[0, 0, 0, 0] == 255
    assert batch.images[0, 0, 12, 6] == 0


@pytest.mark.parametrize(("mode", "darkest"), [("constant", 0), ("edge", 255), ("reflect", 255)])
def test_borders_are_padded_as_the_recipe_says(tmp_path, mode, darkest):
    np.savez(tmp_path / "white.npz", train_images=np.full((40, 8, 8), 255, np.uint8), train_labels=np.arange(40) % 2)
    recipe = Recipe(augmentation="small", padding_mode=mode, flip=False, batch_size=40)
    row = preprocess_for(recipe, DIGITS, 1)
    source = open_data(tmp_path / "white.npz", channels=1).split("train")
    batch = next(training_images(recipe, row, source, seed=0, workers=0).batches())
    assert int(batch.images.min()) == darkest


def test_without_data_a_recipe_shows_as_it_is_written():
    assert show_recipe(recipe="torchvision-v2").recipe == RECIPES["torchvision-v2"].recipe
    assert show_recipe(recipe="fast", lr=0.3).recipe.lr == 0.3
    assert show_recipe(recipe="fast", early_sizes=(0.5, 0.75)).recipe.early_until == (0.4, 0.75), "one of a pair"
    with pytest.raises(InvalidArgument, match="DATA, or a --recipe"):
        show_recipe()
    with pytest.raises(UnknownName, match="rsb-a1"):
        show_recipe(recipe="rsb-a11")


def test_one_field_of_a_pair_is_given_over_a_recipe_that_has_the_other(tmp_path):
    run = train("digits", recipe="fast", epochs=1, early_sizes=(0.5, 0.9), output=tmp_path / "run").run
    assert Plan.read(run / "recipe.yaml").recipe.early_until == (0.4, 0.75)
    longer = resume(run, epochs=2, early_until=(0.1, 0.2), force=True).run
    assert Plan.read(longer / "recipe.yaml").recipe.early_sizes == (0.5, 0.9)


def test_what_is_shown_is_a_file_that_train_follows(tmp_path):
    shown = show_recipe("digits", recipe="fast", epochs=1, ema_decay=0.5)
    file = tmp_path / "mine.yaml"
    file.write_text(shown.to_yaml())
    result = train("digits", recipe=file, output=tmp_path / "run", deterministic=True)
    assert Plan.read(result.run / "recipe.yaml").recipe == shown.recipe.__class__(
        **{
            **shown.recipe.to_dict(),
            **{key: tuple(value) for key, value in shown.to_dict().items() if isinstance(value, list)},
            "precision": "float32",
            "cutmix": 0.0,  # one epoch is no time for it
            "mirrored_weights": False,  # a digit's mirror image is another thing
            "larger_models": (),
            "kernels": choose_kernels("auto", create_model("resnet8_w40")),
        }
    )
    assert Plan.read(result.run / "recipe.yaml").model.name == "resnet8_w40"


def test_weights_are_tuned_by_the_recipe_for_it_at_a_tenth_of_the_rate(tmp_path):
    first = train("digits", output=tmp_path / "first", epochs=1, deterministic=True)
    second = train("digits", model=first.run, output=tmp_path / "second", epochs=1, deterministic=True)
    recipe = Plan.read(second.run / "recipe.yaml").recipe
    assert recipe.layer_decay == RECIPES["finetune"].recipe.layer_decay
    scratch = Plan.read(first.run / "recipe.yaml").recipe
    assert recipe.lr == pytest.approx(scratch.lr * 0.1)
    assert second.best_top1 > first.best_top1


@pytest.mark.parametrize(("images", "frozen"), [(200, True), (1293, False)])
def test_norms_stand_still_where_weights_meet_few_images(images: int, frozen: bool):
    data = open_data("digits")
    few = data.without({data.split("train").name(i) for i in range(images, len(data.split("train")))})
    assert len(few.split("train")) == images
    recipe = Recipe(freeze_norm=None)
    assert resolve_recipe(recipe, DIGITS, few, weights=True).freeze_norm is frozen
    assert resolve_recipe(recipe, DIGITS, few, weights=False).freeze_norm is False


def test_a_test_size_alone_leaves_small_images_their_size_in_training():
    data = open_data("digits")
    assert resolve_recipe(Recipe(test_size=16), DIGITS, data).image_size == 8
    assert resolve_recipe(Recipe(), DIGITS, data).image_size is None


def test_a_test_size_of_its_own_is_the_models_and_training_has_the_other(tmp_path, monkeypatch):
    seen = []
    from resnetkit.training import stepping

    own = stepping.add_gradients

    def watched(network, optimiser, images, answers, **words):
        seen.append(tuple(images.shape[2:]))
        return own(network, optimiser, images, answers, **words)

    monkeypatch.setattr(stepping, "add_gradients", watched)
    result = train(
        "digits", output=tmp_path / "run", epochs=4, image_size=12, test_size=16, early_sizes=(0.66,),
        early_until=(0.5,), deterministic=True,
    )  # fmt: skip
    assert sorted(set(seen)) == [(8, 8), (12, 12)]
    assert seen == sorted(seen), "the small ones first"
    assert np.isclose(seen.count((8, 8)) / len(seen), 0.5)
    assert Plan.read(result.run / "recipe.yaml").preprocess.size == (16, 16)


def test_a_batch_larger_than_all_images_raises_the_rate_no_further():
    dataset = open_data("digits")
    facts = ImageFacts(8, 8)
    images = len(dataset.split("train"))
    rates = [resolve_recipe(Recipe(batch_size=size), facts, dataset).lr for size in (images, 100 * images)]
    assert rates == [pytest.approx(0.2 * images / 128)] * 2
