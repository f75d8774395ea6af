"""Long counts are shown: by every verb that may download, in a pipe and on a terminal."""

import gzip
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnetkit.cli import counting, main
from resnetkit.cli.console import remarks


def idx(values: np.ndarray) -> bytes:
    """The format of Fashion-MNIST's files."""
    shape = np.array(values.shape, ">u4").tobytes()
    return gzip.compress(bytes((0, 0, 8, values.ndim)) + shape + values.tobytes())


def test_every_verb_shows_a_download(
    publish: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 28, 28), np.uint8)
    labels = (np.arange(60) % 10).astype(np.uint8)
    home = publish("fashion-mnist", idx(images[:40]), idx(labels[:40]), idx(images[40:]), idx(labels[40:]))
    monkeypatch.setattr(counting, "_SILENCE", 0.0)
    run = str(tmp_path / "run")
    for words in (
        ["train", "fashion-mnist", "--epochs", "1", "--batch-size", "8", "--output", run],
        ["train", "--resume", run],
        ["train", "fashion-mnist", "--show-recipe"],
        ["evaluate", run, "fashion-mnist"],
        ["check", "fashion-mnist"],
    ):
        shutil.rmtree(home, ignore_errors=True)
        with pytest.raises(SystemExit) as left:
            main(words)
        shown = capsys.readouterr().err
        assert left.value.code == 0, shown
        for file in ("train-images", "train-labels", "t10k-images", "t10k-labels"):
            assert f"downloading {file}" in shown, words
        assert ("looking at the images" in shown) == (words[0] in ("train", "check") and "--resume" not in words)
    with pytest.raises(SystemExit):
        main(["evaluate", run, "fashion-mnist"])
    assert "asking the model: 20 of 20" in capsys.readouterr().err


def test_a_folder_that_is_asked_about_is_counted_where_the_answers_are_not_seen(
    digits_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(counting, "_SILENCE", 0.0)
    for number in range(3):
        Image.new("L", (8, 8), 40 * number).save(tmp_path / f"{number}.png")
    for form in ("--json", "--jsonl", "--csv"):
        with pytest.raises(SystemExit) as left:
            main(["predict", str(digits_run), str(tmp_path), form])
        assert left.value.code == 0
        assert "predicting: 3 of 3" in capsys.readouterr().err


def test_one_bar_at_a_time_on_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(remarks, "is_interactive", True)  # which was settled when it was made
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with pytest.raises(SystemExit) as left:
        main(["train", "digits", "--seeds", "2", "--epochs", "1", "--output", str(tmp_path / "runs")])
    shown = capsys.readouterr().err
    assert left.value.code == 0, shown
    assert "looking at the images" in shown
    assert "2 seeds:" in shown
    assert shown.count("time left") == 2
