"""A run by the clock: it ends on time whatever the pace, and where it must be repeatable its steps are counted out."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from tests.training.test_interruption import ENVIRONMENT, assert_same_end, kill, start, wait_for_step

from resnetkit.api.training import resume, train
from resnetkit.errors import InvalidArgument
from resnetkit.training import duration
from resnetkit.training.duration import Clock, Steps
from resnetkit.training.plan import Budget, Plan
from resnetkit.training.progress import Event, Stepped
from resnetkit.training.schedule import learning_rate
from resnetkit.training.snapshot import Position


class Watch:
    """A clock that goes on only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def stepped(position: Position) -> Position:
    return Position(
        steps_done=position.steps_done + 1, global_step=position.global_step + 1, progress=position.progress
    )


@settings(deadline=None)  # a busy machine is no fault of the clock
@given(
    paces=st.lists(st.floats(0.01, 0.5), min_size=1, max_size=12),
    estimate=st.integers(1, 10_000),
    began=st.floats(0, 20),
    spent=st.floats(0, 20),
)
def test_progress_is_the_share_of_the_time_whatever_the_pace_and_the_estimate(paces, estimate, began, spent):
    watch = Watch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duration, "time", watch)
        clock = Clock(Budget(minutes=2.0, steps=estimate, validating=1.0), began=watch.now - began, spent=spent)
        begin, position = watch.now, Position()
        end = begin + 120 - began - spent
        steps = 0
        while not clock.over(position):
            before = clock.at(position)
            watch.now += paces[steps * len(paces) // 2000 % len(paces)]
            position = clock.moved(stepped(position))
            assert clock.at(position) >= before
            steps += 1
        assert watch.now <= end - 1.2  # the validation that follows fits, and is counted
        assert end - watch.now < 1.2 + duration._LEAVING + duration._NOISE * 120 + 2.2 * max(paces)
        share = min(1.0, (watch.now - begin) / (end - duration._tail(120, 1.0) - begin))  # a slow last step ends late
        assert abs(position.progress - share) < 1e-9
        assert learning_rate(clock.at(position), peak=1.0, warmup=0, total=estimate) < 0.02


def test_steps_are_their_own_progress():
    steps = Steps(8)
    position = steps.moved(Position(global_step=6))
    assert (steps.at(position), position.progress, steps.over(position)) == (6, 0.75, False)
    assert steps.over(Position(global_step=8))


def test_the_command_ends_in_time_and_uses_nearly_all_of_it(tmp_path: Path):
    run = tmp_path / "run"
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "resnetkit", "train", "digits", "--minutes", "0.2", "--output", str(run)],
        capture_output=True, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    took = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    assert 9.0 < took < 30.0  # 12 where nothing else runs; the exact share is tested on a clock of the test's own
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["val_top1"] is not None, "the last epoch is validated"
    newest = sorted((run / "checkpoint").glob("step-*"))[-1]
    with safe_open(newest, framework="pt") as file:
        position = Position(**json.loads(file.metadata()["position"]))
    assert 0.97 < position.progress <= 1.0
    # A finished run is finished, however much later it is asked to go on, and if its clock had seconds left.
    assert resume(run).epochs == len(lines)
    assert resume(run, began=time.monotonic() + 5).epochs == len(lines)


def test_a_deterministic_budget_is_counted_out_and_repeats(tmp_path: Path):
    train("digits", output=tmp_path / "a", minutes=0.1, deterministic=True, batch_size=256)
    train(recipe=tmp_path / "a" / "recipe.yaml", output=tmp_path / "b", checkpoint_steps=3)
    assert Plan.read(tmp_path / "b" / "recipe.yaml").budget == Plan.read(tmp_path / "a" / "recipe.yaml").budget
    assert_same_end(tmp_path / "b", tmp_path / "a")


@pytest.mark.slow  # it needs a budget in which a busy machine, too, gets as far as the kill
def test_a_deterministic_budget_is_counted_out_so_that_killed_resumed_and_repeated_runs_are_equal(tmp_path: Path):
    whole, run, again = tmp_path / "whole", tmp_path / "run", tmp_path / "again"
    flags = ("--deterministic", "--checkpoint-steps", "2", "--batch-size", "256", "--device", "cpu")
    process = start("train", "digits", "--minutes", "0.5", *flags, "--output", run)
    wait_for_step(run, 4, process)
    kill(process)
    resume(run)
    budget = Plan.read(run / "recipe.yaml").budget
    newest = sorted((run / "checkpoint").glob("step-*"))[-1]
    assert budget is not None
    assert newest.name == f"step-{budget.steps:08d}.safetensors"
    train(recipe=run / "recipe.yaml", output=whole)
    train(recipe=whole / "recipe.yaml", output=again, checkpoint_steps=3)
    assert_same_end(run, whole)
    assert_same_end(again, whole)


def test_a_resumed_run_is_no_sooner_over_than_one_never_stopped(tmp_path: Path):
    train("digits", output=tmp_path / "a", minutes=0.05, deterministic=True, batch_size=256)
    path = tmp_path / "a" / "recipe.yaml"
    recipe = yaml.safe_load(path.read_text())
    recipe["budget"] |= {"steps": 60, "validate_every": 2}
    path.write_text(yaml.safe_dump(recipe))
    # Nothing can change, so the first validation, after two epochs, stays the best.
    settings = {"recipe": path, "freeze": "body", "lr": 1e-30, "early_stopping": 1}
    whole = train(output=tmp_path / "whole", **settings)
    assert whole.epochs == 4, "the third has no validation"

    def stop(event: Event) -> None:
        if isinstance(event, Stepped) and event.epoch == 4:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(output=tmp_path / "run", listener=stop, **settings)
    assert resume(tmp_path / "run").epochs == 4
    assert_same_end(tmp_path / "run", tmp_path / "whole")


def test_epochs_replace_the_budget_of_a_former_run(tmp_path: Path):
    train("digits", output=tmp_path / "a", minutes=0.05, deterministic=True, batch_size=256)
    result = train(recipe=tmp_path / "a" / "recipe.yaml", output=tmp_path / "b", epochs=1)
    assert result.epochs == 1
    assert Plan.read(tmp_path / "b" / "recipe.yaml").budget is None


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), float("inf")])
def test_impossible_minutes(minutes: float):
    with pytest.raises(InvalidArgument, match="minutes"):
        train("digits", minutes=minutes)


def test_where_steps_are_counted_a_changed_run_stands_where_its_steps_do(tmp_path: Path):
    """A job of several processes has no clock, so no time was spent."""
    plan = Plan.read(
        train("digits", output=tmp_path / "run", epochs=1, batch_size=512, device="cpu").run / "recipe.yaml"
    )
    plan = replace(plan, budget=Budget(minutes=1.0, steps=80))
    position = Position(global_step=20)
    assert duration.progress_at(plan, 10, position, counted=True) == 0.25
    assert duration.progress_at(plan, 10, position) == 0.0
