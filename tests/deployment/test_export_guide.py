"""The guide's script predicts with onnxruntime alone what resnetkit predicts."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import resnetkit as rk

pytestmark = pytest.mark.usefixtures("operators_read_once")

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "07_export.md"


def test_the_script_without_resnetkit_says_the_same(digits_run: Path, tmp_path: Path):
    (script,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.S)
    assert len(script.splitlines()) <= 20
    assert "resnetkit" not in re.sub(r'"resnetkit"', "", script)
    (tmp_path / "script.py").write_text(script)
    from sklearn.datasets import load_digits

    pictures = []
    for index in range(4):
        pictures.append(tmp_path / f"{index}.png")
        image = Image.fromarray((load_digits().images[index] * 15.9375).astype(np.uint8))
        image = image.resize((30 + 7 * index, 41))
        if index == 3:  # shows through where it is dark, and lies on white
            image.putalpha(image.point(lambda grey: 255 if grey > 60 else 0))
        image.save(pictures[-1])
    model = rk.export(digits_run, tmp_path / "out").path
    words = [sys.executable, str(tmp_path / "script.py"), str(model), *map(str, pictures)]
    out = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    predictor = rk.Predictor(digits_run)
    for line, picture in zip(out.splitlines(), pictures, strict=True):
        path, label, score = line.split()
        best = predictor(picture).top(1)[0]
        assert (path, label) == (str(picture), best.label)
        assert abs(float(score) - best.score) < 0.01


def test_every_key_of_the_metadata_is_in_the_guide(digits_run: Path, tmp_path: Path):
    import json

    import onnx

    (entry,) = onnx.load(rk.export(digits_run, tmp_path).path).metadata_props
    documented = set(re.findall(r"`(\w+)`", GUIDE.read_text(encoding="utf-8")))
    assert set(json.loads(entry.value)) <= documented
