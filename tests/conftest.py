"""What all tests share: one thread each (two test processes run side by side) and where real data lies."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images and weights; the test is skipped, saying so, where none is named."""
    folder = os.environ.get("RESNETKIT_REAL_DATA")
    if not folder:
        pytest.skip("RESNETKIT_REAL_DATA is unset: it names the folder of real images and trained weights")
    return Path(folder)


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run on real handwriting, good enough to tell most digits apart."""
    from resnetkit.api.training import train

    folder = tmp_path_factory.mktemp("runs") / "digits"
    train("digits", output=folder, epochs=8, batch_size=64, precision="float32")
    return folder
