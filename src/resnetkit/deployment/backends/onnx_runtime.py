"""An ONNX model in ONNX Runtime as a `Classifier`. No torch."""

import os
from collections.abc import Iterable, Iterator
from typing import Any, final

import numpy as np

from resnetkit.cores import usable_cores
from resnetkit.data.ahead import map_ahead
from resnetkit.deployment.backends.lanes import Lanes
from resnetkit.deployment.extras import needs
from resnetkit.tasks.contract import Meaning, Pixels, Probabilities


@final
class OnnxRuntimeClassifier:
    """A model whose input `pixels` is uint8 `N,h,w,C` with a free batch, and whose output is probabilities."""

    def __init__(self, model: bytes, meaning: Meaning, *, precision: str = "float32", lanes: Lanes) -> None:
        self._session = onnx_session(model, lanes.threads)
        self._lanes, self._precision = lanes, precision
        self.class_names, self.num_classes = meaning.class_names, meaning.num_classes
        self.preprocess = meaning.preprocess
        self._name = meaning.name

    @property
    def description(self) -> str:
        """Network, precision, runtime."""
        return f"{self._name} · {self._precision} · ONNX Runtime"

    def __call__(self, pixels: Pixels) -> Probabilities:
        """Probabilities `N,classes` of uint8 images `N,h,w,C`."""
        answer: Probabilities = self._session.run(None, {"pixels": np.ascontiguousarray(pixels)})[0]
        return answer

    def stream(self, batches: Iterable[Pixels]) -> Iterator[Probabilities]:
        """The probabilities of each batch, in order; each stream is a thread that computes one batch at a time."""
        if self._lanes.streams == 1:
            return map(self, batches)
        return map_ahead(self, batches, workers=self._lanes.streams, ahead=self._lanes.streams)


def onnx_session(model: bytes, threads: int | None = None) -> Any:
    """ONNX Runtime's session for a model, on all cores unless told."""
    with needs("onnx", "an ONNX model"):
        import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong comes as an exception
    # Where a model of bytes looks for numbers that it says are in another file; unless told, in the current folder.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    options.intra_op_num_threads = threads or usable_cores()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
