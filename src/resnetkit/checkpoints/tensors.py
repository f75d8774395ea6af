"""Reading tensors by name from any weights file, without running what the file says.

safetensors, torch.save's zip and older files, and pickles of numpy arrays. Wrappers around the weights (`state_dict`,
`model`, averages of an EMA, a whole pickled module) are looked through.
"""

import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from resnetkit.checkpoints.constructors import StoredArray, StoredTensor
from resnetkit.checkpoints.pickles import Record
from resnetkit.checkpoints.torchfile import read_pickle, read_zip
from resnetkit.errors import CheckpointError, UnsafeFile

# Averages first, as they are what is meant to be used. mmengine swaps them: its `state_dict` is the average.
_WRAPPERS = (
    "state_dict_ema", "model_ema", "ema", "params_ema", "state_dict", "model_state_dict", "model_state", "model",
    "net", "network", "module", "weights", "params", "blobs", "teacher", "student",
)  # fmt: skip
_NEVER = ("optimizer", "optimizers", "optimizer_state_dict", "optimizer_states", "ema_state_dict", "_metadata")
_DEEPEST = 5
_MOST_METADATA = 2000  # plain values kept beside the tensors

# What containers and programs that make no sense end in.
_DAMAGE = (
    SafetensorError, zipfile.BadZipFile, struct.error, EOFError, ValueError, TypeError, LookupError, AttributeError,
    ArithmeticError, RuntimeError,
)  # fmt: skip


def read_tensors(path: str | Path, *, leaving_out: tuple[str, ...] = ()) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a weights file by name, and what else it says in plain values (epoch, classes, …).

    Raises `UnsafeFile` for a pickle that would run code, and `CheckpointError`, in one line, for a file that is
    missing, damaged, no weights file, or that holds NaN or infinite numbers. `leaving_out` are beginnings of names
    that are not asked for.
    """
    path = Path(path)
    try:
        tensors, metadata = _reader(path)(path)
    except UnsafeFile as error:
        raise UnsafeFile(f"{path} is refused: {error}") from error
    except CheckpointError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    except _DAMAGE as error:
        raise CheckpointError(f"{path} cannot be read: it is damaged ({_one_line(error)}), fetch it again") from error
    except MemoryError as error:
        raise CheckpointError(f"{path} cannot be read: its tensors do not fit into memory") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    if leaving_out:
        tensors = {key: tensor for key, tensor in tensors.items() if not key.startswith(leaving_out)}
    if broken := [key for key, tensor in tensors.items() if not _finite(tensor)]:
        raise CheckpointError(
            f"{path} is refused: {len(broken)} tensors hold NaN or infinite numbers, first {broken[0]}: "
            "the training that wrote it had diverged, take an earlier checkpoint"
        )
    return tensors, metadata


@dataclass(frozen=True)
class _Choice:
    """A dictionary of tensors somewhere inside a checkpoint."""

    wrapper: str
    tensors: dict[str, StoredTensor | StoredArray]
    node: Any

    @property
    def rank(self) -> tuple[int, int]:
        known = _WRAPPERS.index(self.wrapper) if self.wrapper in _WRAPPERS else len(_WRAPPERS)
        return known, -len(self.tensors)


def _reader(path: Path) -> Callable[[Path], tuple[dict[str, Tensor], dict[str, Any]]]:
    """Chosen by the file's first bytes, never by its name."""
    if path.is_dir():
        raise CheckpointError("it is a folder: name the weights file inside it")
    if not path.exists():
        raise CheckpointError("there is no such file")
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        raise CheckpointError("it is empty: fetch it again")
    if start.startswith(b"PK\x03\x04"):
        return lambda path: _unwrap(read_zip(path))
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        raise CheckpointError(
            "it is an HDF5 file, as Keras and TensorFlow write: only PyTorch's layouts can be adopted; "
            "save the weights as safetensors with PyTorch's names"
        )
    if start[8:9] == b"{":
        return _read_safetensors
    if start[257:262] == b"ustar":
        raise CheckpointError("it is a tar archive: unpack it and give the weights file inside")
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError("it is a pointer of git-lfs, not the file itself: run `git lfs pull`")
    if start[:1] in (b"\x80", b"(", b"}", b"]", b"c"):
        return lambda path: _unwrap(read_pickle(path))
    kind = "a web page, as a failed download leaves it" if start.lstrip()[:1] == b"<" else "no weights file"
    raise CheckpointError(f"it is {kind}: give a .safetensors, .pth, .pt, .th, .bin, .ckpt or .pkl file")


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(path, framework="pt") as file:
        names = file.keys()
        return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})


