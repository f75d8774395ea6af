"""Copies never fall on both sides of the split that training makes; the run knows it, evaluate and resume follow."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import resnetkit as rk
from resnetkit.api.training import resume, train
from resnetkit.data.opening import open_data, with_validation
from resnetkit.training.progress import Remark


def paint(path: Path, seed: int, quality: int) -> None:
    """A photo, saved as JPEG; the same seed with another quality is a near copy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize((40, 32), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=quality)
    path.write_bytes(buffer.getvalue())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of 30 photos, of each a third with two near copies."""
    for number, label in enumerate(("cat", "dog")):
        for index in range(30):
            paint(tmp_path / "photos" / label / f"{index}.jpg", 1000 * number + index, 90)
            for copy in (1, 2) if index % 3 == 0 else ():
                paint(tmp_path / "photos" / label / f"{index}-{copy}.jpg", 1000 * number + index, 90 - 10 * copy)
    return tmp_path / "photos"


def held_out(run: Path, folder: Path) -> set[str]:
    data = yaml.safe_load((run / "recipe.yaml").read_text())["data"]
    dataset = with_validation(open_data(folder, val_share=0), data["split_seed"], data["val_share"], data["together"])
    val = dataset.split("val")
    return {val.name(index) for index in range(len(val))}


def test_copies_stay_on_one_side_through_train_evaluate_and_resume(folder: Path, tmp_path: Path):
    plain = open_data(folder, val_share=0.3).split("val")
    names = {plain.name(index) for index in range(len(plain))}
    assert any(
        len({f"{n}{c}.jpg" in names for c in ("", "-1", "-2")}) > 1 for n in ("cat/0", "cat/3", "dog/6", "dog/9")
    )
    notes: list[object] = []
    options = {"model": "resnet20", "image_size": 16, "batch_size": 16, "precision": "float32", "deterministic": True}
    run = train(folder, output=tmp_path / "run", epochs=1, val_share=0.3, listener=notes.append, **options).run
    said = [event.text for event in notes if isinstance(event, Remark)]
    assert any("60 images have copies or near copies among them" in text for text in said), said
    val = held_out(run, folder)
    for name in val:
        base = name.removesuffix(".jpg").split("-")[0]
        if int(base.split("/")[1]) % 3 == 0:
            assert {f"{base}{copy}.jpg" for copy in ("", "-1", "-2")} <= val
    assert len(val) == pytest.approx(30, abs=4)
    evaluation = rk.evaluate(run, folder)
    best = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert (evaluation.split, evaluation.scores.n) == ("val", len(val))
    assert evaluation.scores.top1 == best["val_top1"]
    again = train(recipe=run / "recipe.yaml", output=tmp_path / "again").run
    assert held_out(again, folder) == val
    assert (again / "metrics.jsonl").read_text().count("\n") == 1
    assert resume(run).val_n == len(val)


def test_real_digits_are_split_as_ever(digits_run: Path):
    data = yaml.safe_load((digits_run / "recipe.yaml").read_text())["data"]
    assert data["together"] == []
