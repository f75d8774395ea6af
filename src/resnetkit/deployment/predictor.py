"""Pictures in, predictions out: from the model file alone, whatever the picture comes as."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from resnetkit.data.decode import Channels, Pixels, decode, from_pillow, to_channels
from resnetkit.data.transforms import EvalTransform
from resnetkit.deployment.opening import OpenedModel, Stated, open_model
from resnetkit.errors import DataError, InvalidArgument, UndecodableImage
from resnetkit.tasks.classifier import Classifier

Picture = str | Path | bytes | Image.Image | NDArray[np.uint8]


@dataclass(frozen=True)
class LabelScore:
    """A class name and its probability."""

    label: str
    score: float


@dataclass(frozen=True)
class Prediction:
    """The probabilities of one picture, in the order of `class_names`."""

    source: str
    class_names: tuple[str, ...]
    probabilities: NDArray[np.float32]

    def top(self, k: int = 5) -> tuple[LabelScore, ...]:
        """The `k` likeliest classes (all, if there are fewer), likeliest first."""
        if k < 1:
            raise InvalidArgument(f"top {k}: ask for at least one class")
        order = np.argsort(-self.probabilities, kind="stable")[:k]
        return tuple(LabelScore(self.class_names[i], float(self.probabilities[i])) for i in order)

    def to_dict(self, k: int = 5) -> dict[str, Any]:
        """`{source, predictions: [{label, score}]}`."""
        return {"source": self.source, "predictions": [vars(each) for each in self.top(k)]}


@dataclass(frozen=True)
class Failure:
    """A picture that could not be read, and why."""

    source: str
    error: str

    def to_dict(self, k: int = 5) -> dict[str, Any]:
        """`{source, error}`."""
        return {"source": self.source, "error": self.error}


@final
class Predictor:
    """A model ready to answer: `Predictor("runs/train")("photo.jpg").top(5)`.

    MODEL is a run folder, a model file, a foreign checkpoint or an opened model. A picture is a path, the bytes of an
    image file, a PIL image or a uint8 array H×W×3 (RGB; H×W×1 or H×W is grey).
    """

    def __init__(
        self,
        model: str | Path | OpenedModel,
        *,
        stated: Stated | None = None,
        device: str = "cpu",
        precision: str = "float32",
        batch_size: int = 16,
    ) -> None:
        opened = model if isinstance(model, OpenedModel) else open_model(model, stated)
        self.notes = opened.notes
        self.classifier: Classifier = opened.classifier(device=device, precision=precision)
        names = self.classifier.class_names
        self.class_names = names or tuple(str(index) for index in range(self.classifier.num_classes))
        self._batch_size = batch_size
        self._transform = EvalTransform(self.classifier.preprocess)

    def __call__(self, picture: Picture) -> Prediction:
        """The prediction for one picture; UndecodableImage says why there is none."""
        return self._predict([_name(picture)], [self._prepare(picture)])[0]

    def stream(self, pictures: Iterable[Picture], *, workers: int | None = None) -> Iterator[Prediction | Failure]:
        """Predictions in the order of the pictures, in constant memory; a broken picture gives a Failure.

        The next batch is decoded by threads while the network computes the one before.
        """
        remaining = iter(pictures)
        with ThreadPoolExecutor(max_workers=workers or min(4, torch.get_num_threads())) as pool:
            ahead = [(p, pool.submit(self._try_prepare, p)) for p in islice(remaining, self._batch_size)]
            while ahead:
                batch = ahead
                ahead = [(p, pool.submit(self._try_prepare, p)) for p in islice(remaining, self._batch_size)]
                ready = [(_name(picture), future.result()) for picture, future in batch]
                inputs = [(name, image) for name, image in ready if isinstance(image, Tensor)]
                done = iter(
                    self._predict([name for name, _ in inputs], [image for _, image in inputs]) if inputs else []
                )
                for name, image in ready:
                    yield next(done) if isinstance(image, Tensor) else Failure(name, image.removeprefix(f"{name}: "))

    def _predict(self, names: list[str], images: list[Tensor]) -> list[Prediction]:
        batch = torch.stack(images).contiguous(memory_format=torch.channels_last)
        rows = self.classifier(batch).numpy()
        return [Prediction(name, self.class_names, row) for name, row in zip(names, rows, strict=True)]

    def _prepare(self, picture: Picture) -> Tensor:
        channels: Channels = 1 if self.classifier.preprocess.channels == 1 else 3
        if isinstance(picture, Image.Image):
            return self._transform(from_pillow(picture, channels))
        if isinstance(picture, np.ndarray):
            return self._transform(_from_array(picture, channels))
        return self._transform(decode(picture, channels))

    def _try_prepare(self, picture: Picture) -> Tensor | str:
        try:
            return self._prepare(picture)
        except DataError as error:
            return str(error)


def _from_array(array: NDArray[np.uint8], channels: Channels) -> Pixels:
    image = array[..., None] if array.ndim == 2 else array
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or not image.size:
        raise UndecodableImage(
            f"an array of shape {array.shape} and type {array.dtype} is no picture: "
            "give uint8, H×W×3 (RGB) or H×W (grey)"
        )
    return to_channels(image, channels)


def _name(picture: Picture) -> str:
    if isinstance(picture, str | Path):
        return str(picture)
    if isinstance(picture, Image.Image):
        return str(getattr(picture, "filename", "") or "image")
    return "bytes" if isinstance(picture, bytes) else "array"
