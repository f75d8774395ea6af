"""The checkpoint of a run: what learns, and the position, in one safetensors file with its own hash.

`checkpoint/` keeps the newest two, so that one damaged file never costs the run.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from resnetkit.checkpoints.atomic import write_tensors
from resnetkit.errors import CheckpointError
from resnetkit.training.learner import Learner

_FORMAT = 1


@dataclass(frozen=True)
class Position:
    """Where a run stands: `steps_done` of epoch `epoch` (from 0) are behind it, with their running sums."""

    epoch: int = 0
    steps_done: int = 0
    global_step: int = 0
    loss_sum: float = 0.0
    right: int = 0
    images: int = 0
    seconds: float = 0.0
    """of training, validation and writing left out"""
    spent: float = 0.0
    """seconds of the whole command, and of those before it that this run was resumed from; kept by the clock only"""
    progress: float = 0.0
    """share of the schedule that is behind it"""
    epoch_progress: float = 0.0
    """the same at the beginning of the epoch"""
    best_epoch: int | None = None
    best_score: float = -1.0
    best_loss: float = float("inf")


def save_snapshot(folder: Path, learner: Learner, position: Position) -> Path:
    """Write the snapshot of this moment atomically and keep the one before it. Returns its path."""
    tensors = learner.state()
    metadata = {
        "format": str(_FORMAT),
        "position": json.dumps(asdict(position)),
        "sha256": _digest(tensors),
    }
    path = folder / f"step-{position.global_step:08d}.safetensors"
    write_tensors(path, tensors, metadata)
    for old in sorted(folder.glob("step-*.safetensors"))[:-2]:
        old.unlink(missing_ok=True)
    return path


def restore_newest(folder: Path, learner: Learner, warn: Callable[[str], None]) -> Position:
    """Put the learner where the newest intact snapshot left it; a damaged one is named to `warn`.

    Without any snapshot nothing is changed and the run starts at its first step, which its seed makes the same.
    """
    damaged = []
    for path in sorted(folder.glob("step-*.safetensors"), reverse=True):
        try:
            tensors, position = _read(path)
        except CheckpointError as error:
            damaged.append(str(error))
            warn(f"{error}; trying the one before it")
            continue
        learner.restore(tensors)
        return position
    if damaged:
        raise CheckpointError(f"no intact checkpoint is left: {'; '.join(damaged)}; start again with a new --output")
    return Position()


def _read(path: Path) -> tuple[dict[str, Tensor], Position]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, Any] = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({error})") from error
    if metadata.get("format") != str(_FORMAT):
        raise CheckpointError(f"{path} has format {metadata.get('format')}, this version reads {_FORMAT}")
    if metadata.get("sha256") != _digest(tensors):
        raise CheckpointError(f"{path} is damaged (its content does not match its hash)")
    return tensors, Position(**json.loads(metadata["position"]))


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode())
        content: NDArray[np.uint8] = tensors[key].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        digest.update(content.data)
    return digest.hexdigest()
