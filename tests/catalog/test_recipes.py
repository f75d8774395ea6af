"""Recipes are data: named, checked, and the same after YAML."""

import dataclasses

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from resnetkit.catalog.architectures import ARCHITECTURES
from resnetkit.catalog.recipe import Recipe, recipe_from_dict
from resnetkit.catalog.recipes import RECIPES
from resnetkit.errors import InvalidArgument

WANTED = {
    "finetune", "scratch", "small-images", "paper-2015", "paper-2015-cifar", "torchvision-v2", "rsb-a1", "rsb-a2",
    "rsb-a3", "fast", "imagenette",
}  # fmt: skip


def test_every_recipe_wanted_is_there_with_its_source_and_result():
    assert set(RECIPES) == WANTED
    for name, row in RECIPES.items():
        assert row.source, name
        assert row.result, name
        assert row.recipe.model is None or row.recipe.model in ARCHITECTURES


@pytest.mark.parametrize("name", sorted(WANTED))
def test_a_recipe_comes_back_from_yaml_as_it_was(name: str):
    recipe = RECIPES[name].recipe
    assert recipe_from_dict(yaml.safe_load(yaml.safe_dump(recipe.to_dict()))) == recipe


def test_rows_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RECIPES["fast"].recipe.epochs = 3


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"ema_deca": 0.9}, "no field 'ema_deca', did you mean ema_decay"),
        ({"optimiser": "adam"}, "optimiser is adam, did you mean adamw"),
        ({"epochs": 0}, "epochs is 0"),
        ({"drop_path": 1.0}, "drop_path is 1.0"),
        ({"lr_drops": (0.7, 0.3)}, "lr_drops"),
        ({"early_sizes": (0.5,)}, "early_until"),
        ({"early_sizes": (20.0,), "early_until": (0.5,)}, "early_sizes"),
        ({"mixup": -1.0}, "mixup is -1.0"),
        ({"epochs": "ten"}, "wrong type"),
    ],
)
def test_what_cannot_be_is_named_with_what_could(values: dict[str, object], said: str):
    with pytest.raises(InvalidArgument, match=said.replace("(", r"\(")):
        recipe_from_dict(values)


@given(batch=st.integers(1, 4096))
def test_the_rate_follows_the_batch(batch: int):
    plain = Recipe(batch_size=128, lr=0.2).with_batch(batch)
    assert plain.lr == pytest.approx(0.2 * batch / 128)
    adaptive = Recipe(optimiser="adamw", batch_size=128, lr=1e-3).with_batch(batch)
    assert adaptive.lr == pytest.approx(1e-3 * (batch / 128) ** 0.5)


def test_the_papers_cifar_schedule_is_64_thousand_steps_less_than_a_hundred():
    recipe = RECIPES["paper-2015-cifar"].recipe
    steps = recipe.epochs * -(-45_000 // 128)
    assert abs(steps - 64_000) < 100
    assert recipe.lr_drops == (32 / 64, 48 / 64)
