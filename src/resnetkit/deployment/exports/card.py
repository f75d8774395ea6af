"""What an exported file says of itself: one JSON object called `resnetkit`, alike in every format.

ONNX keeps it in `metadata_props`, OpenVINO in `rt_info`, torch in an extra file of its archive. No torch is needed to
read it: whoever runs the file elsewhere has none.
"""

import base64
import io
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from struct import error as StructError
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.catalog.rows import Architecture, row_from_dict, row_to_dict
from resnetkit.catalog.tasks import Task
from resnetkit.data.decode import Pixels
from resnetkit.errors import CheckpointError, InvalidArgument, ResnetkitError

KEY = "resnetkit"
FORMAT = 2
"""raised by one when an older resnetkit could no longer read what is written; 1 had no architecture row"""

Input = Literal["picture", "tensor"]

_UNREADABLE = (OSError, SyntaxError, ValueError, TypeError, zlib.error, StructError, Image.DecompressionBombError)
"""what Pillow raises about a damaged picture, and Python about metadata of other types"""


@dataclass(frozen=True, kw_only=True)
class Golden:
    """A picture and what the exported file has to answer to it."""

    png: str
    """the picture, as PNG in base64. For `picture` files its size needs resizing; for `tensor` files it is the
    network's, and needs normalising alone"""
    output: tuple[float, ...]
    """probabilities, or the logits of a `tensor` file"""

    def picture(self) -> Pixels:
        """uint8 `H,W,C`."""
        with Image.open(io.BytesIO(base64.b64decode(self.png, validate=True)), formats=("PNG",)) as image:
            pixels = np.array(image)
        return pixels if pixels.ndim == 3 else pixels[..., None]


