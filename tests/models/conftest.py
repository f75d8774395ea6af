"""Networks filled as those of the golden files were: every number a function of its tensor's key, in float64."""

import hashlib
import json
import math
import zlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

GOLDEN = Path(__file__).parent.parent / "golden"


def read_golden(name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / name).read_text())["models"]


def filled(key: str, shape: tuple[int, ...]) -> Tensor:
    if math.prod(shape) > 10_000_000:  # VGG's hidden layers, the same for all of them
        return _filled_once(key, shape)
    return _filled(key, shape)


def _filled(key: str, shape: tuple[int, ...]) -> Tensor:
    last = key.rpartition(".")[2]
    if last == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    n = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    if last == "running_var":
        n = 1 + 0.1 * np.abs(n)
    elif last in ("running_mean", "bias"):
        n *= 0.1
    elif n.ndim >= 2:
        n *= math.sqrt(2 / math.prod(shape[1:]))
    else:
        n = 0.5 + 0.1 * n
    return torch.from_numpy(n)


_filled_once = lru_cache(maxsize=2)(_filled)


def digest(keys: Iterable[tuple[str, tuple[int, ...]]]) -> str:
    lines = "\n".join(f"{key} {list(shape)}" for key, shape in keys)
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


@pytest.fixture(scope="session")
def golden_images() -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 96, 128)))


@pytest.fixture(scope="session")
def timm_golden() -> dict[str, Any]:
    return read_golden("logits_timm.json")


@pytest.fixture(scope="session")
def fill() -> Callable[[str, tuple[int, ...]], Tensor]:
    return filled


@pytest.fixture(scope="session")
def key_digest() -> Callable[[Iterable[tuple[str, tuple[int, ...]]]], str]:
    return digest


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """An argument named in the module's GOLDEN_FILES stands for each (name, values) of that file in turn."""
    for argument, file in getattr(metafunc.module, "GOLDEN_FILES", {}).items():
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, read_golden(file).items(), ids=lambda item: item[0])
