"""The network that a time is enough for."""

from pathlib import Path

import numpy as np
import pytest

from resnetkit.api import budgeting
from resnetkit.api.choosing import ENOUGH_HELD_OUT
from resnetkit.api.repeating import train_with_seeds
from resnetkit.api.training import train
from resnetkit.catalog.recipes import RECIPES
from resnetkit.cli.recipe_flags import field_docs
from resnetkit.errors import UnknownName
from resnetkit.training.plan import Plan
from resnetkit.training.planning import PASSES_FOR_LARGER
from resnetkit.training.progress import Remark

FAST = RECIPES["fast"].recipe


@pytest.fixture
def few(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "few.npz", train_images=pixels, train_labels=np.arange(12)[:, None] % 2)
    return tmp_path / "few.npz"


def network(run: Path) -> str | None:
    return Plan.read(run / "recipe.yaml").model.name


@pytest.mark.parametrize(("passes", "minutes", "chosen"), [(3, 0.2, FAST.larger_models[-1]), (10**9, 0.05, FAST.model)])
def test_the_largest_network_is_taken_that_the_time_is_enough_for(
    few: Path, passes: int, minutes: float, chosen: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(budgeting, "PASSES_FOR_LARGER", passes)
    said: list[object] = []
    run = train(few, recipe="fast", minutes=minutes, output=few.parent / "run", listener=said.append).run
    recipe = Plan.read(run / "recipe.yaml").recipe
    assert (network(run), recipe.model, recipe.larger_models) == (chosen, chosen, ())
    remarks = [each.text for each in said if isinstance(each, Remark) and "are enough for" in each.text]
    assert [text.split()[-1] for text in remarks] == ([*FAST.larger_models] if chosen != FAST.model else [])


def test_a_larger_network_that_proves_too_slow_is_not_taken(few: Path, monkeypatch: pytest.MonkeyPatch):
    passes = iter([900, PASSES_FOR_LARGER - 1])
    monkeypatch.setattr(budgeting, "_passes", lambda ready: next(passes))
    assert network(train(few, recipe="fast", minutes=0.05, output=few.parent / "run").run) == FAST.model


def test_a_network_that_was_named_stays(few: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(budgeting, "PASSES_FOR_LARGER", 0)
    run = train(few, recipe="fast", model="resnet8_w40", minutes=0.05, output=few.parent / "named").run
    assert network(run) == "resnet8_w40"
    runs = train_with_seeds(2, few, recipe="fast", model="resnet20", epochs=1, output=few.parent / "seeds").runs
    assert [network(each.run) for each in runs] == ["resnet20", "resnet20"]
    counted = train(few, recipe="fast", epochs=1, output=few.parent / "counted").run
    assert network(counted) == FAST.model
    (few.parent / "mine.yaml").write_text(f"model: {counted}\nlarger_models: [resnet8_w80]\n")
    assert network(train(few, recipe=few.parent / "mine.yaml", minutes=0.05, output=few.parent / "tuned").run) == (
        FAST.model
    ), "its weights fit no other"


def test_the_seeds_of_one_training_share_a_network(few: Path, monkeypatch: pytest.MonkeyPatch):
    passes = iter([900, 700, 700, 20, 10])  # the machine is busier with the second seed
    monkeypatch.setattr(budgeting, "_passes", lambda ready: next(passes))
    options = {"recipe": "fast", "larger_models": ("resnet8_w56",), "minutes": 0.05}
    runs = train_with_seeds(2, few, **options, output=few.parent / "seeds").runs
    assert [network(each.run) for each in runs] == ["resnet8_w56", "resnet8_w56"]


def test_the_flags_name_the_numbers_by_which_is_decided():
    docs = field_docs()
    assert str(PASSES_FOR_LARGER) in docs["larger_models"]
    assert str(ENOUGH_HELD_OUT) in docs["val_share"]


def test_a_larger_network_that_there_is_not_is_refused_at_once():
    with pytest.raises(UnknownName, match="resnet8_w5"):
        train("nowhere", recipe="fast", larger_models=("resnet8_w5",))
