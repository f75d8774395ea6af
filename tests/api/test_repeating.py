"""Several seeds, and numbers handed to a tracker: each with real short runs."""

import json
import signal
import statistics
from pathlib import Path

import pytest

from resnetkit.api.repeating import train_with_seeds
from resnetkit.api.training import train
from resnetkit.errors import InvalidArgument, RunError
from resnetkit.training.interruption import Interrupted
from resnetkit.training.progress import Stepped, nobody
from resnetkit.training.tracking import tracked

SHORT = {"epochs": 1, "batch_size": 128, "precision": "float32"}


def test_seeds_are_runs_of_their_own_with_mean_and_deviation(tmp_path: Path):
    result = train_with_seeds(2, "digits", output=tmp_path / "runs", seed=5, **SHORT)
    scores = []
    for seed in (5, 6):
        [line] = (tmp_path / "runs" / f"seed-{seed}" / "metrics.jsonl").read_text().splitlines()
        scores.append(json.loads(line)["val_top1"])
    assert result.mean_score == pytest.approx(sum(scores) / 2)
    assert result.deviation_score == pytest.approx(abs(scores[0] - scores[1]) / 2**0.5)
    assert [run.run.name for run in result.runs] == ["seed-5", "seed-6"]
    with pytest.raises(InvalidArgument, match="two at least"):
        train_with_seeds(1, "digits")


def test_seeds_go_on_where_they_were_interrupted(tmp_path: Path):
    folder, said = tmp_path / "runs", []

    def in_the_second(event: object) -> None:
        said.append(str(event))
        if isinstance(event, Stepped) and len([text for text in said if text.startswith("Began")]) == 2:
            raise Interrupted("seed-1", signal.SIGINT)  # what a signal leads to, which test_interruption sends

    settings = {**SHORT, "epochs": 2, "deterministic": True}
    with pytest.raises(Interrupted):
        train_with_seeds(2, "digits", output=folder, listener=in_the_second, **settings)
    assert f"the same command with --output {folder}" in said[-1]
    first = (folder / "seed-0" / "model.safetensors").stat().st_mtime_ns
    with pytest.raises(RunError, match=r"another training \(not the same: epochs\)"):
        train_with_seeds(2, "digits", output=folder, **{**settings, "epochs": 3})
    result = train_with_seeds(2, "digits", output=folder, **settings)
    assert (folder / "seed-0" / "model.safetensors").stat().st_mtime_ns == first, "not trained again"
    whole = train_with_seeds(2, "digits", output=tmp_path / "whole", **settings)
    assert [run.best_score for run in result.runs] == [run.best_score for run in whole.runs]
    assert result.mean_score == whole.mean_score


def test_tensorboard_gets_the_numbers_of_the_metrics(tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with tracked(nobody, "tensorboard") as listener:
        train("digits", output=tmp_path / "run", listener=listener, **{**SHORT, "epochs": 2})
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    board.Reload()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for tag, key in (("train/loss", "train_loss"), ("val/top1", "val_top1")):
        points = [(event.step, event.value) for event in board.Scalars(tag)]
        assert points == [(line["epoch"], pytest.approx(line[key], rel=1e-6)) for line in lines]
    assert statistics.mean(event.value for event in board.Scalars("step/loss")) > 0
