"""An exported file as a `Classifier`, so that `predict`, `evaluate` and `benchmark` take it as MODEL. No torch."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import final

import numpy as np

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.data.ahead import map_ahead
from resnetkit.deployment.backends.lanes import Lanes
from resnetkit.deployment.backends.onnx_runtime import OnnxRuntimeClassifier, onnx_session
from resnetkit.deployment.backends.openvino_runtime import OpenVinoClassifier
from resnetkit.deployment.exports.cutting import onnx_from_pixels, openvino_from_pixels
from resnetkit.deployment.exports.opened import ExportedModel, onnx_run, reading
from resnetkit.deployment.stated import Stated
from resnetkit.errors import InvalidArgument
from resnetkit.tasks.contract import Classifier, Meaning, Pixels, Probabilities

_BACKENDS = {".onnx": "onnxruntime", ".xml": "openvino", ".pt2": "torch"}


def classifier_of(model: ExportedModel, lanes: Lanes) -> Classifier:
    """The file as quick as its runtime computes it: its graph from prepared pixels on, with a core for each lane.

    Where the graph cannot be had from there on, the whole file is asked.
    """
    card = model.card
    meaning = Meaning(
        name=card.name, num_classes=card.num_classes, class_names=card.class_names, preprocess=card.preprocess
    )
    with reading(model.path):
        match backend_of(model):
            case "openvino":
                graph = openvino_from_pixels(model.graph, card)
                if graph is not None:
                    return OpenVinoClassifier(graph, meaning, precision=card.precision, lanes=lanes)
            case "onnxruntime":
                content = onnx_from_pixels(model.graph, card) if card.input == "picture" else None
                if content is not None:
                    return OnnxRuntimeClassifier(content, meaning, precision=card.precision, lanes=lanes)
                run = onnx_run(onnx_session(model.graph, lanes.threads))
                return ExportedClassifier(model.asked_by(run), streams=lanes.streams)
    return ExportedClassifier(model)


@final
class ExportedClassifier:
    """A whole exported file that is asked prepared pixels, as every `Classifier` is.

    A `picture` file would resize and crop them once more; what it is given is therefore put into the middle of a
    canvas that its resizing leaves as it is and that its crop takes away.
    """

    def __init__(self, model: ExportedModel, *, streams: int = 1) -> None:
        self._model, self._streams = model, streams
        self.class_names, self.num_classes = model.card.class_names, model.card.num_classes
        self.preprocess = model.card.preprocess

    @property
    def description(self) -> str:
        """Network, precision, runtime."""
        return self._model.description

    def __call__(self, pixels: Pixels) -> Probabilities:
        """Probabilities `N,classes` of uint8 images `N,h,w,C`."""
        if self._model.card.input == "picture":
            pixels = on_canvas(pixels, self.preprocess)
        return self._model.probabilities(pixels)

    def stream(self, batches: Iterable[Pixels]) -> Iterator[Probabilities]:
        """The probabilities of each batch, in order; each stream is a thread that computes one batch at a time."""
        if self._streams == 1:
            return map(self, batches)
        return map_ahead(self, batches, workers=self._streams, ahead=self._streams)


def on_canvas(pixels: Pixels, preprocess: Preprocess) -> Pixels:
    """Pictures of which the preprocessing makes just these pixels.

    >>> on_canvas(np.zeros((1, 224, 224, 3), np.uint8), Preprocess.for_size(224, crop_share=0.875)).shape
    (1, 256, 256, 3)
    """
    height, width = preprocess.size
    if preprocess.crop_mode != "centre" or preprocess.resize == min(height, width):
        return pixels
    tall, wide = max(height, preprocess.resize), max(width, preprocess.resize)
    canvas = np.zeros((len(pixels), tall, wide, pixels.shape[3]), np.uint8)
    top, left = round((tall - height) / 2), round((wide - width) / 2)  # halves to even, as the crop is taken
    canvas[:, top : top + height, left : left + width] = pixels
    return canvas


def backend_of(model: ExportedModel) -> str:
    """The backend that computes the file, by the name that --backend has for it."""
    return _BACKENDS[model.path.suffix.lower()]


def check_asked(model: ExportedModel, *, device: str | None, backend: str, precision: str) -> None:
    """InvalidArgument where something is asked that was settled when the file was written."""
    own = backend_of(model)
    if device not in (None, "cpu"):
        raise InvalidArgument(f"{model.path} is computed on the CPU: leave out --device {device}")
    if backend not in ("auto", own):
        raise InvalidArgument(f"{model.path} is computed by {own}, not by {backend}: leave out --backend")
    if precision not in ("auto", "float32", model.card.precision):
        raise InvalidArgument(f"{model.path} computes in {model.card.precision}: leave out --precision {precision}")


def restated(model: ExportedModel, stated: Stated | None) -> ExportedModel:
    """The model with the class names that a person states; the rest is in its graph, InvalidArgument says so."""
    if stated is None or stated == Stated():
        return model
    if stated != Stated(class_names=stated.class_names):
        raise InvalidArgument(
            f"{model.path} carries its network and preprocessing inside: state these when exporting, not here"
        )
    return model.with_card(replace(model.card, class_names=stated.class_names))
