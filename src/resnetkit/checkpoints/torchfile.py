"""The containers of torch.save: since 1.6 a zip of pickle and storages, before it pickles followed by storages."""

import io
import mmap
import struct
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from resnetkit.checkpoints.constructors import CONSTRUCTORS, STORAGE_DTYPES, Storage
from resnetkit.checkpoints.pickles import Name, unpickle
from resnetkit.errors import CheckpointError

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001


def read_zip(path: Path) -> Any:
    """The object in a zip of torch.save, its tensors as `StoredTensor`."""
    archive = _Archive(path)
    return unpickle(archive.program(), CONSTRUCTORS, archive.storage)


def read_pickle(path: Path) -> Any:
    """The object in an older file of torch.save, or in a plain pickle of numpy arrays (detectron2's .pkl)."""
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    first = unpickle(content, CONSTRUCTORS)
    if first != _LEGACY_MAGIC:
        return first
    if unpickle(content, CONSTRUCTORS) != _LEGACY_PROTOCOL:
        raise CheckpointError("its torch.save protocol is unknown: save it again with a current PyTorch")
    machine = unpickle(content, CONSTRUCTORS)
    if isinstance(machine, dict) and machine.get("little_endian") is False:
        raise CheckpointError("it was written on a big-endian machine: save it again on another")
    trailing = _Trailing(content)
    tree = unpickle(content, CONSTRUCTORS, trailing.storage)
    trailing.locate(unpickle(content, CONSTRUCTORS))
    return tree


class _Archive:
    """The entries of a torch zip, all stored without compression: what a storage claims, the file really holds."""

    def __init__(self, path: Path) -> None:
        self.zip = zipfile.ZipFile(path)
        self.left = path.stat().st_size
        self.storages: dict[str, Storage] = {}
        names = self.zip.namelist()
        programs = [name for name in names if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(programs) != 1:
            raise CheckpointError(_not_torch(names))
        self.folder = programs[0].removesuffix("data.pkl")
        if f"{self.folder}constants.pkl" in names:
            raise CheckpointError(
                "it is a TorchScript archive: save `module.state_dict()` with torch.save and give that"
            )
        if f"{self.folder}byteorder" in names and self.read("byteorder") != b"little":
            raise CheckpointError("it was written on a big-endian machine: save it again on another")

    def read(self, name: str) -> bytearray:
        try:
            entry = self.zip.getinfo(self.folder + name)
        except KeyError:
            raise CheckpointError(f"its part {name} is missing: the file is damaged, fetch it again") from None
        # An entry that is packed, or that several names share, can unfold into far more than the file's own size.
        self.left -= entry.file_size
        if entry.compress_type != zipfile.ZIP_STORED or self.left < 0:
            raise CheckpointError("its zip archive unfolds to more than its own size: PyTorch never writes such a file")
        with self.zip.open(entry) as file:
            return bytearray(file.read())

    def program(self) -> io.BytesIO:
        return io.BytesIO(self.read("data.pkl"))

    def storage(self, reference: Any) -> Any:
        if isinstance(reference, tuple) and reference[:1] == ("storage",) and len(reference) == 5:
            _, kind, key, _, length = reference
            if str(key) not in self.storages:
                self.storages[str(key)] = _storage(kind, length, partial(self.read, f"data/{key}"))
            return self.storages[str(key)]
        raise ValueError("a reference that is no storage")


class _Trailing:
    """The storages behind the pickles of an older file, each its length and then its bytes."""

    def __init__(self, content: mmap.mmap) -> None:
        self.content = content
        self.storages: dict[str, Storage] = {}

    def storage(self, reference: Any) -> Any:
        if isinstance(reference, tuple) and reference[:1] == ("module",) and len(reference) == 4:
            return reference[1]  # a class, beside its source code, which nobody reads
        if isinstance(reference, tuple) and reference[:1] == ("storage",) and len(reference) == 6:
            _, kind, key, _, length, view = reference
            if view is not None:
                raise CheckpointError("it was written by PyTorch 0.3 or older: save it again with a current PyTorch")
            return self.storages.setdefault(str(key), _storage(kind, length))
        raise ValueError("a reference that is no storage")

    def locate(self, keys: Any) -> None:
        if not isinstance(keys, list) or not {str(key) for key in keys} >= set(self.storages):
            raise ValueError("its list of storages is incomplete")
        place = self.content.tell()
        for key in keys:
            storage = self.storages[str(key)]
            (length,) = struct.unpack_from("<q", self.content, place)
            start, place = place + 8, place + 8 + storage.length * storage.dtype.itemsize
            if length != storage.length or place > len(self.content):
                raise CheckpointError("it ends in the middle of its tensors: fetch the file again")
            storage.read = partial(self.read, start, place)

    def read(self, start: int, end: int) -> bytearray:
        return bytearray(self.content[start:end])


def _storage(kind: Any, length: Any, read: Callable[[], bytearray] = bytearray) -> Storage:
    dtype = STORAGE_DTYPES.get(kind.name) if isinstance(kind, Name) else None
    if dtype is None:
        raise CheckpointError(f"its tensors are of a kind that cannot be used here ({kind}): save them as float32")
    if type(length) is not int or length < 0:
        raise ValueError("a storage of impossible length")
    return Storage(dtype, length, read)


def _not_torch(names: list[str]) -> str:
    if any(name.endswith(".weights.h5") for name in names):
        return (
            "it is a Keras file: only PyTorch's layouts can be adopted; convert it to safetensors with PyTorch's names"
        )
    if any(name.endswith(".npy") for name in names):
        return "it is a numpy archive, which names no layout: save the arrays as safetensors with PyTorch's names"
    return "it is a zip archive but none of torch.save: unpack it and give the weights file inside"
