"""An OpenVINO model in int8, by NNCF: weights by channel, bias correction, ranges from real inputs. No telemetry.

Weights have 7 bits in every layer, so that sums overflow on no processor; see `int8_onnx`. Ranges are the smallest and
largest numbers seen: NNCF's own, a mean over pictures, clips what is beyond it.
"""

import contextlib
import io
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from resnetkit.deployment.extras import needs, silent_openvino

if TYPE_CHECKING:
    from openvino import Model

_COMPUTING = ("Convolution", "GroupConvolution", "FullyConnected", "MatMul")


class Batches(Protocol):
    """Inputs that can be counted, and gone through more than once."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[NDArray[Any]]: ...


def quantised(model: "Model", batches: Batches) -> "Model":
    """The model with int8 weights and uint8 or int8 activations; `batches` are what it will be given."""
    silent_openvino()  # before NNCF, whose telemetry is OpenVINO's
    with needs("int8", "an int8 OpenVINO model"):
        import nncf
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    nncf.set_log_level(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):  # its progress bars
        result: Model = nncf.quantize(
            model.clone(), nncf.Dataset(batches), preset=nncf.QuantizationPreset.MIXED, subset_size=len(batches),
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
