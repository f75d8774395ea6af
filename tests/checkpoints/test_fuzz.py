"""Strangers' files with anything wrong in them: adopted or refused in one line, without a crash, hang or traceback."""

import argparse
import pickle
import random
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from resnetkit.api.adopting import adopt
from resnetkit.catalog.rows import Architecture, Dense, PreActivation, Residual, Vgg
from resnetkit.checkpoints.compare import network_shapes
from resnetkit.checkpoints.layouts import CAFFE2, DETECTRON2, TRANSFORMERS
from resnetkit.errors import ResnetkitError

TINY: tuple[Architecture, ...] = (
    Residual("basic", (1, 1), (2, 4), stem="conv3", stem_width=2, stem_pool="none"),
    Residual("bottleneck", (1, 1), (4, 8), stem_width=4, shortcut="avg_conv", attention="se"),
    PreActivation("basic", (1, 1), (2, 4), stem="conv3", stem_width=2, stem_pool="none"),
    Dense(2, (1, 1, 1, 1), initial_features=4),
    Vgg((1, 1, 1, 1, 1), (2, 2, 2, 2, 2), hidden_features=4),
)
SECONDS_A_FILE = 5
MEGABYTES = 300


def state_of(row: Architecture) -> dict[str, Tensor]:
    shapes = network_shapes(row, num_classes=3, in_chans=3)
    return {key: torch.rand(shape) if shape else torch.tensor(7) for key, shape in shapes.items()}


def files(tmp_path: Path) -> list[bytes]:
    """One of each container."""
    path, state = tmp_path / "whole", state_of(TINY[0])
    contents = []
    for zipped in (True, False):
        tree = {"state_dict": {f"module.{key}": value for key, value in state.items()},
                "hyper_parameters": argparse.Namespace(lr=0.1), "classes": ["a", "b", "c"]}  # fmt: skip
        torch.save(tree, path, _use_new_zipfile_serialization=zipped)
        contents.append(path.read_bytes())
    save_file(state, path)
    contents.append(path.read_bytes())
    arrays = {DETECTRON2.theirs(key): value.numpy() for key, value in state.items()}
    return [*contents, pickle.dumps({"model": arrays, "__author__": "x"})]


NAMES = ("", "\n", "[/red]", "\x1b[2J", "layer1", "." * 50, "layer99999999999.0.conv1.weight", "ü" * 3, "a" * 5000)


def other_name(key: str, chance: random.Random) -> str:
    match chance.randrange(6):
        case 0:
            return chance.choice(NAMES) + key
        case 1:
            return chance.choice(NAMES)
        case 2:
            digits = [place for place, letter in enumerate(key) if letter.isdigit()] or [0]
            place = chance.choice(digits)
            return key[:place] + chance.choice(("0", "1", "2", "7", "99", "-1", "")) + key[place + 1 :]
        case 3:
            return str(chance.choice((TRANSFORMERS, DETECTRON2, CAFFE2)).theirs(key))
        case 4:
            return key.replace("weight", chance.choice(("kernel", "bias", "running_mean", "weight_orig")))
        case _:
            return key.replace(".", chance.choice(("..", "_", "/", "")), 1)


def other_tensor(tensor: Tensor, chance: random.Random) -> Tensor:
    # One of a stride of 0 is large by its claim alone: whatever copies it would make it true.
    if tensor.is_complex() or tensor.numel() > 10_000:
        return tensor
    match chance.randrange(8):
        case 0:
            return tensor.flatten()
        case 1:
            return tensor[:0] if tensor.ndim else tensor
        case 2:
            return tensor.unsqueeze(chance.randrange(tensor.ndim + 1))
        case 3:
            return torch.zeros([chance.choice((0, 1, 2, 3, 8)) for _ in range(chance.randrange(6))])
        case 4:
            return tensor.to(chance.choice((torch.float16, torch.bfloat16, torch.int8, torch.bool, torch.complex64)))
        case 5:
            return torch.zeros(1).expand(chance.choice((7, 10**6, 10**9)), 3, 7, 7)
        case 6:
            return torch.cat([tensor, tensor]) if tensor.ndim else tensor
        case _:
            return torch.tensor(chance.choice((float("nan"), 0.0, 1e38)))


def misshapen(chance: random.Random) -> dict[str, Tensor]:
    """A network's tensors with names, shapes, types or presence changed."""
    state = state_of(chance.choice(TINY))
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        key = chance.choice(list(state) or ["x"])
        match chance.randrange(4):
            case 0:
                state.pop(key, None)
            case 1:
                state[other_name(key, chance)] = state.pop(key, torch.zeros(1))
            case 2:
                state[other_name(key, chance)] = torch.zeros(2, 3)
            case 3:
                state[key] = other_tensor(state.get(key, torch.zeros(1)), chance)
    return state


def outcome(path: Path) -> str | None:
    """None where the file was adopted, else what it is refused with."""
    output = path.with_suffix(".out.safetensors")
    try:
        adopt(path, output)
    except ResnetkitError as error:
        return str(error)
    output.unlink()
    return None


@pytest.mark.parametrize("count", [300, pytest.param(12_000, marks=pytest.mark.slow)])
def test_whatever_is_wrong_with_a_file(
    tmp_path: Path, mutated: Callable[[bytes, random.Random], bytes], count: int
) -> None:
    torch.manual_seed(0)
    chance = random.Random(count)
    contents = files(tmp_path)
    path = tmp_path / "stranger.pth"
    outcomes: dict[bool, int] = {True: 0, False: 0}
    before: Any = None
    for number in range(count):
        if number % 2:
            path.write_bytes(mutated(chance.choice(contents), chance))
        else:
            torch.save(misshapen(chance), path)
        start = time.monotonic()
        says = outcome(path)
        assert time.monotonic() - start < SECONDS_A_FILE
        outcomes[says is None] += 1
        assert says is None or (says.isprintable() and len(says) < 20_000), says
        if number == 100:  # by then everything is imported that will be
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < MEGABYTES
    assert min(outcomes.values()) > count / 20
