"""An exported file's graph as a `Classifier` asks it: from prepared pixels to probabilities. No torch.

A `picture` file resizes and crops inside, which pixels that are already prepared need not go through: its graph is
taken from the value called `pixels` on. A `tensor` file is the bare network: normalising is put before it and what
turns logits into probabilities behind it.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from resnetkit.deployment.exports.card import ExportCard
from resnetkit.deployment.extras import silent_openvino

if TYPE_CHECKING:
    from openvino import Model

_PIXELS = "pixels"


def openvino_from_pixels(model: "Model", card: ExportCard) -> "Model | None":
    """The OpenVINO model, uint8 `N,h,w,C` to probabilities; None where the file has no value called `pixels`."""
    openvino = silent_openvino()
    operations = openvino.opset13
    model = model.clone()
    pixels = operations.parameter([-1, *card.preprocess.size, card.in_chans], np.uint8)
    if card.input == "picture":
        values = (value for node in model.get_ordered_ops() for value in node.outputs())
        found = next((value for value in values if _PIXELS in value.get_names()), None)
        if found is None:
            return None
        found.replace(pixels.output(0))
        return _model(model.get_results(), [pixels])
    mean, std = (np.array(values, np.float32) for values in (card.preprocess.mean, card.preprocess.std))
    levels = operations.divide(operations.convert(pixels, np.float32), np.float32(255))
    normal = operations.divide(operations.subtract(levels, mean), std)
    (entry,), (result,) = model.get_parameters(), model.get_results()
    entry.output(0).replace(operations.transpose(normal, [0, 3, 1, 2]).output(0))  # N,C,h,w
    logits = operations.divide(result.input_value(0), np.float32(card.temperature or 1.0))
    several = card.task == "multilabel"
    return _model([operations.sigmoid(logits) if several else operations.softmax(logits, 1)], [pixels])


def _model(results: list[Any], parameters: list[Any]) -> "Model":
    model: Model = silent_openvino().Model(results, parameters, "resnetkit")
    return model


def onnx_from_pixels(content: bytes, card: ExportCard) -> bytes | None:
    """The ONNX model of a `picture` file, uint8 `N,h,w,C` to probabilities.

    None where the file has no value called `pixels`, or where the package onnx is not there, without which ONNX Runtime
    cannot start inside a graph.
    """
    if find_spec("onnx") is None:
        return None
    import onnx

    model = onnx.load_model_from_string(content)
    graph = model.graph
    wanted, kept = {graph.output[0].name}, []
    for node in reversed(graph.node):  # they are in the order of computing
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(name for name in node.input if name != _PIXELS)
    if wanted.intersection(entry.name for entry in graph.input):
        return None
    shape: tuple[str | int, ...] = ("batch", *card.preprocess.size, card.in_chans)
    entry = onnx.helper.make_tensor_value_info(_PIXELS, onnx.TensorProto.UINT8, shape)
    made: bytes = onnx.helper.make_model(
        onnx.helper.make_graph(
            kept[::-1], graph.name, [entry], graph.output,
            initializer=[tensor for tensor in graph.initializer if tensor.name in wanted],
        ),
        opset_imports=model.opset_import, functions=model.functions, ir_version=model.ir_version,
    ).SerializeToString()  # fmt: skip
    return made
