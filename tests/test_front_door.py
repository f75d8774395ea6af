"""The names of `import resnetkit as rk`, and what importing costs."""

import subprocess
import sys

import pytest

import resnetkit

HEAVY = ("torch", "numpy", "PIL", "sklearn", "scipy")


def loaded_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    return set(out.splitlines()[-1].split())


@pytest.mark.parametrize(
    "code",
    [
        "import resnetkit",
        "from resnetkit.cli import build_app; build_app()(['--help'])",
        "from resnetkit.cli import build_app; build_app()(['list', 'resnet1*'])",
        "from resnetkit.cli import build_app; build_app()(['train', '--help'])",
    ],
)
def test_light_things_stay_light(code: str):
    assert not loaded_after(code) & set(HEAVY)


def test_every_name_is_there_and_listed():
    for name in resnetkit.__all__:
        assert getattr(resnetkit, name) is not None
    assert set(resnetkit.__all__) <= set(dir(resnetkit))
    assert set(resnetkit.__all__) == set(resnetkit._HOMES)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'resnet35'"):
        _ = resnetkit.resnet35
