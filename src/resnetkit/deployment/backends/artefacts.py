"""What is expensive to make and the same every time, kept on disk: converted networks and what a probe chose.

The key says all that the thing depends on (network, versions, processor), so nothing is ever out of date. A cache that
cannot be written or read back costs time, never an answer.
"""

import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
from torch import nn

from resnetkit import __version__
from resnetkit.checkpoints.atomic import flush, write_text_atomically
from resnetkit.checkpoints.modelfile import ModelCard
from resnetkit.cores import usable_cores
from resnetkit.data.places import cache_folder
from resnetkit.errors import WriteFailed

Made = TypeVar("Made")

_FORMAT = 2
_PACKAGES = ("torch", "openvino", "onnxruntime", "onnx", "onnxscript")
_HASHES = "hashes.json"
"""of a folder's other files"""
_PART = ".part-"
_DAY = 24 * 3600
_UNKEPT = (OSError, ValueError, RuntimeError, WriteFailed)
"""what comes of a cache that is not there, damaged, closed or full; OpenVINO's errors are RuntimeErrors"""


def key(network: nn.Module, card: ModelCard, *more: object) -> str:
    """A hash of the network's numbers, of what its card says about computing, of this package, and of `more`."""
    digest = hashlib.sha256()
    for name, values in network.state_dict().items():
        digest.update(f"{name} {tuple(values.shape)} {values.dtype}".encode())
        flat = values.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    said = (card.row, card.num_classes, card.preprocess, card.task, card.temperature, __version__, _FORMAT, *more)
    digest.update(repr(said).encode())
    return digest.hexdigest()[:32]


def surroundings() -> dict[str, Any]:
    """What speed depends on beside the network: versions, processor, cores, and what limits the instruction set."""
    return {
        "versions": {name: version_of(name) for name in _PACKAGES},
        "processor": processor(),
        "cores": usable_cores(),
        "limits": {name: value for name, value in sorted(os.environ.items()) if name.endswith("_MAX_CPU_ISA")},
    }


def version_of(package: str) -> str | None:
    """The version that is installed; None where it is not."""
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return None


def processor() -> str:
    """The processor's name and features, as its system tells them."""
    with suppress(OSError):
        fields: dict[str, str] = {}
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
        features = fields.get("flags") or fields.get("Features") or ""
        return f"{fields.get('model name', platform.machine())} {hashlib.sha256(features.encode()).hexdigest()[:8]}"
    return platform.processor() or platform.machine()


def kept(
    name: str, make: Callable[[], Made], write: Callable[[Made, Path], None], read: Callable[[Path], Made]
) -> Made:
    """What `read` reads of the folder `name` of the cache; where it is not there, what `make` makes and `write` keeps.

    The folder appears whole or not at all, and is made anew where its files are no longer as they were written. Where
    they cannot be kept (no place, no permission, a full disk) what was made serves for this once.
    """
    with suppress(*_UNKEPT):
        return read(_whole(cache_folder() / name))
    made = make()
    with suppress(*_UNKEPT):
        folder = cache_folder() / name
        _fill(folder, partial(write, made))
        return read(_whole(folder))
    return made


def _whole(folder: Path) -> Path:
    """The folder, if its files are those that were written."""
    if json.loads((folder / _HASHES).read_text()) != _hashes(folder):
        raise OSError(f"{folder} is damaged")
    return folder


def _hashes(folder: Path) -> dict[str, str]:
    hashes = {}
    for path in folder.iterdir():
        if path.name != _HASHES:
            with path.open("rb") as file:
                hashes[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def _fill(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` make the folder's files: it gets its name when all of them are on the disk."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder.parent)
    with TemporaryDirectory(prefix=_PART, dir=folder.parent, ignore_cleanup_errors=True) as temporary:
        part = Path(temporary)
        write(part)
        (part / _HASHES).write_text(json.dumps(_hashes(part)))
        for path in part.iterdir():
            flush(path)
        shutil.rmtree(folder, ignore_errors=True)  # damaged, or it would have been read
        with suppress(OSError):  # another process was faster
            part.rename(folder)


def _remove_abandoned(place: Path) -> None:
    """What processes that were killed had begun here; younger than a day it may still be under way."""
    for part in place.glob(f"{_PART}*"):
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > _DAY:
                shutil.rmtree(part)


def kept_note(name: str) -> dict[str, Any] | None:
    """The JSON object that `keep_note` kept; None where there is none that can be read."""
    with suppress(*_UNKEPT):
        note = json.loads((cache_folder() / f"{name}.json").read_text())
        return note if isinstance(note, dict) else None
    return None


def any_note(folder: str) -> bool:
    """Whether the folder of the cache holds any note; one that may not be looked into holds none."""
    with suppress(*_UNKEPT):
        return any((cache_folder() / folder).glob("*.json"))
    return False


def keep_note(name: str, note: dict[str, Any]) -> None:
    """Keep a JSON object; where that is not possible, it is not kept."""
    with suppress(WriteFailed):
        write_text_atomically(cache_folder() / f"{name}.json", json.dumps(note))
