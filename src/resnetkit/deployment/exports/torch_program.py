"""A `.pt2` file opened without letting it run anything but arithmetic.

torch.export's own reader unpickles whatever a file marks as pickled, evaluates its shape expressions as Python and
looks its operators up by name. A file that needs any of that beyond what resnetkit writes is refused before torch
sees it.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram

from resnetkit.deployment.exports.card import KEY
from resnetkit.deployment.exports.opened import Run
from resnetkit.errors import UnsafeFile

_OPERATOR = re.compile(r"torch\.ops\.aten\.\w+\.\w+|_operator\.(add|sub|mul|floordiv|mod|neg|ge|le|gt|lt|eq|ne)")
_EXPRESSION = re.compile(
    r"(?:Symbol\('[su]\d+', (?:positive=True, )?integer=True\)|Integer\(-?\d+\)|Add|Mul|Max|Min|FloorDiv|Mod|Pow"
    r"|Equality|Unequality|(?:Strict)?(?:Greater|Less)Than|[(), ])*"
)
_PLAIN = re.compile(
    r"archive_format|archive_version|(\.data/)?version|byteorder|\.data/serialization_id|\.format_version|\.storage_alignment"
    r"|data/(weights|constants)/(weight|tensor)_\d+|extra/\w+"
)
_UNPICKLED = re.compile(r"data/sample_inputs/\w+\.pt")
_JSON = re.compile(r"models/\w+\.json|data/(weights|constants)/\w+_config\.json")


def open_program(path: Path) -> tuple[str | None, ExportedProgram]:
    """Metadata and the program of a file; UnsafeFile where it asks for more than arithmetic."""
    content = path.read_bytes()  # once: what is checked is what is loaded
    _check(content, path)
    texts: dict[str, Any] = {KEY: ""}
    program = torch.export.load(io.BytesIO(content), extra_files=texts)
    text = texts[KEY]
    return text.decode() if isinstance(text, bytes) else text, program


def ends_of(program: ExportedProgram) -> tuple[list[str], list[tuple[Any, ...]]]:
    """What a program takes, by the type of its numbers as it has no names of ours, and the shapes of what it gives."""
    values = {node.name: node.meta["val"] for node in program.graph.nodes if "val" in node.meta}
    signature = program.graph_signature
    kinds = {torch.uint8: "picture", torch.float32: "tensor"}
    types = [values[str(name)].dtype for name in signature.user_inputs]
    outputs = [tuple(values[str(name)].shape) for name in signature.user_outputs]
    return [kinds.get(each, str(each)) for each in types], outputs


def torch_run(program: ExportedProgram) -> Run:
    """The program as a function."""
    module = program.module(check_guards=False)

    def run(batch: NDArray[Any]) -> NDArray[np.float32]:
        with torch.inference_mode():
            answers: NDArray[np.float32] = module(torch.from_numpy(batch)).numpy()
        return answers

    return run


def _check(content: bytes, path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        if len(set(names)) < len(names):
            raise UnsafeFile(f"{path} holds a member twice, so that what is checked need not be what is read")
        for name in names:
            inner = str(PurePosixPath(*PurePosixPath(name).parts[1:]))
            if _JSON.fullmatch(inner):
                _check_values(json.loads(archive.read(name)), path)
            elif _UNPICKLED.fullmatch(inner):
                _check_pickle(archive.read(name), path)
            elif not _PLAIN.fullmatch(inner):
                raise UnsafeFile(f"{path} holds {name!r}, which resnetkit does not write: it was not opened")


def _check_pickle(content: bytes, path: Path) -> None:
    if not content:
        return
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except Exception as error:
        raise UnsafeFile(f"{path} holds a pickle that is more than tensors: it was not opened") from error


def _check_values(values: Any, path: Path) -> None:
    for key, value in _entries(values):
        if key == "use_pickle" and value is not False:
            raise UnsafeFile(f"{path} holds pickled weights: it was not opened")
        if key == "target" and isinstance(value, str) and not _OPERATOR.fullmatch(value):
            raise UnsafeFile(f"{path} calls {value[:80]!r}, which is no arithmetic: it was not opened")
        if key == "expr_str" and not (isinstance(value, str) and _EXPRESSION.fullmatch(value)):
            raise UnsafeFile(f"{path} holds the expression {str(value)[:80]!r}: it was not opened")
        if key == "guards_code" and value:
            raise UnsafeFile(f"{path} holds Python code that is run before it answers: it was not opened")
        if key == "path_name" and not re.fullmatch(r"(weight|tensor)_\d+", str(value)):
            raise UnsafeFile(f"{path} holds constants that are no tensors: it was not opened")


def _entries(values: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, however deep."""
    waiting = [values]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from value.items()
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
