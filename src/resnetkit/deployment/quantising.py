"""A network in int8 for OpenVINO: post-training quantisation, calibrated on real pictures."""

from typing import TYPE_CHECKING

from resnetkit.deployment.backends.openvino_runtime import silent_openvino
from resnetkit.deployment.conversion import to_openvino
from resnetkit.deployment.opening import OpenedModel
from resnetkit.errors import MissingExtra
from resnetkit.tasks.contract import Pixels

if TYPE_CHECKING:
    from openvino import Model


def quantised(opened: OpenedModel, calibration: Pixels) -> "Model":
    """The network with int8 convolutions; `calibration` are uint8 `N,h,w,C`, a few hundred of its training pictures."""
    silent_openvino()
    try:
        import nncf
    except ImportError as error:
        raise MissingExtra("int8 needs NNCF: pip install 'resnetkit[int8]'") from error
    model: Model = nncf.quantize(
        to_openvino(opened.network, opened.card),
        nncf.Dataset([calibration[index : index + 1] for index in range(len(calibration))]),
        subset_size=len(calibration), fast_bias_correction=True,
    )  # fmt: skip
    return model
