"""The checkpoint of a run: what learns, and the position, in one safetensors file with its own hash.

`checkpoint/` keeps the newest two, so that one damaged file never costs the run.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
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

_FORMAT = 2
_ALSO_READ = "1"  # where the hash is of the tensors' numbers alone


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
    finished: bool = False
    """whether nothing is left to do; a clock that starts anew in a resumed run cannot know"""
    epoch_progress: float = 0.0
    """the same at the beginning of the epoch"""
    skipped: int = 0
    """steps in a row up to here that were skipped, because loss or gradients were not finite"""
    rollbacks: int = 0
    """times the run went back to a checkpoint for that reason"""
    rate: float = 1.0
    """what is left of the recipe's learning rate since"""
    pieces: int = 0
    """pieces of a batch that fit into memory, where that is more than the recipe says; else 0"""
    best_epoch: int | None = None
    best_score: float = -1.0
    best_loss: float = float("inf")
    val_n: int = 0
    """images that were scored to choose it"""

    def without_best(self) -> "Position":
        """The same, where the best epoch is to be chosen anew."""
        none = Position()
        return replace(
            self, best_epoch=none.best_epoch, best_score=none.best_score, best_loss=none.best_loss, val_n=none.val_n
        )


def save_snapshot(folder: Path, learner: Learner, position: Position) -> Path:
    """Write the snapshot of this moment atomically and keep the one before it. Returns its path."""
    path = _write(folder, learner.state(), position)
    for old in sorted(folder.glob("step-*.safetensors"))[:-2]:
        with contextlib.suppress(OSError):  # it is kept until it can be removed
            old.unlink()
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


def restart_epoch(
    folder: Path, steps: int, *, same_optimiser: bool, same_images: bool, progress: Callable[[Position], float]
) -> None:
    """Make of the newest intact snapshot one that stands at the beginning of its epoch of `steps` steps.

    For a run that goes on with other data or another recipe: what it learnt is kept, and what its optimiser remembers
    if that is the `same_optimiser`, but neither its place among images that are no longer the same nor a rate that was
    lessened because the loss was not finite. What is best is chosen anew where the held-out images are not the
    `same_images`. `progress` says what share of the schedule is behind a position, as the run is planned now.
    """
    paths = sorted(folder.glob("step-*.safetensors"))
    for path in reversed(paths):
        try:
            tensors, position = _read(path)
        except CheckpointError:
            continue
        kept = {key: value for key, value in tensors.items() if same_optimiser or not key.startswith("optimiser/")}
        fresh = replace(
            position, global_step=position.epoch * steps, steps_done=0, loss_sum=0.0, right=0, images=0, pieces=0,
            finished=False, skipped=0, rollbacks=0, rate=1.0,
        )  # fmt: skip
        if not same_images:
            fresh = fresh.without_best()
        behind = progress(fresh)
        fresh = replace(fresh, progress=behind, epoch_progress=behind)
        written = _write(folder, kept, fresh)
        for old in set(paths) - {written}:
            old.unlink(missing_ok=True)
        return


def _write(folder: Path, tensors: dict[str, Tensor], position: Position) -> Path:
    place = json.dumps(asdict(position))
    metadata = {"format": str(_FORMAT), "position": place, "sha256": _digest(tensors, place)}
    path = folder / f"step-{position.global_step:08d}.safetensors"
    write_tensors(path, tensors, metadata)
    _read(path)  # proven before an older one goes; raises CheckpointError
    return path


def _read(path: Path) -> tuple[dict[str, Tensor], Position]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, Any] = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({error})") from error
    version, place = metadata.get("format"), metadata.get("position", "")
    if version not in (str(_FORMAT), _ALSO_READ):
        raise CheckpointError(f"{path} has format {version}, this version reads {_ALSO_READ} and {_FORMAT}")
    if metadata.get("sha256") != _digest(tensors, None if version == _ALSO_READ else place):
        raise CheckpointError(f"{path} is damaged (its content does not match its hash)")
    try:
        return tensors, Position(**json.loads(place))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged (it does not say where the run stands: {error})") from error


def _digest(tensors: dict[str, Tensor], place: str | None) -> str:
    """Of what the file holds: the tensors with their types and shapes, and the place in the run."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode())
        if place is not None:
            digest.update(f" {tensors[key].dtype} {tuple(tensors[key].shape)}".encode())
        content: NDArray[np.uint8] = tensors[key].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        digest.update(content.data)
    digest.update((place or "").encode())
    return digest.hexdigest()
