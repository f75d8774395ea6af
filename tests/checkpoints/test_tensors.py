"""Weights files of every kind, read without running what they say; hostile and damaged ones refused in one line."""

import argparse
import builtins
import collections
import functools
import io
import os
import pickle
import random
import resource
import runpy
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from resnetkit.checkpoints.tensors import read_tensors
from resnetkit.errors import CheckpointError, UnsafeFile

STATE = {
    "conv.weight": torch.arange(24.0).reshape(2, 3, 2, 2),
    "bn.weight": torch.tensor([1.0, 2.0], dtype=torch.float64),
    "bn.num_batches_tracked": torch.tensor(3),
    "half": torch.tensor([1.5, 2.5], dtype=torch.float16),
    "brain": torch.tensor([1.5], dtype=torch.bfloat16),
    "mask": torch.tensor([True, False]),
    "turned": torch.arange(6.0).reshape(2, 3).t(),
    "empty": torch.zeros(0, 3),
}


def saved(tmp_path: Path, tree: Any, *, zipped: bool = True) -> Path:
    path = tmp_path / "file.pth"
    torch.save(tree, path, _use_new_zipfile_serialization=zipped)
    return path


def assert_state(found: dict[str, torch.Tensor]) -> None:
    assert list(found) == list(STATE)
    for key, tensor in STATE.items():
        assert found[key].dtype == tensor.dtype, key
        assert torch.equal(found[key], tensor), key


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: collections.OrderedDict(state),
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "optimizer": {"state": {0: {"exp_avg": torch.ones(2, 3, 2, 2)}}}},
        lambda state: {"model": {"state_dict": state}, "epoch": 1},
        lambda state: {"state_dict": {"conv.weight": torch.zeros(1, 1, 1, 1)}, "state_dict_ema": state},
        lambda state: {key: torch.nn.Parameter(value, value.is_floating_point()) for key, value in state.items()},
    ],
    ids=["bare", "ordered", "wrapped", "training", "nested", "average", "parameters"],
)
def test_torch_files(tmp_path: Path, wrap: Callable[[Any], Any], zipped: bool) -> None:
    found, _ = read_tensors(saved(tmp_path, wrap(STATE), zipped=zipped))
    assert_state(found)


def test_safetensors(tmp_path: Path) -> None:
    save_file({key: tensor.contiguous() for key, tensor in STATE.items()}, tmp_path / "a.safetensors")
    found, _ = read_tensors(tmp_path / "a.safetensors")
    assert_state({key: found[key] for key in STATE})


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickles_of_numpy_arrays(tmp_path: Path, protocol: int) -> None:
    """detectron2's model zoo."""
    arrays = {
        "w": np.arange(16, dtype=np.float32).reshape(1, 2, 2, 4),
        "fortran": np.asfortranarray(np.arange(6, dtype=">f8").reshape(2, 3)),
        "scalar": np.float32(2.5),
    }
    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "somebody"}, protocol))
    found, metadata = read_tensors(path)
    assert torch.equal(found["w"], torch.from_numpy(arrays["w"]))
    assert torch.equal(found["fortran"], torch.arange(6, dtype=torch.float64).reshape(2, 3))
    assert metadata == {"__author__": "somebody", "model.scalar": 2.5} or metadata == {"__author__": "somebody"}


class Colour:  # a class that the reader must not import
    def __init__(self) -> None:
        self.deep = [self]


