"""Pictures in, predictions out: from the model file alone, whatever the picture comes as."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.cores import preparing_threads
from resnetkit.data.ahead import map_ahead
from resnetkit.data.decode import Channels, Pixels, decode, from_pillow, printable, to_channels
from resnetkit.data.preparing import Resize, prepare, resize_with_pillow
from resnetkit.deployment.backends.lanes import Mode
from resnetkit.deployment.choosing import Work, choose
from resnetkit.deployment.stated import Stated
from resnetkit.errors import DataError, InvalidArgument, UndecodableImage
from resnetkit.tasks.contract import Classifier, finite
from resnetkit.tasks.views import Augmentation, asked_with

if TYPE_CHECKING:
    from resnetkit.deployment.exports.opened import ExportedModel
    from resnetkit.deployment.opening import OpenedModel

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
    threshold: float | None = None
    """where a picture may have several labels, the probability from which on a class is said to be there"""

    def top(self, k: int = 5) -> tuple[LabelScore, ...]:
        """The `k` likeliest classes (all, if there are fewer), likeliest first."""
        if k < 1:
            raise InvalidArgument(f"top {k}: ask for at least one class")
        order = np.argsort(-self.probabilities, kind="stable")[:k]
        return tuple(LabelScore(self.class_names[i], float(self.probabilities[i])) for i in order)

    def said(self) -> tuple[LabelScore, ...]:
        """The classes that are said to be there, likeliest first: the likeliest, or all above the threshold."""
        if self.threshold is None:
            return self.top(1)
        return tuple(each for each in self.top(len(self.class_names)) if each.score >= self.threshold)

    def to_dict(self, k: int = 5) -> dict[str, Any]:
        """`{source, predictions: [{label, score}]}`; with several labels a picture also `labels`, those said."""
        values: dict[str, Any] = {"source": self.source, "predictions": [vars(each) for each in self.top(k)]}
        if self.threshold is not None:
            values["labels"] = [each.label for each in self.said()]
        return values


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

    MODEL is whatever `resnetkit predict` takes (exported files too), or an opened model, or any `Classifier`. A picture
    is a path, the bytes of an image file, a PIL image or a uint8 array H×W×3 (RGB; H×W×1 or H×W is grey).

    `backend` is torch, compile (which takes a minute before its first answer), onnxruntime, openvino or auto: what a
    probe found quickest here, which it does only for much `work`, and torch before. All but torch compute on the CPU.
    Mode "latency" puts all cores on one batch, "throughput" one on each. With `tta` "flip" the answer for a picture is
    the mean of those for it and for its mirror image, at twice the time; with "shifts" of those for both also moved to
    either side, at six times. `notes` are what the person should know; `say` gets what shows only at work: that memory
    is too little for a batch, which is then computed in pieces, or that torch cannot compile here.
    """

    def __init__(
        self,
        model: "str | Path | OpenedModel | ExportedModel | Classifier",
        *,
        stated: Stated | None = None,
        device: str | None = None,
        backend: str = "auto",
        precision: str = "float32",
        mode: Mode = "latency",
        batch_size: int = 16,
        work: Work | None = None,
        tta: Augmentation = "none",
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        ready = choose(
            model, stated=stated, device=device, backend=backend, precision=precision, mode=mode,
            batch_size=batch_size, work=work, say=say,
        )  # fmt: skip
        self.notes = ready.notes
        self.classifier = asked_with(tta, ready.classifier)
        names = self.classifier.class_names
        self.class_names = names or tuple(str(index) for index in range(self.classifier.num_classes))
        self._batch_size = batch_size
        self._resize = ready.resize
        self._threshold = ready.threshold

    def __call__(self, picture: Picture) -> Prediction:
        """The prediction for one picture; UndecodableImage says why there is none."""
        (row,) = finite(self.classifier(self._prepare(picture)[None]))
        return Prediction(_name(picture), self.class_names, row, self._threshold)

    def stream(self, pictures: Iterable[Picture], *, workers: int | None = None) -> Iterator[Prediction | Failure]:
        """Predictions in the order of the pictures, in constant memory; a broken picture gives a Failure.

        The next pictures are decoded by threads while the network computes those before.
        """
        workers = preparing_threads() if workers is None else workers
        under_way: deque[_Entries] = deque()

        def batches() -> Iterator[Pixels]:
            for entries in _in_batches(prepared, self._batch_size):
                under_way.append(entries)
                images = [image for _, image in entries if not isinstance(image, str)]
                if images:
                    yield np.stack(images)

        with closing(map_ahead(self._try_prepare, pictures, workers=workers, ahead=self._batch_size)) as prepared:
            for rows in self.classifier.stream(batches()):
                yield from self._answers(under_way.popleft(), finite(rows))
        for entries in under_way:  # the last ones, where none could be read
            yield from self._answers(entries, ())

    def _answers(self, entries: "_Entries", rows: Iterable[NDArray[np.float32]]) -> Iterator[Prediction | Failure]:
        remaining = iter(rows)
        for name, image in entries:
            if isinstance(image, str):
                yield Failure(name, image.removeprefix(f"{printable(name)}: "))
            else:
                yield Prediction(name, self.class_names, next(remaining), self._threshold)

    def _prepare(self, picture: Picture) -> Pixels:
        return pixels_for(self.classifier.preprocess, picture, self._resize)

    def _try_prepare(self, picture: Picture) -> tuple[str, Pixels | str]:
        try:
            return _name(picture), self._prepare(picture)
        except DataError as error:
            return _name(picture), str(error)
        except MemoryError:
            return _name(picture), "it is too large for the memory that is left"


def pixels_for(preprocess: Preprocess, picture: Picture, resize: Resize = resize_with_pillow) -> Pixels:
    """A picture as uint8 `h,w,C` of the preprocessing's size; UndecodableImage says why not."""
    channels: Channels = 1 if preprocess.channels == 1 else 3
    if isinstance(picture, Image.Image):
        pixels = from_pillow(picture, channels)
    elif isinstance(picture, np.ndarray):
        pixels = _from_array(picture, channels)
    else:
        pixels = decode(picture, channels)
    batch = prepare(pixels[None], preprocess, resize)
    return batch.reshape(batch.shape[1:])


_Entries = list[tuple[str, Pixels | str]]
"""name of each picture and its pixels, or why there are none"""


def _in_batches(prepared: Iterable[tuple[str, Pixels | str]], size: int) -> Iterator[_Entries]:
    """As many entries as hold `size` images; the last batch holds fewer."""
    entries: _Entries = []
    images = 0
    for name, image in prepared:
        entries.append((name, image))
        images += not isinstance(image, str)
        if images == size:
            yield entries
            entries, images = [], 0
    if entries:
        yield entries


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