@dataclass(frozen=True, kw_only=True)
class ExportCard:
    """The metadata of an exported file."""

    name: str
    """the architecture, for people"""
    input: Input
    num_classes: int
    preprocess: Preprocess
    golden: Golden
    row: Architecture | None = None
    """the architecture, for reopening the file that was exported, whose tensors may not tell it; None in old files"""
    class_names: tuple[str, ...] | None = None
    task: Task = "classification"
    threshold: float | None = None
    """with several labels an image, the probability from which on a class is said"""
    temperature: float | None = None
    """a `picture` file divides by it inside; who runs a `tensor` file divides the logits"""
    licence: str | None = None
    """of the weights, where known"""
    source: str | None = None
    """where the model file that was exported lay, seen from this file's folder; None for a bare architecture"""
    source_sha256: str | None = None
    """of that model file"""
    precision: Literal["float32", "int8"] = "float32"
    quantisation: Mapping[str, Any] | None = None
    """how an int8 file was calibrated, and what it scored beside float32"""
    training: Mapping[str, Any] = field(default_factory=dict)
    """which data it was trained on, so that `evaluate` finds the part it has not seen"""
    scores: Mapping[str, Any] = field(default_factory=dict)
    """what the network scored when it was trained, by part"""
    weights_sha256: str | None = None
    """of the .bin beside an OpenVINO .xml"""
    made_with: Mapping[str, str] = field(default_factory=dict)
    """versions"""

    def __post_init__(self) -> None:
        if self.num_classes < 1 or len(self.golden.output) != self.num_classes:
            raise InvalidArgument(
                f"{self.num_classes} classes, but its golden answer has {len(self.golden.output)} numbers"
            )
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            raise InvalidArgument(f"{len(self.class_names)} class names for {self.num_classes} classes")
        if self.input not in ("picture", "tensor") or self.precision not in ("float32", "int8"):
            raise InvalidArgument(f"its input is {self.input!r} and its precision {self.precision!r}")
        reports = (self.training, self.training.get("data", {}), self.scores, self.quantisation or {})
        if not all(isinstance(report, Mapping) for report in reports):
            raise InvalidArgument("training, scores and quantisation are no JSON objects")
        if self.task not in get_args(Task):
            raise InvalidArgument(f"its task {self.task!r} is none of {', '.join(get_args(Task))}")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise InvalidArgument(f"its threshold is {self.threshold}: it is a probability")
        if self.temperature is not None and not 0 < self.temperature < math.inf:
            raise InvalidArgument(f"its temperature is {self.temperature}: it must be more than 0")
        texts = (self.name, self.licence, self.source, self.source_sha256, self.weights_sha256)
        if not all(text is None or isinstance(text, str) for text in texts):
            raise InvalidArgument("its name, licence, source and hashes are no texts")

    @property
    def in_chans(self) -> int:
        """1 for grey, 3 for colour."""
        return self.preprocess.channels

    def measured(self, fingerprint: str, part: str, n: int) -> float | None:
        """Top-1 on this very part of this very data, when the file or its network was made; None where unknown."""
        report = self.quantisation or {}
        if (report.get("fingerprint"), report.get("acceptance_split")) == (fingerprint, part):
            found = report.get("acceptance")
        elif self.training.get("data", {}).get("fingerprint") == fingerprint:
            found = self.scores.get(part)
        else:
            return None
        top1 = found.get("top1") if isinstance(found, Mapping) and found.get("n") == n else None
        return top1 if isinstance(top1, float) else None

    def to_json(self) -> str:
        """The text that travels in the file."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        plain = {
            "preprocess": self.preprocess.to_dict(), "golden": vars(self.golden), "format": FORMAT,
            "row": row_to_dict(self.row) if self.row else None,
        }  # fmt: skip
        return json.dumps({**values, **plain}, allow_nan=False)


def read_card(text: str | None, where: str) -> ExportCard:
    """The card that `to_json` wrote; `CheckpointError` says what is wrong with it."""
    if not text:
        raise CheckpointError(
            f"{where} does not say what it is: it was not written by resnetkit, or lost its metadata; "
            "make it with `resnetkit export`"
        )
    try:
        values = json.loads(text)
        version = values.pop("format")
        if version not in range(1, FORMAT + 1):
            raise InvalidArgument(f"it has format {version!r} and this resnetkit reads up to {FORMAT}")
        names, row = values["class_names"], values.get("row")
        golden = values["golden"]
        card = ExportCard(
            **{
                **values,
                "preprocess": Preprocess.from_dict(values["preprocess"]),
                "row": None if row is None else row_from_dict(row),
                "class_names": None if names is None else tuple(str(name) for name in names),
                "golden": Golden(png=golden["png"], output=tuple(float(value) for value in golden["output"])),
            }
        )
        _check_golden(card)
        return card
    except (ResnetkitError, *_UNREADABLE, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"the metadata of {where} cannot be read ({error}): it was damaged or changed by another program"
        ) from error


def _check_golden(card: ExportCard) -> None:
    """That the picture can be decoded and is one that the network takes."""
    picture, row = card.golden.picture(), card.preprocess
    fits = card.input == "picture" or picture.shape[:2] == row.size
    if picture.dtype != np.uint8 or picture.shape[2] != row.channels or not fits:
        raise InvalidArgument(f"its golden picture is {picture.dtype} of shape {picture.shape}")


def golden_picture(preprocess: Preprocess, input_: Input) -> Pixels:
    """Waves in all channels, edges and a gradient: nothing of it stays as it was when a size or a channel is mistaken.

    >>> golden_picture(Preprocess.for_size(32), "picture").shape
    (45, 57, 3)
    """
    height, width = preprocess.size
    if input_ == "picture":
        height, width = round(1.3 * max(height, preprocess.resize)) + 3, round(1.7 * max(width, preprocess.resize)) + 3
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    waves = [np.sin(2 * np.pi * ((2 + c) * x * (1 + y) + (3 - c) * y) + c) for c in range(preprocess.channels)]
    levels = 127.5 + 90 * np.stack(waves, axis=-1) + 37 * (2 * x - 1)[..., None]
    levels[(x - 0.35) ** 2 + (y - 0.6) ** 2 < 0.03] = np.array([230.0, 60.0, 20.0])[: preprocess.channels]
    return cast(Pixels, np.clip(np.rint(levels), 0, 255).astype(np.uint8))


def golden(picture: Pixels, output: NDArray[np.float32]) -> Golden:
    """The picture with its answer, as it travels."""
    stream = io.BytesIO()
    Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture).save(stream, "PNG", optimize=True)
    return Golden(png=base64.b64encode(stream.getvalue()).decode("ascii"), output=tuple(float(v) for v in output))
