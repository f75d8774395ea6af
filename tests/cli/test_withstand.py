"""What a run must withstand: each a clear line that says what to do, exit code 1, nothing lost."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resnetkit.checkpoints import modelfile
from resnetkit.cli import main

SMALL = ("--epochs", "1", "--image-size", "16", "--model", "resnet20")


@pytest.fixture
def run_command(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def run(*words: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return int(left.value.code or 0), out, err

    return run


def paint(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(shade)
    Image.fromarray(rng.integers(0, 60, (20, 24, 3), dtype=np.uint8) + np.uint8(shade % 190)).save(path)


def folder_of(root: Path, **classes: int) -> Path:
    for number, (name, count) in enumerate(classes.items()):
        for index in range(count):
            paint(root / name / f"{index}.png", 100 * number + index)
    return root


def test_an_empty_folder(run_command, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    code, _, err = run_command("train", "empty")
    assert code == 1
    assert "empty" in err


def test_one_class(run_command, tmp_path: Path):
    folder_of(tmp_path / "data", cat=4)
    code, _, err = run_command("train", "data", *SMALL)
    assert code == 1
    assert "class" in err
    assert "two" in err


def test_a_class_with_one_image_is_learned_and_said(run_command, tmp_path: Path):
    folder_of(tmp_path / "data", cat=12, dog=12, yeti=1)
    code, _, err = run_command("train", "data", *SMALL)
    assert code == 0, err
    assert "yeti" in err


def test_different_classes_in_train_and_val_are_all_named(run_command, tmp_path: Path):
    folder_of(tmp_path / "data" / "train", cat=3, dog=3)
    folder_of(tmp_path / "data" / "val", cat=3, horse=3)
    code, _, err = run_command("train", "data", *SMALL)
    assert code == 1
    assert "dog" in err
    assert "horse" in err
    assert not (tmp_path / "runs").exists(), "nothing is begun before the data is right"


@pytest.mark.parametrize("batch_size", ["1", "2", "7"])
def test_batches_that_leave_a_last_one_of_one(run_command, tmp_path: Path, batch_size: str):
    folder_of(tmp_path / "data", cat=8, dog=8)
    code, _, err = run_command("train", "data", *SMALL, "--batch-size", batch_size)
    assert code == 0, err


def test_a_file_where_a_folder_is_meant(run_command, tmp_path: Path):
    paint(tmp_path / "photo.png", 1)
    code, _, err = run_command("train", "photo.png")
    assert code == 1
    assert "is a file" in err


def test_broken_pictures_stop_the_run_before_it_begins_and_are_all_listed(run_command, tmp_path: Path):
    data = folder_of(tmp_path / "data", cat=12, dog=12)
    for name in ("cat/3.png", "dog/5.png"):
        (data / name).write_bytes((data / name).read_bytes()[:60])
    (data / "dog" / "empty.jpg").touch()
    code, _, err = run_command("train", "data", *SMALL)
    assert code == 1
    for name in ("3.png", "5.png", "empty.jpg", "--skip-broken"):
        assert name in err
    assert not (tmp_path / "runs").exists()
    code, _, err = run_command("train", "data", *SMALL, "--skip-broken", "--output", "run")
    assert code == 0, err
    assert "3 broken of 25" in err
    code, _, err = run_command("train", "--resume", "run")
    assert code == 0, err


def test_an_output_that_cannot_be_made(run_command, tmp_path: Path):
    folder_of(tmp_path / "data", cat=4, dog=4)
    (tmp_path / "file").touch()
    code, _, err = run_command("train", "data", *SMALL, "--output", "file/run")
    assert code == 1
    assert "--output" in err


def test_no_permission(tmp_path: Path, without_privileges):
    data = folder_of(tmp_path / "data", cat=4, dog=4)
    (data / "dog" / "1.png").chmod(0)
    done = subprocess.run(
        [sys.executable, "-m", "resnetkit", "train", str(data), *SMALL],
        cwd=tmp_path, capture_output=True, text=True, preexec_fn=without_privileges,
    )  # fmt: skip
    assert done.returncode == 1
    assert "no permission" in done.stderr
    assert "1.png" in done.stderr
    assert "Traceback" not in done.stderr


class Evil:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def test_a_pickle_that_would_run_code_is_refused_and_not_run(run_command, tmp_path: Path):
    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}, "extra": Evil()}, tmp_path / "new.pth")
    (tmp_path / "old.pth").write_bytes(pickle.dumps(Evil()))
    for name in ("new.pth", "old.pth"):
        for words in (("evaluate", name, "digits"), ("predict", name, "x.png"), ("train", "digits", "--model", name)):
            code, _, err = run_command(*words)
            assert code == 1
            assert name in err
            assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "pwned").exists()


def test_a_checkpoint_of_other_shapes_lists_every_mismatch(run_command, tmp_path: Path):
    import resnetkit as rk

    state = rk.create_model("resnet18", num_classes=10).state_dict()
    state["layer3.1.conv2.weight"] = torch.zeros(7, 7, 3, 3)
    state["layer4.1.bn1.bias"] = torch.zeros(3)
    torch.save(state, tmp_path / "odd.pth")
    code, _, err = run_command("evaluate", "odd.pth", "digits")
    assert code == 1
    assert "layer3.1.conv2.weight" in err
    assert "layer4.1.bn1.bias" in err


def test_a_model_of_other_classes_is_refused_before_any_work(run_command, tmp_path: Path, digits_run: Path):
    folder_of(tmp_path / "data", cat=4, dog=4)
    code, _, err = run_command("evaluate", digits_run, "data")
    assert code == 1
    assert "cat, dog" in err


def test_a_truncated_model_file(run_command, tmp_path: Path, digits_run: Path):
    content = (digits_run / "model.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[: len(content) // 2])
    code, _, err = run_command("evaluate", "cut.safetensors", "digits")
    assert code == 1
    assert "cut.safetensors" in err


def test_a_changed_data_set_is_not_resumed(run_command, tmp_path: Path):
    data = folder_of(tmp_path / "data", cat=8, dog=8)
    assert run_command("train", "data", *SMALL, "--output", "run")[0] == 0
    (data / "cat" / "0.png").unlink()
    code, _, err = run_command("train", "--resume", "run")
    assert code == 1
    assert "gone" in err
    assert "cat/0.png" in err
    assert "--force" in err


def test_a_folder_is_evaluated_on_what_its_own_run_held_out(run_command, tmp_path: Path):
    folder_of(tmp_path / "data", cat=20, dog=20)
    assert run_command("train", "data", *SMALL, "--output", "run", "--seed", "3")[0] == 0
    result = json.loads(run_command("evaluate", "run", "data", "--json")[1])
    assert (result["split"], result["n"]) == ("val", 4)
    best = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert result["top1"] == best["val_top1"]
    shutil.copytree(tmp_path / "data", tmp_path / "other")
    paint(tmp_path / "other" / "cat" / "new.png", 7)
    result = json.loads(run_command("evaluate", "run", "other", "--json")[1])
    assert (result["split"], result["n"]) == ("all", 41)


def test_a_name_that_is_not_text_is_written_escaped(run_command, tmp_path: Path, digits_run: Path):
    name = os.fsdecode(b"pictures/\xff.png")
    os.mkdir("pictures")
    Image.new("L", (8, 8), 60).save(tmp_path / "three.png")
    os.rename(tmp_path / "three.png", name)
    for form in ((), ("--csv",), ("--jsonl",)):
        code, out, err = run_command("predict", digits_run, "pictures", *form)
        assert code == 0, err
        assert out.encode().count(b"ff.png") >= 1


def test_a_training_goes_on_when_nobody_reads_its_lines_any_more(tmp_path: Path):
    command = [sys.executable, "-m", "resnetkit", "train", "digits", "--epochs", "2", "--batch-size", "512", "--output"]
    process = subprocess.Popen([*command, tmp_path / "run"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stderr
    process.stderr.readline()
    process.stderr.close()
    process.wait(timeout=120)
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2


def test_letters_that_the_output_lacks_are_escaped():
    command = [sys.executable, "-m", "resnetkit", "describe", "resnet20"]
    shown = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, check=True)
    assert b"16 \\xd7 32 \\xd7 32" in shown.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no device that is always full")
@pytest.mark.parametrize("words", [["list"], ["describe", "resnet20", "--json"]])
def test_an_output_with_no_space_is_said(words: list[str]):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "resnetkit", *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (1, "resnetkit: there is no space left where the output goes\n")


def test_a_working_folder_that_is_gone_is_said(run_command, tmp_path: Path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    code, _, err = run_command("list")
    assert (code, err) == (1, "resnetkit: the working folder is gone: change to one that is there\n")


def test_numbers_that_are_none_are_said_and_not_printed(run_command, tmp_path: Path, digits_run: Path):
    state, card = modelfile.read(digits_run / "model.safetensors")
    damaged = {key: tensor.clone() for key, tensor in state.items()}
    damaged["fc.weight"][0, 0] = float("nan")
    modelfile.save(tmp_path / "nan.safetensors", damaged, card)
    paint(tmp_path / "picture.png", 3)
    for words in (("predict", "nan.safetensors", "picture.png", "--json"), ("evaluate", "nan.safetensors", "digits")):
        code, out, err = run_command(*words)
        assert (code, out) == (1, "")
        assert "its weights are damaged" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train", "digits", "--workers", "-3"), "-3 workers"),
        (("train", "digits", "--seed", str(2**63)), "a whole number from 0"),
        (("train", "digits", "--image-size", "999999999"), "sides are 1 to 16384 pixels"),
        (("train", "digits", "--lr", "inf"), "lr is inf"),
        (("predict", "resnet20", "x.png", "--mean", "nan,0,0"), "shares of 1"),
        (("predict", "resnet20", "x.png", "--device", "meta"), "device meta cannot be used"),
        (("describe", "resnet20", "--num-classes", str(10**20)), "num_classes 100000000000000000000"),
        (("describe", "a" * 300), "no file has so long a name: aaaa"),
        (("export", "resnet20", "--output", "model.xml"), "onnx files end in .onnx"),
    ],
)
def test_values_beyond_all_use_are_named(run_command, words: tuple[str, ...], said: str):
    code, _, err = run_command(*words)
    assert code == 1
    assert said in err
    assert "unexpected" not in err
    assert not Path("runs").exists(), "nothing was begun"
