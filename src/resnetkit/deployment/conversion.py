"""A network as a graph that another runtime can take: uint8 pixels in, probabilities out, a free batch."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from resnetkit.checkpoints.modelfile import ModelCard
from resnetkit.deployment.backends.openvino_runtime import silent_openvino
from resnetkit.errors import MissingExtra
from resnetkit.models import fold
from resnetkit.tasks.classifier import chances

if TYPE_CHECKING:
    from onnx import ModelProto
    from openvino import Model

OPSET = 23
"""of 2025; ONNX Runtime has all its operators"""


@final
class PixelsToProbabilities(nn.Module):
    """uint8 `N,h,w,C` → probabilities `N,classes`: normalises, asks the network, divides by the temperature."""

    def __init__(self, network: nn.Module, card: ModelCard) -> None:
        super().__init__()
        mean, std = torch.tensor(card.preprocess.mean), torch.tensor(card.preprocess.std)
        self._scale: Tensor
        self._shift: Tensor
        self.register_buffer("_scale", 1 / (255 * std), persistent=False)
        self.register_buffer("_shift", -mean / std, persistent=False)
        self.network = network
        self._temperature, self._task = card.temperature or 1.0, card.task

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels to probabilities."""
        x = pixels.to(torch.float32) * self._scale + self._shift
        logits = self.network(x.permute(0, 3, 1, 2))
        return chances(logits / self._temperature, self._task)


def program(network: nn.Module, card: ModelCard) -> ExportedProgram:
    """The folded network as a torch program. It shares no weights with the network, which stays as it is."""
    folded = fold(network).to(device="cpu", dtype=torch.float32)
    folded = folded.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    example = torch.zeros(2, *card.preprocess.size, card.in_chans, dtype=torch.uint8)
    with _quietly(), torch.no_grad():
        return torch.export.export(
            PixelsToProbabilities(folded, card).eval(), (example,), dynamic_shapes=({0: Dim.DYNAMIC},)
        )


def to_onnx(network: nn.Module, card: ModelCard) -> "ModelProto":
    """The network as an ONNX model, input "pixels", output "probabilities"."""
    try:
        import onnxscript  # noqa: F401  what torch's exporter stands on
    except ImportError as error:
        raise MissingExtra("this needs ONNX: pip install 'resnetkit[onnx]'") from error
    with _quietly():
        made = torch.onnx.export(
            program(network, card), (), dynamo=True, verbose=False, opset_version=OPSET,
            input_names=["pixels"], output_names=["probabilities"],
        )  # fmt: skip
    assert made is not None
    model: ModelProto = made.model_proto
    return model


def to_openvino(network: nn.Module, card: ModelCard) -> "Model":
    """The network as an OpenVINO model, straight from torch: by way of ONNX it would lose what ONNX cannot say."""
    openvino = silent_openvino()
    with _quietly():
        model: Model = openvino.convert_model(program(network, card))
    model.inputs[0].set_names({"pixels"})
    model.outputs[0].set_names({"probabilities"})
    return model


@contextmanager
def _quietly() -> Iterator[None]:
    """The exporters warn of their own deprecations, which nobody who uses them can do anything about."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
