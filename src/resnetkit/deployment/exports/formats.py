"""The formats an export can have: how a network becomes one, and how it is written."""

import errno
import hashlib
import io
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol, final

import torch
from torch import nn

from resnetkit.checkpoints.atomic import write_atomically
from resnetkit.checkpoints.modelfile import ModelCard
from resnetkit.deployment.backends.onnx_runtime import onnx_session
from resnetkit.deployment.exports import int8_onnx, int8_openvino, to_onnx, to_openvino
from resnetkit.deployment.exports.card import KEY, ExportCard
from resnetkit.deployment.exports.graphs import Graph, program
from resnetkit.deployment.exports.int8_openvino import Batches
from resnetkit.deployment.exports.opened import Run, onnx_run, openvino_run
from resnetkit.deployment.exports.torch_program import torch_run
from resnetkit.deployment.extras import silent_openvino

FormatName = Literal["onnx", "openvino", "torch"]


class Format(Protocol):
    """A kind of model file. A model is what the format's own library holds in memory."""

    def convert(self, network: nn.Module, card: ModelCard, graph: Graph) -> Any:
        """The network as a model."""

    def run(self, model: Any) -> Run:
        """The model as a function."""

    def write(self, model: Any, card: ExportCard, path: Path) -> None:
        """The file, at once or not at all."""


class Int8Format(Format, Protocol):
    """A kind of model file whose networks can be quantised."""

    def quantised(self, model: Any, batches: Batches) -> Any:
        """The model in int8, its ranges measured on these inputs."""

    def quantised_operations(self, model: Any) -> tuple[int, int]:
        """Convolutions and matrix products that compute in int8 on this processor, and how many there are."""

    def with_preprocessing(self, model: Any, card: ModelCard) -> Any:
        """A `pixels` model as a `picture` model."""


@final
class Onnx:
    """One .onnx file."""

    def convert(self, network: nn.Module, card: ModelCard, graph: Graph) -> Any:
        """See `Format`."""
        return to_onnx.to_onnx(network, card, graph)

    def quantised(self, model: Any, batches: Batches) -> Any:
        """See `Format`."""
        return int8_onnx.quantised(model, batches)

    def quantised_operations(self, model: Any) -> tuple[int, int]:
        """See `Format`."""
        return int8_onnx.quantised_operations(model)

    def with_preprocessing(self, model: Any, card: ModelCard) -> Any:
        """See `Format`."""
        return to_onnx.with_preprocessing(model, card)

    def run(self, model: Any) -> Run:
        """See `Format`."""
        return onnx_run(onnx_session(model.SerializeToString()))

    def write(self, model: Any, card: ExportCard, path: Path) -> None:
        """See `Format`."""
        del model.metadata_props[:]
        entry = model.metadata_props.add()
        entry.key, entry.value = KEY, card.to_json()
        content = model.SerializeToString()
        write_atomically(path, lambda temporary: _put(temporary, content))


@final
class OpenVino:
    """An .xml file and the .bin beside it."""

    def convert(self, network: nn.Module, card: ModelCard, graph: Graph) -> Any:
        """See `Format`."""
        return to_openvino.to_openvino(network, card, graph)

    def quantised(self, model: Any, batches: Batches) -> Any:
        """See `Format`."""
        return int8_openvino.quantised(model, batches)

    def quantised_operations(self, model: Any) -> tuple[int, int]:
        """See `Format`."""
        return int8_openvino.quantised_operations(model)

    def with_preprocessing(self, model: Any, card: ModelCard) -> Any:
        """See `Format`."""
        return to_openvino.with_preprocessing(model, card)

    def run(self, model: Any) -> Run:
        """See `Format`."""
        return openvino_run(model)

    def write(self, model: Any, card: ExportCard, path: Path) -> None:
        """See `Format`."""
        path = Path(os.path.realpath(path))  # the .bin goes where the .xml goes, not to where a link to it lies
        write_atomically(path, lambda temporary: _serialise(model, card, path, temporary))


@final
class Torch:
    """torch.export's .pt2 archive."""

    def convert(self, network: nn.Module, card: ModelCard, graph: Graph) -> Any:
        """See `Format`."""
        return program(network, card, graph)

    def run(self, model: Any) -> Run:
        """See `Format`."""
        return torch_run(model)

    def write(self, model: Any, card: ExportCard, path: Path) -> None:
        """See `Format`."""
        stream = io.BytesIO()
        model.example_inputs = None  # zeros, which nobody needs to keep
        model._guards_code = []  # Python that a reader would run
        torch.export.save(model, stream, extra_files={KEY: card.to_json()})
        write_atomically(path, lambda temporary: _put(temporary, stream.getvalue()))


INT8_FORMATS: dict[FormatName, Int8Format] = {"onnx": Onnx(), "openvino": OpenVino()}
FORMATS: dict[FormatName, Format] = {**INT8_FORMATS, "torch": Torch()}


def _put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _serialise(model: Any, card: ExportCard, path: Path, temporary: Path) -> None:
    """Both files into a folder of their own, read back, then moved: the .bin to its place, the .xml to `temporary`."""
    openvino = silent_openvino()
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        draft = Path(folder, "model.xml")
        try:
            openvino.serialize(model, draft)  # the .bin, whose hash the .xml is to hold
            with draft.with_suffix(".bin").open("rb") as file:
                card = replace(card, weights_sha256=hashlib.file_digest(file, "sha256").hexdigest())
            model.set_rt_info(card.to_json(), [KEY])
            openvino.serialize(model, draft)
            openvino.Core().read_model(draft)
        except RuntimeError as error:  # a full disk does not always reach OpenVINO as an error: then reading fails
            raise OSError(errno.ENOSPC, str(error)) from error
        path.unlink(missing_ok=True)  # the old .xml must never stand beside the new .bin
        write_atomically(path.with_suffix(".bin"), lambda place: os.replace(draft.with_suffix(".bin"), place))
        os.replace(draft, temporary)