class Odd(dict[str, Any]):
    pass


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_foreign_classes_are_inert(tmp_path: Path, zipped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = {
        "state_dict": STATE,
        "hyper_parameters": {
            "args": argparse.Namespace(lr=0.1, name="x"), "path": Path("/x"), "odd": Odd(a=1), "colour": Colour(),
            "norm": functools.partial(torch.nn.BatchNorm2d, eps=1e-3), "function": torch.nn.functional.relu,
            "scores": collections.defaultdict(list, a=[1.0]), "device": torch.device("cpu"), "when": {1, 2},
            "numpy": np.random.default_rng(0), "shape": torch.Size([1, 2]), "number": np.float64(3), "bytes": b"x",
        },
        "meta": {"dataset_meta": {"classes": ("cat", "dog")}},
    }  # fmt: skip
    path = saved(tmp_path, tree, zipped=zipped)
    # The classes lie in this very module: whoever imports or makes one is caught.
    monkeypatch.setattr(Colour, "__setstate__", lambda *_: pytest.fail("ran"), raising=False)
    monkeypatch.setattr(Odd, "__setitem__", lambda *_: pytest.fail("ran"), raising=False)
    found, metadata = read_tensors(path)
    assert_state(found)
    assert metadata["meta.dataset_meta.classes"] == ["cat", "dog"]
    assert metadata["hyper_parameters.args.lr"] == 0.1


def test_a_whole_pickled_module(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.BatchNorm2d(2))
    for zipped in (True, False):
        found, _ = read_tensors(saved(tmp_path, {"model": network}, zipped=zipped))
        assert found.keys() == network.state_dict().keys()
        assert all(torch.equal(found[key], value) for key, value in network.state_dict().items())


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call

    def __call__(self) -> None:
        """The pickler wants something that can be called."""


def hostile(marker: Path) -> dict[str, Any]:
    touch = f"touch {marker}"
    python = f"open({str(marker)!r}, 'w')"
    (marker.parent / "script.py").write_text(python)
    return {
        "os.system": Calls(os.system, touch),
        "eval": Calls(eval, python),
        "exec": Calls(exec, python),
        "open": Calls(open, str(marker), "w"),
        "import": Calls(builtins.__import__, "antigravity"),
        "subprocess": Calls(subprocess.check_call, ["touch", str(marker)]),
        "Popen": Calls(subprocess.Popen, ["touch", str(marker)]),
        "runpy": Calls(runpy.run_path, str(marker.parent / "script.py")),
        "torch.hub": Calls(torch.hub.load, str(marker.parent), "x"),
        "torch.load": Calls(torch.load, str(marker)),
        "getattr chain": Calls(Calls(getattr, Calls(getattr, Path, "__init__"), "__globals__"), "x"),
        "method": Calls(Path(marker).touch),
        "partial": Calls(functools.partial(os.system, touch)),
        "map": Calls(list, Calls(map, os.system, [touch])),
        "numpy": Calls(np.load, str(marker)),
        "a call of a record": Calls(functools.partial(print), "x"),
    }


@pytest.mark.parametrize("kind", hostile(Path("/tmp/x")) if Path("/tmp").exists() else [])
@pytest.mark.parametrize("how", ["zip", "legacy", "pickle"])
def test_hostile_pickles(tmp_path: Path, kind: str, how: str) -> None:
    marker = tmp_path / "marker"
    tree = {"state_dict": STATE, "extra": hostile(marker)[kind]}
    if how == "pickle":
        path = tmp_path / "file.pkl"
        path.write_bytes(pickle.dumps({"extra": tree["extra"], "w": np.zeros((1, 1, 1, 1))}))
    else:
        path = saved(tmp_path, tree, zipped=how == "zip")
    with pytest.raises(UnsafeFile, match=r"is refused: it would call .* nothing was run") as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["os\nsystem", "posix\nsystem", "builtins\neval", "__builtin__\nexec", "nt\nsystem"])
@pytest.mark.parametrize(
    "program",
    ["c{}\n(S'touch marker'\ntR.", "(S'touch marker'\ni{}\n.", "(c{}\nS'touch marker'\no.", "c{}\n)\x81."],
    ids=["REDUCE", "INST", "OBJ", "NEWOBJ"],
)
def test_hostile_opcodes(tmp_path: Path, name: str, program: str) -> None:
    path = tmp_path / "file.pkl"
    path.write_bytes(b"\x80\x02" + program.format(name).encode("latin-1"))
    with pytest.raises(UnsafeFile):
        read_tensors(path)


def in_little_memory(read: Callable[[], Any]) -> str:
    """What `read` is refused with, having grown the process by under 200 MB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError) as caught:
        read()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
    assert "\n" not in str(caught.value)
    return str(caught.value)


def zip_of(tmp_path: Path, parts: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    path = tmp_path / "file.pth"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def tensor_program(length: int, shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    """A pickle of one tensor, with claims of one's choice."""

    class Storage(torch.UntypedStorage):
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", length) if isinstance(thing, Marker) else None

    class Marker:
        pass

    class Tensor:
        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor_v2, (Marker(), offset, shape, stride, False, {})

    buffer = io.BytesIO()
    Pickler(buffer, 2).dump({"w": Tensor()})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("length", "shape", "stride", "says"),
    [
        (10**15, (10**15,), (1,), "were promised"),
        (4, (10**12,), (0,), "reaches beyond"),
        (4, (2, 10**9), (0, 0), "reaches beyond"),
        (4, (2, 3), (3, 1), "reaches beyond"),
        (4, (-1, -1), (1, 1), "impossible"),
        (4, (4,), (-1,), "impossible"),
        (-4, (4,), (1,), "impossible"),
        (10**40, (4,), (1,), "were promised"),
    ],
)
def test_tensors_that_claim_what_is_not_there(
    tmp_path: Path, length: int, shape: tuple[int, ...], stride: tuple[int, ...], says: str
) -> None:
    path = zip_of(tmp_path, {"a/data.pkl": tensor_program(length, shape, stride), "a/data/0": bytes(16)})
    assert says in in_little_memory(lambda: read_tensors(path))


