"""The model file: one safetensors file that is enough to predict anywhere.

Its tensors are the network's `state_dict`; its metadata has one key, `resnetkit`, holding a JSON object: the format's
version, the architecture row, the classes, the preprocessing, how the network was trained and what it scored.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

from safetensors import SafetensorError, safe_open
from torch import Tensor

from resnetkit.catalog.architectures import Architecture, row_from_dict, row_to_dict
from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.catalog.tasks import Task
from resnetkit.checkpoints.atomic import write_tensors
from resnetkit.errors import CheckpointError, InvalidArgument, ResnetkitError

FORMAT = 1
"""raised by one when an older resnetkit could no longer read what is written"""

_KEY = "resnetkit"
_LARGEST_HEADER = 100_000_000  # bytes; what the safetensors format itself allows


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Everything about a trained network that its tensors cannot say.

    Raises `InvalidArgument` where lengths contradict each other: class names and `num_classes`, mean and `in_chans`.
    """

    row: Architecture
    num_classes: int
    """0: the network ends in its pooled features"""
    preprocess: Preprocess
    architecture: str | None = None
    """the catalogue's name, for people; the row is what counts"""
    in_chans: int = 3
    class_names: tuple[str, ...] | None = None
    """in the order of the network's outputs; None where nobody knows them"""
    task: Task = "classification"
    threshold: float | None = None
    """with several labels an image, the probability from which on a class is said, chosen on validation images"""
    temperature: float | None = None
    """the logits are divided by this before softmax; None: not calibrated"""
    training: Mapping[str, Any] = field(default_factory=dict)
    """how the network came to be: recipe, data set and its fingerprint, or the foreign file it was adopted from"""
    scores: Mapping[str, Any] = field(default_factory=dict)
    """what it scored, each with its split and its n"""
    licence: str | None = None
    """an SPDX name, where known"""

    def __post_init__(self) -> None:
        if not _is_count(self.num_classes) or not _is_count(self.in_chans):
            raise InvalidArgument(
                f"num_classes {self.num_classes!r} and in_chans {self.in_chans!r}: both are whole numbers"
            )
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            raise InvalidArgument(
                f"{len(self.class_names)} class names for {self.num_classes} classes: give one name an output"
            )
        if self.preprocess.channels != self.in_chans:
            raise InvalidArgument(
                f"mean and std have {self.preprocess.channels} values but the network takes {self.in_chans} channels: "
                "give one value a channel"
            )
        if self.task not in get_args(Task):
            raise InvalidArgument(f"task {self.task!r} is none of {', '.join(get_args(Task))}")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise InvalidArgument(f"threshold is {self.threshold}: it is a probability")
        if self.temperature is not None and not self.temperature > 0:
            raise InvalidArgument(f"temperature is {self.temperature}: it must be more than 0")

    def to_dict(self) -> dict[str, Any]:
        """JSON values; `card_from_dict` reads them back."""
        return {
            "format": FORMAT,
            "architecture": self.architecture,
            "row": row_to_dict(self.row),
            "num_classes": self.num_classes,
            "in_chans": self.in_chans,
            "class_names": None if self.class_names is None else list(self.class_names),
            "preprocess": self.preprocess.to_dict(),
            "task": self.task,
            "threshold": self.threshold,
            "temperature": self.temperature,
            "training": dict(self.training),
            "scores": dict(self.scores),
            "licence": self.licence,
        }


def card_from_dict(values: Mapping[str, Any]) -> ModelCard:
    """The card that `to_dict` wrote. `InvalidArgument` names a newer format, unknown or missing keys."""
    version = values.get("format")
    if not isinstance(version, int) or version < 1:
        raise InvalidArgument(f"its format version is {version!r}, not a number from 1: the file is damaged")
    if version > FORMAT:
        raise InvalidArgument(
            f"it has format {version} and this resnetkit reads up to {FORMAT}: upgrade with `pip install -U resnetkit`"
        )
    plain = {key: value for key, value in values.items() if key != "format"}
    known = [entry.name for entry in fields(ModelCard)]
    if unknown := sorted(set(plain) - set(known)):
        raise InvalidArgument(f"it has unknown keys {', '.join(unknown)}: the file was changed by another program")
    if missing := sorted({"row", "num_classes", "preprocess"} - set(plain)):
        raise InvalidArgument(f"it lacks {', '.join(missing)}: the file was changed by another program")
    try:
        names = plain.get("class_names")
        return ModelCard(
            **{
                **plain,
                "row": row_from_dict(plain["row"]),
                "preprocess": Preprocess.from_dict(plain["preprocess"]),
                "class_names": None if names is None else tuple(str(name) for name in names),
            }
        )
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InvalidArgument(f"a value has the wrong type ({error}): the file is damaged") from error


def save(path: str | Path, network_state: Mapping[str, Tensor], card: ModelCard) -> None:
    """Write the model file atomically; parameters and buffers as `Network.state_dict()` gives them, on any device."""
    try:
        text = json.dumps(card.to_dict(), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"cannot write {path}: a value of the card is no JSON ({error})") from error
    write_tensors(path, network_state, {_KEY: text})


def read(path: str | Path) -> tuple[dict[str, Tensor], ModelCard]:
    """State and card of a model file; `CheckpointError` says why a file is none."""
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
            names = file.keys() if text is not None else []
            state = {key: file.get_tensor(key) for key in names}
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no file {path}") from error
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a model file ({error}): it is damaged or no safetensors file"
        ) from error
    if text is None:
        raise CheckpointError(f"{path} holds tensors but no card: make it a model file with `resnetkit adopt {path}`")
    try:
        values = json.loads(text)
        if not isinstance(values, dict):
            raise InvalidArgument("it is no JSON object: the file is damaged")
        return state, card_from_dict(values)
    except (ResnetkitError, ValueError, RecursionError) as error:
        raise CheckpointError(f"the card of {path} cannot be read: {error}") from error


def is_model_file(path: str | Path) -> bool:
    """Whether this is a safetensors file with a card; reads the header alone and never raises."""
    try:
        with Path(path).open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _LARGEST_HEADER:
                return False
            header = json.loads(file.read(length))
        return isinstance(header, dict) and _KEY in header.get("__metadata__", {})
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
