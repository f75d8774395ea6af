import json
import re
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from resnetkit.catalog.recipe import Recipe
from resnetkit.cli import main
from resnetkit.cli.training_display import TrainingDisplay, balance_lines
from resnetkit.training.progress import EpochEnded


def test_an_epochs_line_says_how_long_the_step_waited_for_images(capsys: pytest.CaptureFixture[str]) -> None:
    ended = EpochEnded(
        epoch=2, epochs=10, loss=1.25, accuracy=0.5, val_loss=1.0, val_score=0.625, val_n=40, best=True,
        images_per_second=812.0, waited=0.374, seconds=10.0, seconds_left=61.0,
    )  # fmt: skip
    with TrainingDisplay("photos") as display:
        display(ended)
    line = capsys.readouterr().err
    assert line.split() == ["2/10", "1.250", "50.00", "%", "62.50", "%", "812", "37%", "1", "min", "1", "s", "best"]


def test_the_header_says_what_is_done_about_classes_of_unequal_size() -> None:
    def lines(images: tuple[int, ...], balance: str) -> str:
        plan = SimpleNamespace(recipe=replace(Recipe(), balance=balance), data=SimpleNamespace(class_names=("a", "b")))
        return "\n".join(balance_lines(images, plan))

    assert lines((100, 300), "none") == ""
    assert "none: 10 images of b, 300 of a; --balance loss or sampler" in lines((300, 10), "none")
    assert "in the loss: b (10 images) ×" in lines((300, 10), "loss")
    assert "drawn: b (10 images)" in lines((300, 10), "sampler")


def test_the_header_says_in_six_lines_what_will_happen_and_how_long_it_takes(tmp_path, capsys):
    began = time.monotonic()
    with pytest.raises(SystemExit) as left:
        main([
            "train", "digits", "--epochs", "12", "--batch-size", "64", "--output", str(tmp_path / "run"),
            "--ema-decay", "0.9", "--mixup", "0.2", "--early-sizes", "0.5", "--early-until", "0.5", "--deterministic",
            "--padding-mode", "edge", "--model", "resnet8_w40", "--flip", "--mirrored-weights",
        ])  # fmt: skip
    assert left.value.code == 0
    took = time.monotonic() - began
    header = capsys.readouterr().err.split("\n\n")[0].splitlines()
    header = [line for line in header if not line.startswith("note:")]
    assert [line.split()[0] for line in header] == ["Training", "images", "input", "recipe", "time", "run"]
    assert "1293 to learn from, 144 held out" in header[1]
    assert "8×8 px (at first 50% of it), random shift (padding: edge) and mirror, mixup" in header[2]
    assert "sgd at rate 0.1 (cosine), batch 64, weights that mirror each other, the model is an average" in header[3]
    said = re.fullmatch(r"  time     12 epochs of 21 steps: about (\d+) s, float32 on cpu(, fused kernels)?", header[4])
    assert said, header[4]
    # Other work on the machine may come or go between the few steps that were timed and the whole.
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    trained = json.loads(lines[-1])["seconds"]
    assert trained / 4 - 0.5 < int(said[1]) < 4 * took + 1
