"""A snapshot that was damaged is known as such, wherever the damage is, and the one before it is taken."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from resnetkit.catalog.architectures import architecture
from resnetkit.catalog.recipe import Recipe
from resnetkit.models import build
from resnetkit.training.learner import Learner
from resnetkit.training.snapshot import Position, _digest, restore_newest, save_snapshot

EARLIER, LATER = Position(global_step=10, epoch=1, steps_done=2), Position(global_step=1234, epoch=17, best_score=0.5)


def learner(seed: int = 0) -> Learner:
    torch.manual_seed(seed)
    row = replace(architecture("resnet8_w56"), depths=(1,), widths=(8,), stem_width=8)
    return Learner(build(row, num_classes=3), Recipe())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, position in enumerate((EARLIER, LATER)):
        save_snapshot(tmp_path, learner(seed), position)
    return tmp_path


def test_no_flipped_bit_of_the_header_goes_unnoticed(folder: Path):
    """The header holds the names, types, shapes and places of the tensors, the hash, and where the run stands."""
    newest = max(folder.glob("*.safetensors"))
    content = newest.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    place = content.index(b"position")
    assert place < end
    # All of where the run stands, and of the long rest a sample.
    for at in [*range(place, content.index(b"}", place)), *range(8, end, 97)]:
        damaged = bytearray(content)
        damaged[at] ^= 1 << at % 7
        newest.write_bytes(damaged)
        said: list[str] = []
        position = restore_newest(folder, learner(), said.append)
        # A bit that makes of one blank another changes nothing that is read.
        if position != EARLIER:
            assert position == LATER
            assert not said
            assert json.loads(bytes(damaged[8:end])) == json.loads(content[8:end])
        else:
            assert "trying the one before it" in said[0]


def test_a_snapshot_of_an_earlier_version_is_still_read(tmp_path: Path):
    of = learner(3)
    path = save_snapshot(tmp_path, of, LATER)
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    metadata = {"format": "1", "position": json.dumps(asdict(LATER)), "sha256": _digest(tensors, None)}
    save_file(tensors, path, metadata)
    other = learner(4)
    assert restore_newest(tmp_path, other, pytest.fail) == LATER
    torch.testing.assert_close(other.network.state_dict(), of.network.state_dict())
