"""An OpenVINO model as a `Classifier`. No torch."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, final

import numpy as np

from resnetkit.deployment.backends.filling import filled_up
from resnetkit.deployment.backends.lanes import Lanes
from resnetkit.deployment.extras import silent_openvino
from resnetkit.errors import CheckpointError, InvalidArgument
from resnetkit.tasks.contract import Meaning, Pixels, Probabilities
from resnetkit.tasks.memory import is_out_of_memory

if TYPE_CHECKING:
    from openvino import CompiledModel, Model

_PRECISIONS = {"float32": "f32", "bf16": "bf16", "int8": "f32"}
"""what is computed in where the model itself says nothing; an int8 model's integers are in its graph"""
_SIZES_KEPT = 4


@final
class OpenVinoClassifier:
    """A model whose input is uint8 `N,h,w,C` with a free batch, and whose output is probabilities.

    It is compiled once for each size of batch, because a size that is known is computed faster.
    """

    def __init__(self, model: "Model", meaning: Meaning, *, precision: str = "float32", lanes: Lanes) -> None:
        if precision not in _PRECISIONS:
            raise InvalidArgument(f"precision {precision}: OpenVINO computes in {', '.join(_PRECISIONS)}")
        self._core, self._model = silent_openvino().Core(), model
        self._precision, self._lanes = precision, lanes
        self._compiled: dict[int, CompiledModel] = {}
        self.class_names, self.num_classes = meaning.class_names, meaning.num_classes
        self.preprocess = meaning.preprocess
        self._name = meaning.name

    @property
    def description(self) -> str:
        """Network, precision, runtime."""
        return f"{self._name} · {self._precision} · OpenVINO"

    def __call__(self, pixels: Pixels) -> Probabilities:
        """Probabilities `N,classes` of uint8 images `N,h,w,C`."""
        request = self._for_batch_of(len(pixels)).create_infer_request()
        request.infer([np.ascontiguousarray(pixels)], share_inputs=True)
        return _answer(request, len(pixels))

    def stream(self, batches: Iterable[Pixels]) -> Iterator[Probabilities]:
        """The probabilities of each batch, in order; as many batches are under way as there are streams, and one more.

        A batch smaller than the first (the last one, as a rule) is filled up with zeros, which is quicker than
        compiling for its size.
        """
        under_way: deque[tuple[Any, int, Pixels]] = deque()
        idle: list[Any] = []
        size = 0
        for pixels in batches:
            if len(pixels) > size:
                yield from _finished(under_way, idle, 0)
                size, compiled = len(pixels), self._for_batch_of(len(pixels))
                idle = [compiled.create_infer_request() for _ in range(self._lanes.streams + 1)]
            elif not idle:
                yield from _finished(under_way, idle, len(under_way) - 1)
            request = idle.pop()
            full = filled_up(pixels, size)
            request.start_async([full], share_inputs=True)
            under_way.append((request, len(pixels), full))
        yield from _finished(under_way, idle, 0)

    def _for_batch_of(self, size: int) -> "CompiledModel":
        if size not in self._compiled:
            if len(self._compiled) == _SIZES_KEPT:
                del self._compiled[next(iter(self._compiled))]
            self._compiled[size] = self._made_for_batch_of(size)
        return self._compiled[size]

    def _made_for_batch_of(self, size: int) -> "CompiledModel":
        model = self._model.clone()
        try:
            model.reshape([size, *self.preprocess.size, self.preprocess.channels])
            compiled: CompiledModel = self._core.compile_model(model, "CPU", {
                "INFERENCE_PRECISION_HINT": _PRECISIONS[self._precision],
                "NUM_STREAMS": self._lanes.streams,
                "INFERENCE_NUM_THREADS": self._lanes.streams * self._lanes.threads,
            })  # fmt: skip
        except RuntimeError as error:  # a stranger's file may hold a graph that can be read and not computed
            if is_out_of_memory(error):
                raise
            reason = str(error).strip().splitlines()[-1][:300]
            raise CheckpointError(f"{self._name} cannot be computed by OpenVINO ({reason})") from error
        return compiled


def _finished(under_way: "deque[tuple[Any, int, Pixels]]", idle: list[Any], left: int) -> Iterator[Probabilities]:
    """Wait for the oldest batches until `left` are under way."""
    while len(under_way) > left:
        request, count, _ = under_way.popleft()
        request.wait()
        answer = _answer(request, count)
        idle.append(request)
        yield answer


def _answer(request: Any, count: int) -> Probabilities:
    """A copy, because the next batch is written over the request's own."""
    return np.array(request.get_output_tensor().data[:count], np.float32)
