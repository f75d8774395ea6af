from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes small PNGs: make_folder({"train/cat": 3, "train/dog": 2}) gives the folder."""

    def make(counts: dict[str, int], size: tuple[int, int] = (12, 16), suffix: str = ".png") -> Path:
        random = np.random.default_rng(0)
        for folder, count in counts.items():
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                pixels = random.integers(0, 256, (*size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / folder / f"{index}{suffix}")
        return tmp_path

    return make