def test_zip_bombs(tmp_path: Path) -> None:
    content = bytes(2_000_000_000 // 8)
    program = tensor_program(len(content) // 4, (len(content) // 4,), (1,))
    path = zip_of(tmp_path, {"a/data.pkl": program, "a/data/0": content}, zipfile.ZIP_DEFLATED)
    del content
    assert "unfolds to more than its own size" in in_little_memory(lambda: read_tensors(path))
    path = zip_of(tmp_path, {"a/data.pkl": bytes(10**8)}, zipfile.ZIP_DEFLATED)
    assert "unfolds to more than its own size" in in_little_memory(lambda: read_tensors(path))


@pytest.mark.parametrize(
    "content",
    [
        (2**62).to_bytes(8, "little") + b"{}",
        (90_000_000).to_bytes(8, "little") + b"{" + b" " * 100,
        b"\x08\0\0\0\0\0\0\0" + b'{"a":{}}',
        b'\x4b\0\0\0\0\0\0\0{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}',
    ],
)
def test_safetensors_headers_that_claim_terabytes(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(content)
    assert "damaged" in in_little_memory(lambda: read_tensors(path))


def deep_tuples() -> bytes:
    return b"\x80\x02" + b")" + b"\x85" * 1_000_000 + b"K\x01s."


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02r\xff\xff\xff\xff.",
        b"\x80\x02}r\xff\xff\xff\x7f.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f}.",
        b"\x80\x02\x8b\xff\xff\xff\x7f.",
        b"\x80\x02" + b")" + b"2\x86" * 64 + b"}q\x01h\x010K\x01s.",
        b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"K\x01s.",
        b"\x80\x02}(K\x01u.",
        b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        b"\x80\x02.",
        b"\x80\x02(.",
        b"\x80\x02}",
        b"\x80\x02\x82\x01.",
        b"\x80\x02ccollections\nOrderedDict\n(K\x01K\x02K\x03tR.",
    ],
)
def test_pickles_that_would_fill_memory_or_time(tmp_path: Path, program: bytes) -> None:
    path = tmp_path / "file.pkl"
    path.write_bytes(program)
    in_little_memory(lambda: read_tensors(path))


def test_other_files(tmp_path: Path) -> None:
    cases = {
        b"": "it is empty",
        b"<!DOCTYPE html><html>": "a web page",
        b"\x89HDF\r\n\x1a\n0000": "HDF5",
        b"version https://git-lfs.github.com/spec/v1": "git lfs pull",
        b"hello": "no weights file",
    }
    path = tmp_path / "file"
    for content, says in cases.items():
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=says):
            read_tensors(path)
    for parts, says in (
        ({"config.json": b"{}", "model.weights.h5": b""}, "Keras"),
        ({"a.npy": b""}, "numpy archive"),
        ({"x": b""}, "none of torch.save"),
        ({"a/data.pkl": b"\x80\x02}.", "a/constants.pkl": b""}, "TorchScript"),
        ({"a/data.pkl": b"\x80\x02}.", "a/byteorder": b"big"}, "big-endian"),
    ):
        with pytest.raises(CheckpointError, match=says):
            read_tensors(zip_of(tmp_path, parts))
    with pytest.raises(CheckpointError, match="there is no such file"):
        read_tensors(tmp_path / "absent")
    with pytest.raises(CheckpointError, match="it is a folder"):
        read_tensors(tmp_path)
    with pytest.raises(CheckpointError, match="no tensors by name"):
        read_tensors(saved(tmp_path, {"epoch": 3}))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_diverged_weights(tmp_path: Path, number: float) -> None:
    path = saved(tmp_path, {"good": torch.ones(2), "bad": torch.tensor([1.0, number])})
    with pytest.raises(CheckpointError, match="1 tensors hold NaN or infinite numbers, first bad"):
        read_tensors(path)


def test_large_finite_numbers_are_no_infinities(tmp_path: Path) -> None:
    path = saved(tmp_path, {"a": torch.full((4,), 3e38), "b": torch.full((4,), 1e308, dtype=torch.float64)})
    assert len(read_tensors(path)[0]) == 2


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_every_truncation(tmp_path: Path, zipped: bool) -> None:
    path = saved(tmp_path, {"state_dict": STATE}, zipped=zipped)
    whole = path.read_bytes()
    for length in range(0, len(whole), 17):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            read_tensors(path)


def originals(tmp_path: Path) -> list[bytes]:
    tree = {"state_dict": STATE, "args": argparse.Namespace(lr=0.1), "epoch": 3}
    files = [saved(tmp_path, tree).read_bytes(), saved(tmp_path, tree, zipped=False).read_bytes()]
    save_file({"w": torch.ones(3, 2)}, tmp_path / "a.safetensors", {"a": "b"})
    files.append((tmp_path / "a.safetensors").read_bytes())
    arrays = {"w": np.zeros((1, 2, 1, 1), np.float32), "b": np.arange(3)}
    return [*files, *(pickle.dumps(arrays, protocol) for protocol in (0, 2, 5))]


def refusal(path: Path) -> str | None:
    try:
        read_tensors(path)
    except CheckpointError as error:
        return str(error)
    return None


@pytest.mark.parametrize("count", [2000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_mutated_files(tmp_path: Path, mutated: Callable[[bytes, random.Random], bytes], count: int) -> None:
    """Each is read, or refused in one line: no crash, no hang, no traceback."""
    chance = random.Random(count)
    files = originals(tmp_path)
    path = tmp_path / "mutated"
    refused = 0
    for number in range(count):
        path.write_bytes(mutated(files[number % len(files)], chance))
        says = refusal(path)
        refused += says is not None
        assert "\n" not in (says or "")
    assert refused > count / 3
