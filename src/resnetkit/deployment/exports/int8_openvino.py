"""An OpenVINO model in int8, by NNCF: weights by channel, bias correction, ranges from real inputs. No telemetry.

Weights have 7 bits in every layer, so that sums overflow on no processor; see `int8_onnx`. Ranges are the smallest and
largest numbers seen: NNCF's own, a mean over pictures, clips what is beyond it.
"""

import contextlib
import io
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from resnetkit.deployment.extras import needs, silent_openvino

if TYPE_CHECKING:
    from openvino import Model

_COMPUTING = ("Convolution", "GroupConvolution", "FullyConnected", "MatMul")


def quantised(model: "Model", batches: Iterable[NDArray[Any]]) -> "Model":
    """The model with int8 weights and uint8 or int8 activations; `batches` are what it will be given."""
    silent_openvino()  # before NNCF, whose telemetry is OpenVINO's
    with needs("int8", "an int8 OpenVINO model"):
        import nncf
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    nncf.set_log_level(logging.ERROR)
    inputs = list(batches)
    with contextlib.redirect_stdout(io.StringIO()):  # its progress bars
        result: Model = nncf.quantize(
            model.clone(), nncf.Dataset(inputs), preset=nncf.QuantizationPreset.MIXED, subset_size=len(inputs),
            fast_bias_correction=True,
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                overflow_fix=nncf.OverflowFix.ENABLE,
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
            ),
        )  # fmt: skip
    return result


def quantised_operations(model: "Model") -> tuple[int, int]:
    """Convolutions and matrix products that OpenVINO computes in int8 on this processor, and how many there are.

    Read off the graph that the runtime makes of the model, where each operation says in what it computes.
    """
    openvino = silent_openvino()
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    integer = total = 0
    for node in compiled.get_runtime_model().get_ordered_ops():
        said = node.get_rt_info()
        if said["layerType"].astype(str) in _COMPUTING:
            total += 1
            integer += said["runtimePrecision"].astype(str) in ("i8", "u8")
    return integer, total
