"""Cores are counted in one place, which also works where the system has no affinity."""

import os
from pathlib import Path

import pytest

import resnetkit
from resnetkit.cores import usable_cores


def test_as_many_as_this_process_may_use() -> None:
    assert usable_cores() == len(os.sched_getaffinity(0))


def test_without_affinity_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")  # macOS, Windows
    assert usable_cores() == os.cpu_count()


def test_nobody_else_asks_for_the_affinity() -> None:
    """A folder of photos did not train on macOS while the loader asked by itself."""
    sources = Path(resnetkit.__file__).parent.rglob("*.py")
    assert [path.name for path in sources if "sched_getaffinity" in path.read_text()] == ["cores.py"]
