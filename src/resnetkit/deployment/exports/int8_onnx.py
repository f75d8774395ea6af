"""An ONNX model in int8: quantise and dequantise around each operator, weights by channel, ranges from real inputs.

Weights have 7 bits. Without VNNI, x86 adds two products of uint8 and int8 in 16 bits, which overflow and are clipped
where weights have 8: the file would answer worse there, and nothing would say so. 2 · 255 · 64 always fits.
"""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from resnetkit.deployment.exports.graphs import quietly
from resnetkit.deployment.extras import needs
from resnetkit.errors import WriteFailed

if TYPE_CHECKING:
    from onnx import ModelProto

_OPERATORS = ["Conv", "Gemm", "MatMul", "Add", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat"]
_INTEGER = {"QLinearConv", "QLinearMatMul", "QGemm"}
_COMPUTING = {"Conv", "Gemm", "MatMul", "FusedConv", "FusedGemm", "FusedMatMul"}


def quantised(model: "ModelProto", batches: Iterable[NDArray[Any]]) -> "ModelProto":
    """The model with int8 weights and uint8 activations; `batches` are what it will be given."""
    with needs("onnx", "an int8 ONNX model"):
        import onnx
        from onnxruntime import quantization
        from onnxruntime.quantization.calibrate import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches: Iterator[NDArray[Any]] = iter(batches)

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            batch = next(self._batches, None)
            return None if batch is None else {model.graph.input[0].name: batch}

    with _temporary_folder() as folder, quietly():
        plain, done = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        onnx.save(onnx.shape_inference.infer_shapes(model), plain)
        quantization.quantize_static(
            plain, done, Reader(), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
            activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8, reduce_range=True,
            op_types_to_quantize=_OPERATORS, nodes_to_exclude=_before_the_network(model),
        )  # fmt: skip
        result: ModelProto = onnx.load(done)
    return result


def quantised_operations(model: "ModelProto") -> tuple[int, int]:
    """Convolutions and matrix products that ONNX Runtime computes in int8, and how many there are.

    Read off the graph that the runtime makes of the model: quantise and dequantise nodes alone would prove nothing.
    """
    import onnx
    import onnxruntime

    with _temporary_folder() as folder, quietly():
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = str(Path(folder, "optimised.onnx"))
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        operators = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
    integer = sum(name in _INTEGER for name in operators)
    return integer, integer + sum(name in _COMPUTING for name in operators)


@contextmanager
def _temporary_folder() -> Iterator[str]:
    """A folder for models on the way; WriteFailed where there is no space for them."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield folder
    except OSError as error:
        raise WriteFailed(
            f"int8 needs space for temporary files ({error.strerror or error}): "
            "free some, or let TMPDIR name another folder"
        ) from error


def _before_the_network(model: "ModelProto") -> list[str]:
    """Normalisation: what comes before the first convolution is exact, its output alone is rounded."""
    behind = {model.graph.input[0].name}
    names = []
    for node in model.graph.node:  # in the order of computing
        if node.op_type != "Conv" and any(value in behind for value in node.input):
            behind.update(node.output)
            names.append(node.name)
        elif node.op_type == "Conv" and any(value in behind for value in node.input):
            behind = set()
            break
    return names
