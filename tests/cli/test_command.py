"""The command as a person or a program meets it: words in, exit code, stdout and stderr out."""

import csv
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnetkit.cli import main


@pytest.fixture
def run_command(capsys: pytest.CaptureFixture[str]):
    def run(*words: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return int(left.value.code or 0), out, err

    return run


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three digits as files, one of them broken."""
    from sklearn.datasets import load_digits

    for index, image in enumerate(load_digits().images[:2]):
        Image.fromarray((image * 15.9375).astype(np.uint8)).save(tmp_path / f"{index}.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    return tmp_path


@pytest.mark.parametrize(
    "verb", ["demo", "list", "describe", "train", "evaluate", "predict", "export", "verify", "adopt"]
)
def test_every_verb_explains_itself_with_an_example(run_command, verb: str):
    code, out, _ = run_command(verb, "--help")
    assert code == 0
    assert f"Example: resnetkit {verb}" in out
    assert "--json" in out


@pytest.mark.parametrize(
    "words",
    [
        ("trian", "photos"),
        ("train", "--epochs", "many"),
        ("train", "photos", "--nonsense"),
        ("evaluate", "model-without-data"),
        ("predict", "model", "photo.jpg", "--precision", "int3"),
    ],
)
def test_wrong_words_exit_with_2(run_command, words: tuple[str, ...]):
    code, out, err = run_command(*words)
    assert code == 2
    assert out == ""
    assert err.strip()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train",), "train needs DATA"),
        (("train", "nowhere/photos"), "there is no such file or folder"),
        (("train", "digit"), "did you mean digits"),
        (("train", "digits", "--model", "resnet35"), "did you mean resnet"),
        (("train", "digits", "--epochs", "0"), "epochs is 0"),
        (("train", "digits", "--recipe", "scrach"), "did you mean scratch"),
        (("train", "--resume", "nowhere"), "is no run folder"),
        (("train", "--resume", "nowhere", "--seeds", "3", "--cache"), "leave out --seeds, --cache"),
        (("train", "digits", "--checkpoint-minutes", "0"), "checkpoint_minutes is 0"),
        (("train", "digits", "--checkpoint-steps", "0"), "checkpoint_steps is 0"),
        (("evaluate", "nowhere.safetensors", "digits"), "there is no file nowhere.safetensors"),
        (("predict", "resnet35", "x.jpg"), "did you mean resnet"),
        (("train", "digits", "--device", "cuda:77"), "device cuda:77 cannot be used"),
        (("list", "vit*"), "no architecture matches"),
    ],
)
def test_what_cannot_be_done_exits_with_1_and_one_line(run_command, words: tuple[str, ...], said: str):
    code, out, err = run_command(*words)
    assert code == 1
    assert out == ""
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_names_in_a_strangers_file_cannot_speak_to_the_terminal(run_command, tmp_path: Path):
    import torch

    import resnetkit as rk

    state = rk.create_model("resnet20", num_classes=3).state_dict()
    torch.save({**state, "[/red]\x1b[2J\nbn1.extra": torch.ones(2)}, tmp_path / "a[red].pth")
    code, out, err = run_command("adopt", tmp_path / "a[red].pth", "--tensors")
    assert (code, err) == (0, "")
    assert r"[/red]\x1b[2J\nbn1.extra" in out
    assert "\x1b" not in out
    torch.save({"x\x1b[2J\n": torch.ones(2)}, tmp_path / "b.pth")
    code, out, err = run_command("adopt", tmp_path / "b.pth")
    assert (code, out) == (1, "")
    assert r"it has x\x1b[2J\n (2,)" in err


def test_list_as_json(run_command):
    code, out, _ = run_command("list", "resnet?8", "--json")
    assert (code, json.loads(out)) == (0, ["resnet18"])


def test_train_prints_one_json_value_and_progress_on_stderr(run_command, tmp_path: Path):
    run = tmp_path / "run"
    code, out, err = run_command("train", "digits", "--epochs", "1", "--output", run, "--json")
    result = json.loads(out)
    assert code == 0
    assert result["run"] == str(run)
    assert {"run", "best", "epochs", "seconds", "images_per_second"} <= set(result)
    assert result["best"]["n"] == 144
    assert "1/1" in err
    assert {"recipe.yaml", "metrics.jsonl", "model.safetensors", "checkpoint"} <= set(os.listdir(run))


def test_evaluate_names_split_and_n(run_command, digits_run: Path):
    code, out, _ = run_command("evaluate", digits_run, "digits", "--json")
    result = json.loads(out)
    assert code == 0
    assert (result["split"], result["n"]) == ("test", 360)
    assert result["top1"] > 0.8
    assert {"model", "data", "split", "n", "top1", "top5", "loss", "top1_ci95"} <= set(result)
    low, high = result["top1_ci95"]
    assert low < result["top1"] < high
    code, out, _ = run_command("evaluate", digits_run, "digits", "--split", "val")
    assert "n = 144" in out


def test_evaluate_from_the_model_file_alone(run_command, digits_run: Path, tmp_path: Path):
    alone = tmp_path / "alone.safetensors"
    shutil.copy(digits_run / "model.safetensors", alone)
    scores = [
        json.loads(run_command("evaluate", model, "digits", "--json")[1])["top1"] for model in (digits_run, alone)
    ]
    assert scores[0] == scores[1]


def test_predict_shows_every_picture_and_the_broken_one(run_command, digits_run: Path, pictures: Path):
    code, out, err = run_command("predict", digits_run, pictures, "--top-k", "2")
    assert code == 1
    assert len(out.splitlines()) == 2
    assert "broken.png" in err
    assert "error" in err


def test_predict_json(run_command, digits_run: Path, pictures: Path):
    code, out, _ = run_command("predict", digits_run, pictures, "--json", "--top-k", "3")
    rows = json.loads(out)
    assert code == 1
    assert [set(row) for row in rows] == [{"source", "predictions"}] * 2 + [{"source", "error"}]
    assert [len(row["predictions"]) for row in rows[:2]] == [3, 3]
    assert [row["predictions"][0]["label"] for row in rows[:2]] == ["0", "1"]


def test_predict_may_ask_for_the_mirror_image_too(run_command, digits_run: Path, pictures: Path, tmp_path: Path):
    picture, mirrored = pictures / "0.png", tmp_path / "mirrored.png"
    Image.open(picture).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(mirrored)

    def scores(path: Path, *words: str) -> dict[str, float]:
        _, out, _ = run_command("predict", digits_run, path, "--jsonl", "--top-k", "10", *words)
        return {each["label"]: each["score"] for each in json.loads(out)["predictions"]}

    one, other, both = scores(picture), scores(mirrored), scores(picture, "--tta", "flip")
    assert one != pytest.approx(other, abs=1e-4)
    assert both == pytest.approx({label: (one[label] + other[label]) / 2 for label in one}, abs=1e-5)
    assert run_command("predict", digits_run, picture, "--tta", "turn")[0] == 2


def test_predict_jsonl_and_csv_agree(run_command, digits_run: Path, pictures: Path):
    _, out, _ = run_command("predict", digits_run, pictures / "0.png", "--jsonl")
    row = json.loads(out)
    _, out, _ = run_command("predict", digits_run, pictures / "0.png", "--csv")
    table = list(csv.DictReader(io.StringIO(out)))
    assert [each["label"] for each in row["predictions"]] == [each["label"] for each in table]
    assert [each["rank"] for each in table] == ["1", "2", "3", "4", "5"]


def test_predict_reads_paths_from_standard_input(run_command, digits_run, pictures, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{pictures / '0.png'}\n{pictures / '1.png'}\n"))
    code, out, _ = run_command("predict", digits_run, "-", "--jsonl")
    assert code == 0
    assert [json.loads(line)["predictions"][0]["label"] for line in out.splitlines()] == ["0", "1"]


def test_formats_exclude_each_other(run_command, digits_run: Path):
    code, _, err = run_command("predict", digits_run, "x.png", "--csv", "--json")
    assert code == 1
    assert "choose one" in err


def test_export_and_verify(run_command, digits_run: Path, tmp_path: Path):
    code, out, _ = run_command("export", digits_run, "--output", tmp_path, "--json")
    result = json.loads(out)
    assert (code, result["path"], result["input"]) == (0, str(tmp_path / "model.onnx"), "picture")
    code, out, _ = run_command("verify", tmp_path)
    assert code == 0
    assert "golden   right" in out
    code, out, _ = run_command("verify", tmp_path / "model.onnx", "--json")
    assert (code, json.loads(out)["passed"]) == (0, True)
    code, _, err = run_command("export", digits_run, "--int8")
    assert (code, "--calibrate DATA go together" in err) == (1, True)
    code, _, err = run_command("verify", digits_run)
    assert (code, "is no exported file" in err) == (1, True)
