"""A torch network as an ONNX model with a free batch."""

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.export import ExportedProgram

from resnetkit.checkpoints.modelfile import ModelCard
from resnetkit.deployment.exports.graphs import OUTPUT, Graph, exported, program, quietly
from resnetkit.deployment.exports.picture import PictureToPixels
from resnetkit.deployment.extras import needs
from resnetkit.errors import ExportFailed
from resnetkit.tables import readable_bytes

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 23
"""of 2025; ONNX Runtime has all its operators"""


_MOST_BYTES = 2**31 - 1
"""that protobuf, and so an ONNX file of one piece, can hold"""


def to_onnx(network: nn.Module, card: ModelCard, graph: Graph) -> "ModelProto":
    """The ONNX model of one of the graphs; see `graphs`. ExportFailed where its numbers are too many for ONNX."""
    size = sum(4 * values.numel() for values in network.state_dict().values())
    if size > _MOST_BYTES:
        raise ExportFailed(
            f"the network's numbers take {readable_bytes(size)}, and an ONNX file holds at most 2 GB: "
            "use --format openvino"
        )
    if graph == "picture":
        return with_preprocessing(to_onnx(network, card, "pixels"), card)
    return _converted(program(network, card, graph), graph, OUTPUT[graph])


def with_preprocessing(pixels_model: "ModelProto", card: ModelCard) -> "ModelProto":
    """A `pixels` model with resizing and cropping put before it; what lies between is the value called `pixels`."""
    with needs("onnx", "an ONNX model"):
        from onnx import compose

    before = preprocessing(card)
    before.ir_version = pixels_model.ir_version
    network = compose.add_prefix(
        pixels_model, "network/", rename_inputs=False, rename_outputs=False, rename_initializers=True
    )
    return compose.merge_models(before, network, io_map=[("pixels", "pixels")], producer_name="resnetkit")


def preprocessing(card: ModelCard) -> "ModelProto":
    """Pictures to pixels alone."""
    with needs("onnx", "an ONNX model"):
        from onnx import compose

    model = _converted(exported(PictureToPixels(card.preprocess), "preprocess", card), "picture", "pixels")
    return compose.add_prefix(model, "preprocess/", rename_inputs=False, rename_outputs=False)


def _converted(exported_program: ExportedProgram, input_name: str, output_name: str) -> "ModelProto":
    with needs("onnx", "an ONNX model"):
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401  what torch's exporter stands on

    with quietly():
        made = torch.onnx.export(
            exported_program, (), dynamo=True, verbose=False, opset_version=OPSET,
            input_names=[input_name], output_names=[output_name],
        )  # fmt: skip
    if made is None:
        raise AssertionError("torch.onnx.export gives a program when it is given no file")
    model: ModelProto = made.model_proto
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    for node in model.graph.node:  # torch's notes on where each operator came from: half the size of a small file
        del node.metadata_props[:]
        node.doc_string = ""
    return model
