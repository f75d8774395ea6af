"""What a weights pickle may make: containers, tensors and numpy arrays, each by code of ours.

Tensors stay unread until `load` is called, so that the optimiser's state in a training checkpoint costs nothing.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnetkit.checkpoints.pickles import Constructor, Name
from resnetkit.errors import CheckpointError

STORAGE_DTYPES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8, "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128,
}  # fmt: skip


@dataclass(eq=False)
class Storage:
    """The flat numbers that one or several tensors look at; `read` gives their bytes."""

    dtype: torch.dtype
    length: int
    read: Callable[[], bytearray]

    @cached_property
    def numbers(self) -> Tensor:
        """All numbers, 1-D; `CheckpointError` where the file holds fewer bytes than it says."""
        content = self.read()
        if len(content) != self.length * self.dtype.itemsize:
            raise CheckpointError(
                f"a tensor's storage has {len(content)} bytes where {self.length} {self.dtype} were promised: "
                "the file is damaged, fetch it again"
            )
        return torch.frombuffer(content, dtype=self.dtype) if content else torch.empty(0, dtype=self.dtype)


@dataclass(eq=False)
class StoredTensor:
    """A tensor that is named in a pickle and lies elsewhere."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def __post_init__(self) -> None:
        numbers = (self.offset, *self.shape, *self.stride)
        if not all(type(number) is int and number >= 0 for number in numbers) or len(self.shape) != len(self.stride):
            raise ValueError("a tensor with impossible shape, stride or offset")

    def load(self) -> Tensor:
        """The tensor, a view of its storage; `CheckpointError` where it would reach beyond it."""
        numbers = self.storage.numbers
        if self.dtype != numbers.dtype:
            numbers = numbers.view(self.dtype)
        last = self.offset + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))
        count = math.prod(self.shape)
        # A stride of zero would turn one number into terabytes.
        if count and (last >= len(numbers) or count > len(numbers)):
            raise CheckpointError(
                f"a tensor of shape {self.shape} reaches beyond its storage of {len(numbers)} numbers: "
                "the file is damaged, fetch it again"
            )
        return numbers.as_strided(self.shape, self.stride, self.offset) if count else numbers.new_empty(self.shape)


class StoredDtype:
    """numpy's dtype in a pickle: a code such as f4, then in its state the byte order."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = code.decode("ascii") if isinstance(code, bytes) else str(code)
        self.order = "="

    def take_state(self, state: Any) -> None:
        """Called with what numpy wrote: (version, byte order, …)."""
        order = state[1]
        self.order = order.decode("ascii") if isinstance(order, bytes) else str(order)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy type; ValueError for anything but numbers, whose bytes could be pointers to objects."""
        if self.code[:1] not in "fiubc" or not self.code[1:].isdigit():
            raise ValueError(f"an array of {self.code[:20]}")
        return np.dtype((self.order if self.order in "<>" else "=") + self.code)


class StoredArray:
    """A numpy array in a pickle; its shape, type and bytes come with its state."""

    def __init__(self, *_: Any) -> None:
        self.array: np.ndarray[Any, Any] | None = None

    def take_state(self, state: Any) -> None:
        """Called with what numpy wrote: (version, shape, dtype, column order, bytes)."""
        *_, shape, stored, fortran, content = state
        if isinstance(content, str):
            content = content.encode("latin-1")
        if isinstance(content, bytes) and isinstance(stored, StoredDtype) and stored.code[:1] in "fiubc":
            flat = np.frombuffer(content, dtype=stored.dtype)
            self.array = flat.reshape(shape, order="F" if fortran else "C")

    @property
    def shape(self) -> tuple[int, ...] | None:
        """None for an array of something else than numbers."""
        return None if self.array is None else self.array.shape

    def load(self) -> Tensor:
        """The same numbers as a tensor, in this machine's byte order."""
        if self.array is None:
            raise CheckpointError("an array holds no numbers: the file is no weights file")
        return torch.from_numpy(self.array.astype(self.array.dtype.newbyteorder("="), order="C"))


def _tensor(storage: Any, offset: int, shape: Any, stride: Any, *_: Any) -> StoredTensor:
    if not isinstance(storage, Storage):
        raise ValueError("a tensor without storage")
    return StoredTensor(storage, offset, tuple(shape), tuple(stride), storage.dtype)


def _tensor_of_dtype(storage: Any, offset: int, shape: Any, stride: Any, _: Any, __: Any, dtype: Any, *___: Any) -> Any:
    known = getattr(torch, dtype.name, None) if isinstance(dtype, Name) and dtype.module == "torch" else None
    if not isinstance(known, torch.dtype) or not isinstance(storage, Storage):
        raise ValueError("a tensor of no known type")
    return StoredTensor(storage, offset, tuple(shape), tuple(stride), known)


def _tensor_of_class(make: Any, _: Any, arguments: tuple[Any, ...], *__: Any) -> Any:
    """Subclasses of Tensor: what they hold is an ordinary tensor."""
    return CONSTRUCTORS[str(make)](*arguments)


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _mapping(*arguments: Any) -> dict[Any, Any]:
    """OrderedDict(), OrderedDict([(key, value), …]), Counter({…}), defaultdict(factory): all plain here."""
    given: Any = next((argument for argument in arguments if isinstance(argument, dict | list)), ())
    pairs: Iterable[Any] = given.items() if isinstance(given, dict) else given
    return {key: value for key, value in pairs if isinstance(key, str | int)}


def _members(values: Iterable[Any] = ()) -> list[Any]:
    """Sets, of which no weights file needs more than their members."""
    return list(values)


def _number(stored: Any, content: Any = b"") -> Any:
    raw = content.encode("latin-1") if isinstance(content, str) else content
    if not isinstance(stored, StoredDtype) or stored.code[:1] not in "fiubc":
        return None
    return np.frombuffer(raw, dtype=stored.dtype, count=1)[0].item()


def _from_buffer(content: Any, stored: Any, shape: Any, order: Any) -> StoredArray:
    array = StoredArray()
    array.take_state((1, shape, stored, order == "F", bytes(content)))
    return array


def _bytes(text: Any = "", encoding: Any = "latin-1", *_: Any) -> bytes:
    return text.encode("latin-1") if isinstance(text, str) else bytes(text) if isinstance(text, bytes) else b""


CONSTRUCTORS: dict[str, Constructor] = {
    "collections.OrderedDict": _mapping,
    "collections.defaultdict": _mapping,
    "collections.Counter": _mapping,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_dtype,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.nn.parameter.Parameter": _parameter,
    "torch._tensor._rebuild_from_type_v2": _tensor_of_class,
    "torch.Size": tuple,
    "numpy.dtype": StoredDtype,
    "_codecs.encode": _bytes,
    **{f"{root}.{name}": _members for root in ("builtins", "__builtin__") for name in ("set", "frozenset")},
    **{f"{root}.{name}": _bytes for root in ("builtins", "__builtin__") for name in ("bytes", "bytearray")},
    **{f"numpy.{core}.multiarray._reconstruct": StoredArray for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _number for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _from_buffer for core in ("core", "_core")},
}
"""name in the pickle → what is called in its place"""
