"""The state of published weights, from their source or a local file, under our names and checked against the row.

`models.fit_weights` then fits it to other classes and channels.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from resnetkit.catalog.pretrained import Pretrained
from resnetkit.catalog.rows import Architecture
from resnetkit.checkpoints.compare import compare, network_shapes, shapes_of
from resnetkit.checkpoints.fetch import fetch
from resnetkit.checkpoints.modelfile import is_model_file
from resnetkit.checkpoints.modelfile import read as read_model_file
from resnetkit.checkpoints.rename import rename
from resnetkit.checkpoints.tensors import read_tensors
from resnetkit.downloads import Progress
from resnetkit.errors import CheckpointError

_LOCAL_NAMES = ("model.safetensors", "pytorch_model.safetensors", "pytorch_model.bin", "model.pth")


def load_published(weights: Pretrained, row: Architecture, progress: Progress | None = None) -> dict[str, Tensor]:
    """The state of published weights under our names, downloaded if need be; without their head if they have none."""
    return load_local(fetch(weights, progress), row, headless=weights.num_classes == 0)


def load_local(path: str | Path, row: Architecture, *, headless: bool = False) -> dict[str, Tensor]:
    """The state in a local weights file of any known layout, or in a folder that holds one, for the network of `row`.

    `headless` leaves out the classifier. `CheckpointError` lists every tensor that does not fit, with both shapes.
    """
    path = _file_in(Path(path))
    if is_model_file(path):
        state, _ = read_model_file(path)
    else:
        tensors, metadata = read_tensors(path, leaving_out=("classifier.",) if headless else ())
        renamed = rename(tensors, metadata)
        if renamed is None:
            raise CheckpointError(f"{path} has names of no known layout: `resnetkit adopt {path}` says more")
        state = renamed.state
    classes, in_chans = _use(state, row)
    expected = network_shapes(row, num_classes=0 if headless else classes, in_chans=in_chans)
    misfit = compare(shapes_of(state), expected).misfit
    if not misfit.fits:
        raise CheckpointError(f"{path} does not fit this architecture: {misfit.differences()}")
    return {key: state[key].contiguous() if key in state else torch.tensor(0) for key in expected}


def _use(state: Mapping[str, Tensor], row: Architecture) -> tuple[int, int]:
    """Classes and input channels of a state."""
    shapes = network_shapes(row, num_classes=1, in_chans=1)
    stem = next(key for key, shape in shapes.items() if len(shape) == 4)
    head = next(key for key in reversed(shapes) if key.endswith(".weight"))
    in_chans = state[stem].shape[1] if stem in state and state[stem].ndim == 4 else 3
    classes = state[head].shape[0] if head in state and state[head].ndim else 0
    return classes, in_chans


def _file_in(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in _LOCAL_NAMES:
        if (path / name).is_file():
            return path / name
    raise CheckpointError(f"{path} holds none of {', '.join(_LOCAL_NAMES)}: name the weights file itself")
