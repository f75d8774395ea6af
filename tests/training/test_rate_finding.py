"""The learning rate that is found: read rightly off a curve, and good for training on real pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnetkit.api.finding import find_lr
from resnetkit.api.training import train
from resnetkit.cli import main
from resnetkit.data.opening import open_data
from resnetkit.errors import RunError
from resnetkit.training.plan import Plan
from resnetkit.training.progress import Event, Preparing
from resnetkit.training.rate_finding import read_curve, smoothed

RATES = np.geomspace(1e-4, 10, 101)


def curve(knee: float, breaks: float) -> np.ndarray:
    """A loss that falls as a logistic of the rate's logarithm, steepest at `knee`, and breaks near `breaks`."""
    return 2.3 - 1.5 / (1 + (knee / RATES) ** 2) + (RATES / breaks) ** 3


@given(knee=st.floats(0.003, 0.1), breaks=st.floats(2.0, 6.0), seed=st.integers(0, 2**32 - 1))
def test_it_finds_where_the_loss_falls_steepest_whatever_the_noise(knee: float, breaks: float, seed: int):
    noise = np.random.default_rng(seed).normal(0, 0.04, len(RATES))
    found = read_curve(RATES, curve(knee, breaks) + noise, usual=0.1)
    assert knee / 2 < found.steepest < knee * 2
    assert knee < found.lowest < breaks
    assert found.suggestion**2 == pytest.approx(found.steepest * found.lowest / 10, rel=0.15)


def test_smoothing_delays_nothing_and_bends_no_line():
    line = np.linspace(3, 1, 60)
    np.testing.assert_allclose(smoothed(line)[12:-12], line[12:-12], atol=1e-4)
    step = np.where(np.arange(60) < 30, 2.0, 1.0)
    assert smoothed(step)[29] + smoothed(step)[30] == pytest.approx(3.0), "half way down at the step itself"
    assert np.all(np.diff(smoothed(step)) <= 1e-12)


def test_a_loss_that_never_falls_gives_no_suggestion():
    with pytest.raises(RunError, match="did not fall by more than chance"):
        read_curve(RATES, np.full(101, 2.3), usual=0.1)
    with pytest.raises(RunError, match="did not fall"):
        read_curve(RATES, 2.3 + RATES, usual=0.1)
    with pytest.raises(RunError, match="did not fall"):
        read_curve(RATES, np.random.default_rng(0).normal(2.3, 0.2, 101), usual=0.1)


@pytest.mark.parametrize("steps", [0, 1, 9])
def test_a_loss_that_is_not_finite_from_the_first_steps_on_is_one_clear_error(steps: int):
    with pytest.raises(RunError, match=rf"not finite, or broke, after {steps} step"):
        read_curve(RATES[:steps], curve(0.01, 3.0)[:steps], usual=0.1)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_on_handwriting_it_is_near_the_rate_that_suits_and_training_at_it_works(tmp_path: Path, seed: int):
    found = find_lr("digits", seed=seed, deterministic=True)
    assert found.usual == pytest.approx(0.1)  # docs/decisions/0003
    assert 0.1 / 3 < found.suggestion < 0.1 * 3
    result = train("digits", output=tmp_path, seed=seed, epochs=6, lr=found.suggestion, deterministic=True)
    assert result.best_top1 is not None
    assert result.best_top1 > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_on_photos_it_is_near_the_rate_that_is_known_to_suit(real_data: Path, seed: int):
    found = find_lr(real_data / "cifar10_20k.npz", seed=seed)
    assert found.usual == 0.2  # and 0.4, docs/decisions/0011
    assert 0.2 / 3 < found.suggestion < 0.4 * 3


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Some of the digits: quick."""
    source = open_data("digits").split("train")
    images = np.stack([source.image(index) for index in range(320)])
    np.savez(tmp_path / "few.npz", train_images=images, train_labels=source.labels[:320, None])
    return tmp_path / "few.npz"


def test_it_repeats_and_depends_on_the_optimiser_but_not_on_the_recipes_rate(few: Path):
    found = find_lr(few, deterministic=True, batch_size=64, optimiser="adamw")
    assert 1e-4 < found.suggestion < 2e-2
    again = find_lr(few, deterministic=True, batch_size=64, optimiser="adamw", lr=1e-7)
    assert again.losses == found.losses
    assert (again.suggestion, again.usual) == (found.suggestion, 1e-7)


def test_it_changes_no_weights_and_leaves_no_folder(few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    model = train(few, output=tmp_path / "run", epochs=1, deterministic=True).model
    before, files = model.read_bytes(), sorted(tmp_path.rglob("*"))
    heard: list[Event] = []
    find_lr(few, model=model, batch_size=64, deterministic=True, listener=heard.append)
    assert model.read_bytes() == before
    assert sorted(tmp_path.rglob("*")) == files
    assert [event.done for event in heard if isinstance(event, Preparing) and event.doing == "trying rates"][-1] > 50


def test_the_command_says_how_to_go_on(few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(list(words))
        return int(left.value.code or 0), *capsys.readouterr()

    words = ("train", "few.npz", "--find-lr", "--batch-size", "60", "--no-nesterov", "--deterministic")
    code, out, _ = run(*words)
    assert code == 0
    assert "steepest fall" in out
    assert "lowest loss" in out
    following = out.splitlines()[-1].split("resnetkit ")[1].split()
    assert following[:2] == ["train", "few.npz"]
    assert run(*following, "--epochs", "1", "--output", "run")[0] == 0
    plan = Plan.read(tmp_path / "run" / "recipe.yaml")
    assert (plan.recipe.batch_size, plan.recipe.nesterov, plan.deterministic) == (60, False, True)
    code, out, _ = run(*words, "--json")
    assert plan.recipe.lr == json.loads(out)["suggestion"]
    assert len(json.loads(out)["steps"]) > 50
    code, _, err = run(*words, "--output", "other")
    assert code == 1
    assert "--output" in err