def _unwrap(tree: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of the best dictionary in `tree`, loaded, and the plain values around it."""
    choices = list(_choices(tree, "", 0, set()))
    if not choices:
        raise CheckpointError("it holds no tensors by name: give the file with the state_dict")
    # Of equals the one with convolutions: an optimiser's averages are tensors by name, too.
    chosen = min(choices, key=lambda choice: (not _has_convolution(choice.tensors), *choice.rank))
    metadata = dict(_plain_values(tree, chosen.node))
    others = [choice.wrapper for choice in choices if choice is not chosen and _has_convolution(choice.tensors)]
    if chosen.wrapper and others:
        metadata["resnetkit:chosen"] = f"took {chosen.wrapper!r}, left {', '.join(repr(name) for name in others)}"
    return {name: stored.load() for name, stored in chosen.tensors.items()}, metadata


def _choices(node: Any, wrapper: str, depth: int, seen: set[int]) -> Iterator[_Choice]:
    if depth > _DEEPEST or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, Record) and (tensors := dict(_of_module(node, "", 0))):
        yield _Choice(wrapper, tensors, node)
        return
    children = _children(node)
    tensors = {str(key): value for key, value in children.items() if _is_tensor(value)}
    if tensors:
        yield _Choice(wrapper, tensors, node)
    for key, value in children.items():
        if key not in _NEVER and not _is_tensor(value):
            yield from _choices(value, str(key), depth + 1, seen)


def _of_module(record: Record, prefix: str, depth: int) -> Iterator[tuple[str, StoredTensor | StoredArray]]:
    """The state of a whole pickled `nn.Module`, which is kept in three dictionaries of each module."""
    state = record.state
    if not isinstance(state, dict) or "_parameters" not in state or depth > 50:
        return
    own = {**_children(state["_parameters"]), **_children(state.get("_buffers"))}
    yield from ((f"{prefix}{name}", value) for name, value in own.items() if _is_tensor(value))
    for name, child in _children(state.get("_modules")).items():
        if isinstance(child, Record):
            yield from _of_module(child, f"{prefix}{name}.", depth + 1)


def _children(node: Any) -> Mapping[Any, Any]:
    if isinstance(node, Record):
        node = node.state if isinstance(node.state, dict) else node.entries
    return node if isinstance(node, dict) else {}


def _is_tensor(value: Any) -> bool:
    return isinstance(value, StoredTensor) or (isinstance(value, StoredArray) and value.shape is not None)


def _has_convolution(tensors: Mapping[str, StoredTensor | StoredArray]) -> bool:
    return any(value.shape is not None and len(value.shape) == 4 for value in tensors.values())


def _plain_values(node: Any, chosen: Any) -> Iterator[tuple[str, Any]]:
    """Numbers, words and lists of them outside of the weights, by dotted name."""
    waiting: list[tuple[str, Any, int]] = [("", node, 0)]
    seen: set[int] = set()
    given = 0
    while waiting and given < _MOST_METADATA:
        name, value, depth = waiting.pop()
        if value is chosen or id(value) in seen or depth > _DEEPEST:
            continue
        if isinstance(value, list | tuple) and len(value) <= 100_000 and all(isinstance(part, str) for part in value):
            value = list(value)
        if isinstance(value, bool | int | float | str | list):
            if name and not (isinstance(value, list) and not all(isinstance(part, str) for part in value)):
                given += 1
                yield name, value
            continue
        seen.add(id(value))
        for key, child in _children(value).items():
            if key not in _NEVER and isinstance(key, str):
                waiting.append((f"{name}.{key}" if name else key, child, depth + 1))


def _finite(tensor: Tensor) -> bool:
    # A sum is NaN or infinite if a number is, or if finite ones overflow: then look at each. No copy of the mask.
    if not tensor.is_floating_point():
        return True
    whole = tensor.sum(dtype=torch.float64) if tensor.numel() else torch.tensor(0.0)
    return bool(torch.isfinite(whole)) or bool(torch.isfinite(tensor).all())


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
