"""An exported file opened again: ONNX and OpenVINO without torch, and torch's own with it.

What it is asked is what a stranger's program would ask it: `run` takes the file's own input and gives its own output.
"""

import functools
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.catalog.tasks import Task
from resnetkit.data.decode import Pixels
from resnetkit.data.preparing import prepare
from resnetkit.deployment.backends.onnx_runtime import onnx_session
from resnetkit.deployment.exports.card import KEY, ExportCard, read_card
from resnetkit.deployment.extras import silent_openvino
from resnetkit.errors import CheckpointError, InvalidArgument, ResnetkitError

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
"""of the file that stands for the whole export"""

Run = Callable[[NDArray[Any]], NDArray[np.float32]]


@final
class ExportedModel:
    """An exported file, ready to answer. `run` takes what the file takes and gives what it gives.

    `graph` is what its runtime read: an OpenVINO model, the bytes of an ONNX file; None for torch's.
    """

    def __init__(self, path: Path, card: ExportCard, runtime: str, run: Run, graph: Any = None) -> None:
        self.path = path
        self.card = card
        self.run = run
        self.graph = graph
        self._runtime = runtime

    def answer(self, pictures: Sequence[Pixels]) -> NDArray[np.float32]:
        """Probabilities `N,classes` of uint8 pictures `H,W,C` of any size.

        A `picture` file resizes them itself; for a `tensor` file they are resized and cropped here. Neighbours of one
        size are computed together.
        """
        if self.card.input == "tensor":
            return self.probabilities(prepared(pictures, self.card.preprocess))
        rows = [self.probabilities(np.stack(list(group))) for _, group in groupby(pictures, key=lambda one: one.shape)]
        return np.concatenate(rows)

    def probabilities(self, batch: Pixels) -> NDArray[np.float32]:
        """Probabilities `N,classes` of pictures of one size, `N,H,W,C`."""
        if self.card.input == "picture":
            return self.run(batch)
        if batch.shape[1:3] != self.card.preprocess.size:
            raise InvalidArgument(
                f"{self.path} is the bare network: it takes pictures of {self.card.preprocess.size} alone; "
                "export with --input picture for other sizes"
            )
        logits = self.run(normalised(batch, self.card.preprocess)) / np.float32(self.card.temperature or 1.0)
        return chances(logits, self.card.task)

    def with_card(self, card: ExportCard) -> "ExportedModel":
        """The same file with something else said of it."""
        return ExportedModel(self.path, card, self._runtime, self.run, self.graph)

    def asked_by(self, run: Run) -> "ExportedModel":
        """The same file computed by another function, of other threads."""
        return ExportedModel(self.path, self.card, self._runtime, run, self.graph)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the person should know about it."""
        report = self.card.quantisation or {}
        if not report.get("forced"):
            return ()
        return (f"{self.path} is int8 that was written by force: {'; '.join(map(str, report.get('objections', ())))}",)

    @property
    def description(self) -> str:
        """Network, precision, runtime."""
        return f"{self.card.name} · {self.card.precision} · {self._runtime}"


def prepared(pictures: Sequence[Pixels], row: Preprocess) -> Pixels:
    """Pictures of any size → uint8 `N,h,w,C` of the network's."""
    return np.concatenate([prepare(picture[None], row) for picture in pictures])


def normalised(batch: Pixels, row: Preprocess) -> NDArray[np.float32]:
    """uint8 `N,h,w,C` → float32 `N,C,h,w`, as the network takes it."""
    mean, std = np.array(row.mean, np.float32), np.array(row.std, np.float32)
    return np.ascontiguousarray(((batch.astype(np.float32) / 255 - mean) / std).transpose(0, 3, 1, 2), np.float32)


def chances(logits: NDArray[np.float32], task: Task) -> NDArray[np.float32]:
    """Probabilities of logits `N,classes`: shares of one, or a yes or no each where several classes may be right.

    >>> logits = np.zeros((1, 4), np.float32)
    >>> chances(logits, "multilabel").tolist(), chances(logits, "classification").tolist()
    ([[0.5, 0.5, 0.5, 0.5]], [[0.25, 0.25, 0.25, 0.25]])
    """
    if task == "multilabel":
        falling: NDArray[np.float32] = np.exp(-np.abs(logits))  # never beyond one
        return np.where(logits >= 0, 1 / (1 + falling), falling / (1 + falling))
    powers: NDArray[np.float32] = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def exported_file(spec: str | os.PathLike[str]) -> Path | None:
    """The exported file that a MODEL names, itself or as the folder it lies in; None if it names none."""
    path = Path(spec)
    if path.suffix.lower() in SUFFIXES.values():
        return path
    if path.is_dir() and not (path / "model.safetensors").exists():
        return next((path / f"model{end}" for end in SUFFIXES.values() if (path / f"model{end}").is_file()), None)
    return None


