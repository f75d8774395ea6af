"""A torch network as an OpenVINO model, straight from torch: by way of ONNX it would lose what ONNX cannot say."""

from typing import TYPE_CHECKING

from torch import nn
from torch.export import ExportedProgram

from resnetkit.checkpoints.modelfile import ModelCard
from resnetkit.deployment.exports.graphs import OUTPUT, Graph, exported, program, quietly
from resnetkit.deployment.exports.picture import PictureToPixels
from resnetkit.deployment.extras import silent_openvino

if TYPE_CHECKING:
    from openvino import Model


def to_openvino(network: nn.Module, card: ModelCard, graph: Graph) -> "Model":
    """The OpenVINO model of one of the graphs; see `graphs`."""
    if graph == "picture":
        return with_preprocessing(to_openvino(network, card, "pixels"), card)
    return _converted(program(network, card, graph), graph, OUTPUT[graph])


def with_preprocessing(pixels_model: "Model", card: ModelCard) -> "Model":
    """A `pixels` model with resizing and cropping put before it; what lies between is the value called `pixels`."""
    openvino = silent_openvino()
    before = preprocessing(card)
    (pixels,) = pixels_model.get_parameters()
    pixels.output(0).replace(before.get_results()[0].input_value(0))
    merged: Model = openvino.Model(pixels_model.get_results(), before.get_parameters(), "resnetkit")
    return merged


def preprocessing(card: ModelCard) -> "Model":
    """Pictures to pixels alone."""
    return _converted(exported(PictureToPixels(card.preprocess), "preprocess", card), "picture", "pixels")


def _converted(exported_program: ExportedProgram, input_name: str, output_name: str) -> "Model":
    openvino = silent_openvino()
    with quietly():
        model: Model = openvino.convert_model(exported_program)
    model.inputs[0].set_names({input_name})
    model.outputs[0].set_names({output_name})
    return model
