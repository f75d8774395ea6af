"""Two handwritten digits side by side: which digits are there? Trained, scored and predicted as several labels."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import metrics

from resnetkit.api.evaluating import evaluate
from resnetkit.api.exporting import export
from resnetkit.api.training import train
from resnetkit.checkpoints.modelfile import read
from resnetkit.cli import main
from resnetkit.data.opening import open_data
from resnetkit.deployment.exports.graphs import program
from resnetkit.deployment.opening import open_model
from resnetkit.deployment.predictor import Predictor
from resnetkit.errors import DataError, InvalidArgument

NAMES = tuple(f"a {digit}" for digit in range(10))


def pairs(part: str, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images n,8,16,1 and n,10 of 0 and 1."""
    source = open_data("digits").split(part)
    pixels = np.stack([source.image(i) for i in range(len(source))])
    chosen = np.random.default_rng(seed).integers(0, len(source), (n, 2))
    images = np.concatenate([pixels[chosen[:, 0]], pixels[chosen[:, 1]]], axis=2)
    targets = np.zeros((n, 10), np.uint8)
    for side in (0, 1):
        targets[np.arange(n), source.labels[chosen[:, side]]] = 1
    return images, targets


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.npz"
    arrays = {"class_names": np.array(NAMES)}
    for part, n, seed in (("train", 1500, 0), ("val", 150, 1), ("test", 300, 2)):
        arrays[f"{part}_images"], arrays[f"{part}_labels"] = pairs(part, n, seed)
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def run(data: Path) -> Path:
    result = train(
        data, output=data.parent / "run", epochs=12, batch_size=64, flip=False, mixup=0.1, ema_decay=0.9,
        deterministic=True,
    )  # fmt: skip
    assert result.measure == "mean_ap"
    assert result.best_top1 is None
    assert set(result.to_dict()["best"]) == {"epoch", "split", "n", "mean_ap", "loss"}
    return result.run


def test_it_learns_which_digits_are_there(data: Path, run: Path):
    scores = evaluate(run, data, split="test").scores
    _, targets = pairs("test", 300, 2)
    assert scores.n == 300
    assert scores.mean_ap > 0.6, "chance is 0.2"
    assert scores.mean_ap > 2 * targets.mean()


def test_the_threshold_is_the_validations_and_the_tests_alike(data: Path, run: Path):
    card = read(run / "model.safetensors")[1]
    assert card.task == "multilabel"
    val = evaluate(run, data, split="val").scores
    test = evaluate(run, data, split="test").scores
    assert val.threshold == test.threshold == card.threshold
    assert val.mean_ap == pytest.approx(card.scores["val"]["mean_ap"], abs=1e-6)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert val.mean_ap == pytest.approx(max(line["val_mean_ap"] for line in lines), abs=1e-6)


def test_prediction_and_evaluation_agree_and_say_what_is_above_the_threshold(data: Path, run: Path):
    images, targets = pairs("test", 40, 2)
    predictor = Predictor(run)
    rows = [predictor(image[..., 0]) for image in images]
    probs = np.stack([row.probabilities for row in rows])
    assert np.abs(probs.sum(axis=1) - 1).max() > 0.2, "yes or no for each class, no share of one"
    for row, prob in zip(rows, probs, strict=True):
        assert {each.label for each in row.said()} == {NAMES[c] for c in np.flatnonzero(prob >= row.threshold)}
        assert row.to_dict()["labels"] == [each.label for each in row.said()]
    whole = evaluate(run, data, split="test").scores
    right = metrics.f1_score(targets, probs >= rows[0].threshold, average="micro")
    assert abs(right - whole.f1) < 0.15


def code_of(*words: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(words)
    return int(left.value.code or 0)


def test_the_commands_show_it(data: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert code_of("evaluate", str(run), str(data)) == 0
    assert "mean average precision over 10 classes" in capsys.readouterr().out
    assert code_of("evaluate", str(run), str(data), "--json") == 0
    assert {"mean_ap", "f1", "exact", "threshold"} <= set(json.loads(capsys.readouterr().out))
    images, _ = pairs("test", 1, 2)
    Image.fromarray(images[0, ..., 0]).save(tmp_path / "pair.png")
    assert code_of("predict", str(run), str(tmp_path / "pair.png")) == 0
    assert "pair.png" in capsys.readouterr().out


def test_questions_are_not_mixed(data: Path, run: Path, tmp_path: Path):
    with pytest.raises(DataError, match="several labels"):
        evaluate(run, "digits")
    with pytest.raises(InvalidArgument, match="cross_entropy takes one label"):
        train(data, loss="cross_entropy", output=tmp_path / "no")


def test_a_graph_for_other_runtimes_gives_a_yes_or_no_each(run: Path):
    opened = open_model(run)
    graph = program(opened.network, opened.card, "pixels").module()
    pixels = np.random.default_rng(0).integers(0, 256, (3, *opened.preprocess.size, 1), np.uint8)
    np.testing.assert_allclose(graph(torch.from_numpy(pixels)).numpy(), opened.classifier()(pixels), atol=1e-5)


@pytest.mark.parametrize("input_", ["picture", "tensor"])
def test_an_export_knows_several_labels_too(data: Path, run: Path, tmp_path: Path, input_: str):
    file = export(run, tmp_path, input=input_).path
    wanted, got = evaluate(run, data, split="test").scores, evaluate(file, data, split="test").scores
    assert abs(got.mean_ap - wanted.mean_ap) < 1e-3
    assert got.threshold == wanted.threshold
    images, _ = pairs("test", 20, 2)
    own, other = Predictor(run), Predictor(file)
    for image in images:
        one, same = own(image), other(image)
        assert np.abs(one.probabilities - same.probabilities).max() < 0.01
        assert same.threshold == one.threshold is not None
