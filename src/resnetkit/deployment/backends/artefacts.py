"""What is expensive to make and the same every time, kept on disk: converted networks and what a probe chose.

The key says all that the thing depends on (network, versions, processor), so nothing is ever out of date. A cache that
cannot be written or read back costs time, never an answer.
"""

import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from resnetkit.checkpoints.modelfile import ModelCard
from resnetkit.cores import usable_cores

Result = TypeVar("Result")

_FORMAT = 1
_PACKAGES = ("torch", "openvino", "onnxruntime", "onnx", "onnxscript")


def cache_folder() -> Path:
    """RESNETKIT_CACHE, or `resnetkit` in the user's own cache."""
    named = os.environ.get("RESNETKIT_CACHE")
    own = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named) if named else Path(own) / "resnetkit"


def key(network: nn.Module, card: ModelCard, *more: object) -> str:
    """A hash of the network's numbers, of what its card says about computing, and of `more`."""
    digest = hashlib.sha256()
    for name, values in network.state_dict().items():
        digest.update(f"{name} {tuple(values.shape)} {values.dtype}".encode())
        flat = values.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    said = (card.row, card.num_classes, card.preprocess, card.temperature, _FORMAT, *more)
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


def kept(name: str, make: Callable[[Path], None], read: Callable[[Path], Result]) -> Result:
    """What `read` reads of the folder `name` of the cache, which `make` fills the first time.

    The folder appears whole or not at all; one that cannot be read is made anew; where there is no place to keep it,
    it is made for this once.
    """
    target = cache_folder() / name
    if target.is_dir():
        try:
            return read(target)
        except (OSError, RuntimeError):  # damaged: OpenVINO's errors are RuntimeErrors
            shutil.rmtree(target, ignore_errors=True)
    temporary = _folder_beside(target)
    try:
        make(temporary)
        result = read(temporary)
        if temporary.parent == target.parent:
            with suppress(OSError):  # another process was faster
                os.rename(temporary, target)
        return result
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _folder_beside(target: Path) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=".part-", dir=target.parent))
    except OSError:
        return Path(tempfile.mkdtemp(prefix="resnetkit-"))


def kept_note(name: str) -> dict[str, Any] | None:
    """The JSON object that `keep_note` kept; None where there is none that can be read."""
    with suppress(OSError, ValueError):
        note = json.loads((cache_folder() / f"{name}.json").read_text())
        return note if isinstance(note, dict) else None
    return None


def any_note(folder: str) -> bool:
    """Whether the folder of the cache holds any note."""
    return any((cache_folder() / folder).glob("*.json"))


def keep_note(name: str, note: dict[str, Any]) -> None:
    """Keep a JSON object; where that is not possible, it is not kept."""
    target = cache_folder() / f"{name}.json"
    with suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".part-", dir=target.parent)
        with os.fdopen(handle, "w") as file:
            json.dump(note, file)
        os.replace(temporary, target)
