"""An opened network in each of the runtimes that can compute it, its conversion kept on disk."""

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import torch

from resnetkit.deployment.backends.artefacts import kept, key, surroundings
from resnetkit.deployment.backends.lanes import Lanes
from resnetkit.deployment.folding import fold
from resnetkit.deployment.opening import OpenedModel
from resnetkit.errors import InvalidArgument
from resnetkit.tasks.bf16 import has_native_bf16
from resnetkit.tasks.contract import Classifier, Meaning

if TYPE_CHECKING:
    from openvino import Model

Backend = Literal["torch", "compile", "onnxruntime", "openvino"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)

_NEEDS = {"onnxruntime": ("onnxruntime", "onnx", "onnxscript"), "openvino": ("openvino",)}
_PRECISIONS = {
    "torch": ("float32", "bf16"), "compile": ("float32", "bf16"), "onnxruntime": ("float32",),
    "openvino": ("float32", "bf16"),
}  # fmt: skip


def installed(backend: Backend) -> bool:
    """Whether the packages that it needs are there; finding out imports none of them."""
    return all(find_spec(package) is not None for package in _NEEDS.get(backend, ()))


def computes(backend: Backend, precision: str) -> bool:
    """Whether it has kernels of this precision.

    Where the processor has no bf16, OpenVINO silently takes float32, which nobody should be told is bf16.
    """
    if backend == "openvino" and precision == "bf16":
        return has_native_bf16(torch.device("cpu"))
    return precision in _PRECISIONS[backend]


def check_computes(backend: Backend, precision: str) -> None:
    """InvalidArgument where it has no kernels of this precision, with what to do instead."""
    if not computes(backend, precision):
        advice = "int8 comes from calibration: resnetkit export MODEL --int8 --calibrate DATA"
        able = ", ".join(each for each in _PRECISIONS[backend] if computes(backend, each))
        raise InvalidArgument(
            f"{backend} computes this network in {able} here, not in {precision}: "
            + (advice if precision == "int8" else "use --precision float32")
        )


def build(
    opened: OpenedModel, backend: Backend, precision: str, lanes: Lanes, say: Callable[[str], None] = lambda text: None
) -> Classifier:
    """The network in one runtime, on the CPU. MissingExtra where a package is not there.

    `say` gets what shows only when the first batch is computed: that torch cannot compile here.
    """
    check_computes(backend, precision)
    meaning = meaning_of(opened)
    match backend:
        case "torch":
            return replace(opened, network=fold(opened.network)).classifier(precision=precision)
        case "compile":
            from resnetkit.deployment.backends.torch_compiled import CompiledTorchClassifier

            return CompiledTorchClassifier(
                opened.network,
                meaning,
                precision=precision,
                temperature=opened.card.temperature or 1.0,
                task=opened.card.task,
                say=say,
            )
        case "onnxruntime":
            from resnetkit.deployment.backends.onnx_runtime import OnnxRuntimeClassifier

            return OnnxRuntimeClassifier(_onnx(opened), meaning, precision=precision, lanes=lanes)
        case "openvino":
            from resnetkit.deployment.backends.openvino_runtime import OpenVinoClassifier

            return OpenVinoClassifier(_openvino(opened), meaning, precision=precision, lanes=lanes)


def meaning_of(opened: OpenedModel) -> Meaning:
    """What the network's numbers mean."""
    card = opened.card
    return Meaning(
        name=opened.name, num_classes=card.num_classes, class_names=card.class_names, preprocess=card.preprocess
    )


def _onnx(opened: OpenedModel) -> bytes:
    """The network as an ONNX model, from the cache where it is there."""
    from resnetkit.deployment.exports.to_onnx import OPSET, to_onnx

    def make() -> bytes:
        model: bytes = to_onnx(opened.network, opened.card, "pixels").SerializeToString()
        return model

    def write(model: bytes, place: Path) -> None:
        (place / "model.onnx").write_bytes(model)

    def read(place: Path) -> bytes:
        return (place / "model.onnx").read_bytes()

    return kept(_name(opened, "onnx", OPSET), make, write, read)


def _openvino(opened: OpenedModel) -> "Model":
    """The network as an OpenVINO model, from the cache where it is there."""
    from resnetkit.deployment.exports.to_openvino import to_openvino
    from resnetkit.deployment.extras import silent_openvino

    openvino = silent_openvino()

    def make() -> "Model":
        return to_openvino(opened.network, opened.card, "pixels")

    def write(model: "Model", place: Path) -> None:
        openvino.save_model(model, place / "model.xml", compress_to_fp16=False)

    def read(place: Path) -> "Model":
        model: Model = openvino.Core().read_model(place / "model.xml")
        return model

    return kept(_name(opened, "openvino"), make, write, read)


def _name(opened: OpenedModel, *form: object) -> str:
    return f"converted/{key(opened.network, opened.card, form, surroundings()['versions'])}"
