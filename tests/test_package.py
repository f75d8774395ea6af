"""What is shipped: a wheel with the types' marker and nothing that does not belong there."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_a_wheel_builds_and_carries_py_typed(tmp_path: Path):
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)],
        check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "resnetkit/py.typed" in names
    assert "resnetkit/models/resnet.py" in names
    assert not [name for name in names if name.startswith(("tests", "docs", "benchmarks"))]
    entry = zipfile.ZipFile(wheel).read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    assert "resnetkit = resnetkit.cli:main" in entry
