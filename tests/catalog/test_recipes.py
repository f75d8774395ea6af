"""Recipes are data: named, checked, and the same after YAML."""

import dataclasses
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from resnetkit.catalog.architectures import ARCHITECTURES
from resnetkit.catalog.recipe import Recipe, recipe_from_dict
from resnetkit.catalog.recipes import RECIPES
from resnetkit.errors import InvalidArgument
from resnetkit.training.plan import recipe_fields

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
        ({"epochs": "ten"}, "epochs is 'ten': it must be a whole number"),
        ({"epochs": True}, "epochs is True: it must be a whole number"),
        ({"epochs": 1.5}, "epochs is 1.5: it must be a whole number"),
        ({"nesterov": "no"}, "nesterov is 'no': it must be true or false"),
        ({"nesterov": 0}, "nesterov is 0: it must be true or false"),
        ({"lr": float("inf")}, "lr is inf: it must be a number or null"),
        ({"weight_decay": float("nan")}, "weight_decay is nan: it must be a number"),
        ({"batch_size": 10**20}, "it must be at most 1048576"),
        ({"lr_drops": ["half"]}, "it must be a list, each of it a number"),
        ({"lr_drops": 0.5}, "lr_drops is 0.5: it must be a list"),
        ({"optimiser": 3}, "optimiser is 3: it must be one of: sgd, adamw"),
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


def test_a_large_number_may_be_written_as_people_write_it(tmp_path: Path):
    """In YAML 1.1, which PyYAML reads, 1e-3 is a word."""
    (tmp_path / "own.yaml").write_text("lr: 1e-3\nweight_decay: 5E-4\nmodel: resnet20\n")
    assert recipe_fields(tmp_path / "own.yaml") == {"lr": 1e-3, "weight_decay": 5e-4, "model": "resnet20"}
