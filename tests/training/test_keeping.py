"""What is kept, and what is said, when it cannot be."""

from pathlib import Path

import pytest
import torch

from resnetkit.api.training import resume, train
from resnetkit.catalog.architectures import architecture
from resnetkit.catalog.recipe import Recipe
from resnetkit.errors import WriteFailed
from resnetkit.models import build
from resnetkit.training import snapshot
from resnetkit.training.keeping import Keeper
from resnetkit.training.learner import Learner
from resnetkit.training.progress import Event, Remark
from resnetkit.training.run import Run
from resnetkit.training.snapshot import Position


@pytest.mark.parametrize("shortage", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_too_little_memory_to_write_is_as_a_full_disk(tmp_path: Path, monkeypatch, shortage: Exception):
    own, calls = snapshot.write_tensors, iter(range(10**6))

    def scarce(*arguments: object) -> None:
        if next(calls) == 1:  # at the end of the first epoch
            raise shortage
        own(*arguments)

    monkeypatch.setattr(snapshot, "write_tensors", scarce)
    said: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Remark):
            said.append(event.text)

    settings = {"epochs": 2, "batch_size": 512, "device": "cpu"}
    assert train("digits", output=tmp_path / "run", listener=listen, **settings).epochs == 2
    [refused] = [text for text in said if "too little memory to write a checkpoint" in text]
    assert "Training goes on" in refused
    assert "writing works again: nothing was lost" in said
    assert resume(tmp_path / "run").epochs == 2


def test_weights_that_are_no_numbers_are_not_counted_as_written(tmp_path: Path):
    said: list[str] = []
    network = build(architecture("resnet20"), num_classes=2)
    keeper = Keeper(Run(tmp_path), Learner(network, Recipe()), said.append)
    keeper.refusal = WriteFailed("the disk is full")
    with torch.no_grad():
        network.fc.bias[0] = float("nan")
    assert not keeper.keep_snapshot(Position(global_step=1))
    assert not list(tmp_path.rglob("step-*"))
    assert keeper.refusal is not None
    assert said == [], "nothing works again"
