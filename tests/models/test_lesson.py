"""The lessons are executed: prose without a test decays."""

import runpy
from pathlib import Path

LESSON = Path(__file__).parents[2] / "docs" / "lessons" / "01_resnet34.py"


def test_resnet34_by_hand(capsys):
    runpy.run_path(str(LESSON), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("(")[1] for line in lines[:6]] == [
        "2, 64, 112, 112)", "2, 64, 56, 56)", "2, 128, 28, 28)", "2, 256, 14, 14)", "2, 512, 7, 7)", "2, 1000)",
    ]  # fmt: skip
    assert "equal logits: 21,797,672 parameters" in lines[6]