def open_exported(path: str | os.PathLike[str]) -> ExportedModel:
    """The exported file, ready; `CheckpointError` says what is wrong with it, `MissingExtra` what it needs."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}: give one that `resnetkit export` wrote")
    opened = {".onnx": _open_onnx, ".xml": _open_openvino, ".pt2": _open_torch}[path.suffix.lower()]
    return opened(path)


def _open_onnx(path: Path) -> ExportedModel:
    with reading(path):
        content = path.read_bytes()  # so that a hostile file has no folder in which to find tensors "outside"
        session = onnx_session(content)
        text = session.get_modelmeta().custom_metadata_map.get(KEY)
        inputs = [entry.name for entry in session.get_inputs()]
        shapes = [entry.shape for entry in session.get_outputs()]
    card = read_card(text, str(path))
    _check_ends(path, card, inputs, shapes)
    return ExportedModel(path, card, "ONNX Runtime", onnx_run(session), content)


def onnx_run(session: Any) -> Run:
    """The session as a function."""
    (entry,) = session.get_inputs()

    def run(batch: NDArray[Any]) -> NDArray[np.float32]:
        (output,) = session.run(None, {entry.name: batch})
        answers: NDArray[np.float32] = output
        return answers

    return run


def _open_openvino(path: Path) -> ExportedModel:
    openvino = silent_openvino()
    given, path = path, path if path.with_suffix(".bin").is_file() else Path(os.path.realpath(path))  # a link alone
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise CheckpointError(f"there is no file {weights}: the numbers of {path.name} lie there, copy both")
    with reading(path):
        model = openvino.Core().read_model(path)
        text = model.get_rt_info([KEY]).astype(str) if model.has_rt_info([KEY]) else None
        card = read_card(text, str(path))
        with weights.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != card.weights_sha256:
                raise CheckpointError(f"{weights} is not the one that {path.name} was written with: export again")
        shapes = [[None if side.is_dynamic else side.get_length() for side in entry.partial_shape]
                  for entry in model.outputs if entry.partial_shape.rank.is_static]  # fmt: skip
        _check_ends(path, card, [name for entry in model.inputs for name in entry.names], shapes)
    return ExportedModel(given, card, "OpenVINO", _when_asked(path, lambda: openvino_run(model)), model)


def _when_asked(path: Path, make: Callable[[], Run]) -> Run:
    """The function that `make` makes, made when it is first needed: who predicts compiles another graph of the file."""
    made = functools.cache(make)

    def run(batch: NDArray[Any]) -> NDArray[np.float32]:
        with reading(path):
            ready = made()
        return ready(batch)

    return run


def openvino_run(model: Any) -> Run:
    """An OpenVINO model as a function, in the precision it was written in."""
    openvino = silent_openvino()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(model, "CPU", settings)

    def run(batch: NDArray[Any]) -> NDArray[np.float32]:
        answers: NDArray[np.float32] = compiled(batch)[0].copy()
        return answers

    return run


def _open_torch(path: Path) -> ExportedModel:
    # torch is imported for torch's own files alone
    from resnetkit.deployment.exports.torch_program import ends_of, open_program, torch_run

    with reading(path):
        text, program = open_program(path)
        card = read_card(text, str(path))
        _check_ends(path, card, *ends_of(program))
        run = torch_run(program)
    return ExportedModel(path, card, "torch", run)


def _check_ends(path: Path, card: ExportCard, inputs: list[str], shapes: Sequence[Sequence[Any]]) -> None:
    """That the graph takes what the metadata says and gives as many numbers, by the shapes of its outputs."""
    if inputs != [card.input]:
        raise CheckpointError(f"{path} takes {', '.join(inputs)}, but its metadata says {card.input}: export again")
    if len(shapes) != 1 or len(shapes[0]) != 2 or shapes[0][1] != card.num_classes:
        found = ", ".join(str(list(shape)) for shape in shapes) or "nothing of a known shape"
        raise CheckpointError(f"{path} gives {found}, but its metadata says [batch, {card.num_classes}]: export again")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Runtimes raise what they like about a damaged file; a person is told in one line."""
    try:
        yield
    except ResnetkitError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1][:300]
        raise CheckpointError(f"{path} cannot be read ({reason}): it is damaged or no exported model") from error
