"""A network in int8 for OpenVINO: post-training quantisation, calibrated on real pictures."""

from resnetkit.deployment.backends.lanes import Lanes
from resnetkit.deployment.backends.openvino_runtime import OpenVinoClassifier, silent_openvino
from resnetkit.deployment.conversion import to_openvino
from resnetkit.deployment.opening import OpenedModel
from resnetkit.errors import MissingExtra
from resnetkit.tasks.contract import Meaning, Pixels


def quantised(opened: OpenedModel, calibration: Pixels, lanes: Lanes) -> OpenVinoClassifier:
    """The network with int8 convolutions; `calibration` are uint8 `N,h,w,C`, a few hundred of its training pictures."""
    silent_openvino()
    try:
        import nncf
    except ImportError as error:
        raise MissingExtra("int8 needs NNCF: pip install 'resnetkit[int8]'") from error
    card = opened.card
    model = nncf.quantize(
        to_openvino(opened.network, card),
        nncf.Dataset([calibration[index : index + 1] for index in range(len(calibration))]),
        subset_size=len(calibration), fast_bias_correction=True,
    )  # fmt: skip
    meaning = Meaning(
        name=opened.name, num_classes=card.num_classes, class_names=card.class_names, preprocess=card.preprocess
    )
    return OpenVinoClassifier(model, meaning, precision="int8", lanes=lanes)
