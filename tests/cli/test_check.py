"""`resnetkit check` on folders broken on purpose: what it says, its exit code, and the table that it writes."""

import csv
import json
import os
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import resnetkit as rk
from resnetkit.cli import build_app, main
from resnetkit.data.opening import open_data
from resnetkit.data.randomness import permutation


@pytest.fixture
def run_command(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def run(*words: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return int(left.value.code or 0), out, err

    return run


def paint(path: Path, seed: int, size: tuple[int, int] = (96, 72)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(path)


def healthy(root: Path, per_class: int = 12) -> Path:
    for number, place in enumerate(("train/cat", "train/dog", "val/cat", "val/dog")):
        for index in range(per_class):
            paint(root / place / f"{index}.png", 100 * number + index)
    return root


def findings(run_command, *words: str | Path) -> dict[str, dict]:
    _, out, _ = run_command("check", *words, "--json")
    return {finding["kind"]: finding for finding in json.loads(out)["findings"]}


def test_a_healthy_folder(run_command, tmp_path: Path):
    code, out, _ = run_command("check", healthy(tmp_path / "photos"), "--image-size", "64")
    assert code == 0
    assert "48 (24 in train, 24 in val), 2 classes" in out
    assert "Fit for training: nothing is the matter." in out
    assert max(map(len, out.splitlines())) <= 100


def test_every_harm_is_found_named_and_mended(run_command, tmp_path: Path):
    folder = healthy(tmp_path / "photos", 16)
    (folder / "train/cat/0.png").write_bytes(b"")
    (folder / "train/cat/1.png").write_bytes((folder / "train/cat/1.png").read_bytes()[:200])
    shutil.copy(folder / "val/dog/3.png", folder / "train/dog/3.png")
    shutil.copy(folder / "train/dog/4.png", folder / "train/cat/4.png")
    shutil.copy(folder / "train/dog/5.png", folder / "train/dog/6.png")
    Image.open(folder / "val/cat/7.png").save(folder / "train/cat/near.jpg", quality=70)
    code, out, _ = run_command("check", "photos", "--fix", "clean.csv")
    assert code == 1
    assert "Mend these 4 things" in out
    assert "resnetkit check photos --fix clean.csv" in out
    found = findings(run_command, folder)
    assert found["empty"]["names"] == ["train/cat/0.png"]
    assert found["truncated"]["count"] == 1
    assert found["copies-across-classes"]["names"] == ["train/cat/4.png = train/dog/4.png"]
    assert found["copies-across-parts"]["names"] == ["train/dog/3.png = val/dog/3.png"]
    assert found["copies"]["names"] == ["train/dog/5.png = train/dog/6.png"]
    assert found["near-copies-across-parts"]["names"] == ["train/cat/near.jpg = val/cat/7.png"]
    with open("clean.csv", newline="") as file:
        listed = {row["path"]: (row["label"], row["split"]) for row in csv.DictReader(file)}
    everything = {str(path.relative_to(tmp_path)) for path in folder.glob("*/*/*.*")}
    gone = {"cat/0.png", "cat/1.png", "cat/4.png", "dog/4.png", "dog/3.png", "dog/6.png", "cat/near.jpg"}
    assert everything - set(listed) == {f"photos/train/{name}" for name in gone}
    for path, (label, split) in listed.items():
        assert path.split("/")[1:3] == [split, label]
    code, out, _ = run_command("check", "clean.csv", "--image-size", "64")
    assert (code, "nothing is the matter" in out) == (0, True)
    code, _, err = run_command("train", "clean.csv", "--epochs", "1", "--image-size", "16", "--model", "resnet20")
    assert code == 0, err


def test_classes_missing_few_and_uneven(run_command, tmp_path: Path):
    folder = tmp_path / "photos"
    for label, (train, test) in {"a": (60, 8), "b": (6, 2), "c": (12, 0)}.items():
        for index in range(train):
            paint(folder / "train" / label / f"{index}.png", int.from_bytes(f"{label}{index}".encode()))
        for index in range(test):
            paint(folder / "test" / label / f"{index}.png", int.from_bytes(f"{label}{index}t".encode()))
    code, out, _ = run_command("check", folder)
    assert code == 0, "training is not harmed"
    assert "6 (b) to 60 (a) a class in train" in out
    found = findings(run_command, folder)
    assert found["class-missing"]["names"] == ["c"]
    assert found["imbalance"]["names"] == ["b (6)"]
    assert found["imbalance"]["remedy"].endswith("--balance loss")
    found = [each for each in rk.check(folder).health.findings if each.kind == "class-small"]
    assert [each.names for each in found] == [("b (6)",), ("b (2)",)]


def test_parts_with_other_classes_are_a_finding_beside_all_others(run_command, tmp_path: Path):
    folder = healthy(tmp_path / "photos", 3)
    shutil.move(folder / "val/dog", folder / "val/horse")
    (folder / "train/yeti").mkdir()
    (folder / "train/dog/1.png").write_bytes(b"")
    code, out, _ = run_command("check", folder)
    assert code == 1
    assert "classes without images: yeti (train)" in " ".join(out.split())
    (folder / "train/yeti").rmdir()
    code, out, _ = run_command("check", folder)
    assert "only in val: horse; only in train: dog" in " ".join(out.split())
    found = findings(run_command, folder)
    assert found["empty"]["names"] == ["train/dog/1.png"]
    missing = [each for each in rk.check(folder).health.findings if each.kind == "class-missing"]
    assert [(each.level, each.names) for each in missing] == [("harm", ("horse",)), ("caution", ("dog",))]
    code, _, err = run_command("train", folder)
    assert (code, "only in val: horse" in err) == (1, True)


def test_data_that_training_refuses_is_looked_at_as_it_would_look_at_sound_data(run_command, tmp_path: Path):
    (tmp_path / "photos" / "dog").mkdir(parents=True)
    for index in range(3):
        paint(tmp_path / "photos" / "cat" / f"{index}.png", index)
    code, out, _ = run_command("check", "photos", "--json")
    assert (code, json.loads(out)["preprocess"]["size"]) == (1, [224, 224])


def test_an_npz_without_a_class_is_a_finding(run_command):
    images = np.zeros((4, 20, 20), np.uint8)
    np.savez("few.npz", train_images=images, train_labels=np.array([0, 0, 2, 2]))
    code, out, _ = run_command("check", "few.npz")
    assert (code, "1 of 3 classes have no training image: 1" in " ".join(out.split())) == (1, True)


def test_sizes_beside_the_input(run_command, tmp_path: Path):
    folder = healthy(tmp_path / "photos")
    paint(folder / "train/cat/panorama.png", 999, (800, 60))
    paint(folder / "train/cat/icon.png", 998, (8, 8))
    found = findings(run_command, folder)
    assert found["smaller"]["count"] == 50
    assert found["smaller"]["remedy"].endswith("photos --image-size 64")
    assert found["long"]["names"] == ["train/cat/panorama.png (800×60)"]
    assert found["long"]["remedy"].endswith("photos --crop-mode pad")
    assert found["tiny"]["names"] == ["train/cat/icon.png (8×8)"]
    assert "smaller" in findings(run_command, folder, "--image-size", "128")
    assert findings(run_command, folder, "--image-size", "32")["smaller"]["count"] == 1


def test_pixels_far_from_what_the_network_expects(run_command, tmp_path: Path):
    folder = tmp_path / "night"
    random = np.random.default_rng(0)
    for kind, levels in (("moon", (20, 60)), ("stars", (0, 40))):
        (folder / kind).mkdir(parents=True)
        for index in range(12):
            Image.fromarray(random.integers(*levels, (24, 24, 3), np.uint8)).save(folder / kind / f"{index}.png")
    found = findings(run_command, folder)["normalisation"]
    assert (found["level"], found["count"], found["of"]) == ("caution", 3, 3)
    assert found["names"][0].startswith("red: mean 0.1")
    command = shlex.split(found["remedy"])
    assert command == ["resnetkit", "train", str(folder), "--normalise-by", "data"]
    code, _, err = run_command(*command[1:], "--epochs", "1", "--output", "run")
    assert code == 0, err
    assert "normalisation" not in findings(run_command, folder, "--model", "run"), "the command mends it"
    light = tmp_path / "day"
    for path in folder.glob("*/*.png"):
        (light / path.parent.name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(255 - np.array(Image.open(path))).save(light / path.parent.name / path.name)
    found = findings(run_command, light, "--model", "run")["normalisation"]
    assert (found["count"], found["remedy"]) == (3, None)
    assert "inverted?" in found["consequence"]


def test_every_copy_is_in_the_json(run_command, tmp_path: Path):
    folder = healthy(tmp_path / "photos", 14)
    first = folder / "train/cat/0.png"
    for index in range(1, 8):
        shutil.copy(first, folder / f"train/cat/{index}.png")
    shutil.copy(folder / "train/dog/0.png", folder / "train/dog/9.png")
    found = findings(run_command, folder)["copies"]
    assert found["groups"] == [
        [f"train/cat/{index}.png" for index in range(8)], ["train/dog/0.png", "train/dog/9.png"]
    ]  # fmt: skip
    assert found["count"] == sum(map(len, found["groups"]))
    assert found["names"][0].endswith("4.png = 3 more")
    assert findings(run_command, healthy(tmp_path / "others", 3))["class-small"]["groups"] == []


def test_every_remedy_is_a_command_that_there_is(run_command, tmp_path: Path):
    folder = healthy(tmp_path / "two words", 100)
    for path in sorted((folder / "train/dog").iterdir())[9:]:
        path.unlink()
    (folder / "train/cat/0.png").write_bytes(b"")
    shutil.copy(folder / "val/dog/3.png", folder / "train/dog/3.png")
    paint(folder / "train/cat/panorama.png", 999, (800, 60))
    Image.new("RGB", (5000, 4000)).save(folder / "train/cat/huge.png")
    remedies = {each["kind"]: each["remedy"] for each in findings(run_command, folder).values() if each["remedy"]}
    assert {"empty", "copies-across-parts", "imbalance", "smaller", "long", "huge"} <= set(remedies)
    for remedy in remedies.values():
        name, *words = shlex.split(remedy)
        assert (name, words[1]) == ("resnetkit", str(folder))
        build_app().parse_args(words, exit_on_error=False)


def test_a_models_own_input_is_what_counts(run_command, digits_run: Path):
    code, out, _ = run_command("check", "digits", "--model", digits_run, "--json")
    assert code == 0
    assert json.loads(out)["preprocess"]["size"] == [8, 8]


def test_names_of_all_kinds_survive_the_table(run_command, tmp_path: Path):
    folder = tmp_path / "photos"
    odd = ["two\nlines.png", "a,b.png", 'quo"ted.png', " blank.png", "line\u2028end.png", "über.png", "x\x0by.png"]
    for number, name in enumerate(odd):
        paint(folder / " cat" / name, number)
        paint(folder / "dog" / name, 50 + number)
    paint(folder / "dog" / "bad.png", 99)
    os.rename(folder / "dog" / "bad.png", os.fsencode(folder / "dog") + b"/caf\xe9.png")
    code, _, err = run_command("check", "photos", "--fix", "photos/clean.csv")
    assert code == 0
    assert "14 pictures, without 0 broken ones and 0 copies, 1 whose names are no text" in " ".join(err.split())
    assert rk.check("photos/clean.csv").health.parts == {"all": 14}
    assert not [each for each in rk.check("photos/clean.csv").health.findings if each.level == "harm"]


def test_the_picture_shows_the_first_batch_itself(run_command, tmp_path: Path):
    Path("still.yaml").write_text("augmentation: none\nflip: false\nbatch_size: 16\nval_share: 0.3\n")
    code, _, err = run_command("check", "digits", "--show", "sheet.png", "--recipe", "still.yaml")
    assert (code, "sheet.png: what training would feed first" in err) == (0, True)
    with Image.open("sheet.png") as picture:
        sheet = np.array(picture.convert("L"))
    train = open_data("digits", val_share=0.3).split("train")
    for place, index in enumerate(permutation("order", 0, 0, len(train))[:16]):
        y, x = 52 + place // 8 * (112 + 44), 16 + place % 8 * (112 + 8)
        np.testing.assert_array_equal(sheet[y + 7 : y + 112 : 14, x + 7 : x + 112 : 14], train.image(index)[..., 0])


def test_the_picture_of_mixed_photos_with_a_broken_one(run_command, tmp_path: Path):
    folder = healthy(tmp_path / "photos", 8)
    (folder / "train/cat/0.png").write_bytes(b"")
    code, _, _ = run_command("check", folder, "--show", "deep/sheet.png", "--recipe", "rsb-a2", "--image-size", "32")
    assert code == 1, "the data is harmed, and shown nevertheless"
    with Image.open("deep/sheet.png") as sheet:
        assert sheet.width > 600
    code, _, err = run_command("check", folder, "--show", "sheet.jpg")
    assert (code, "augmented.png" in err) == (1, True)
    code, _, err = run_command("check", folder, "--show", "sheet.png", "--recipe", "rsb-a9")
    assert (code, "did you mean rsb-a" in err) == (1, True)


def test_no_table_for_arrays_nor_with_another_suffix(run_command, tmp_path: Path):
    code, _, err = run_command("check", "digits", "--fix", "clean.csv")
    assert (code, "array file" in err) == (1, True)
    code, _, err = run_command("check", healthy(tmp_path / "photos", 3), "--fix", "clean.xlsx")
    assert (code, "clean.csv" in err) == (1, True)


def test_several_labels_are_kept_and_compared_whole(run_command, tmp_path: Path):
    for number in range(8):
        paint(tmp_path / f"{number}.png", number)
    shutil.copy("0.png", "copy.png")
    rows = [f"{number}.png,{('red;round', 'red', 'round')[number % 3]}" for number in range(8)]
    Path("all.csv").write_text("\n".join(["path,label", *rows, "copy.png,red"]) + "\n")
    found = findings(run_command, "all.csv")
    assert found["copies-across-classes"]["names"] == ["0.png = copy.png"]
    run_command("check", "all.csv", "--fix", "clean.csv")
    with open("clean.csv", newline="") as file:
        labels = {row["path"]: row["label"] for row in csv.DictReader(file)}
    assert labels == {f"{number}.png": ("red;round", "red", "round")[number % 3] for number in range(1, 8)}


def test_links_in_circles_and_all_broken(run_command, tmp_path: Path):
    folder = healthy(tmp_path / "photos", 2)
    (folder / "train/cat/up").symlink_to(folder / "train", target_is_directory=True)
    (folder / "train/cat/self.png").symlink_to(folder / "train/cat/self.png")
    assert findings(run_command, folder)["missing"]["count"] == 1
    for path in (tmp_path / "photos").glob("*/*/*.png"):
        if not path.is_symlink():
            path.write_bytes(b"no")
    code, out, _ = run_command("check", folder)
    assert code == 1
    assert "classes without an image in train" in out


@pytest.mark.slow
def test_two_hundred_thousand_files(run_command, tmp_path: Path):
    """Hard links to a few pictures: nothing is quadratic in the number of files, or of copies."""
    for label in ("a", "b"):
        for index in range(100):
            paint(tmp_path / "some" / label / f"{index}.png", int.from_bytes(f"{label}{index}".encode()), (32, 32))
        (tmp_path / "many" / label).mkdir(parents=True)
        for index in range(100_000):
            os.link(tmp_path / "some" / label / f"{index % 100}.png", tmp_path / "many" / label / f"{index}.png")
    result = rk.check("many")
    assert result.health.images == 200_000
    assert {each.kind: each.count for each in result.health.findings}["copies"] == 200_000
    assert result.health.seconds < 600
