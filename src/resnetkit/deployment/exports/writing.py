"""A network becomes a file that other runtimes take, checked against the network before it is written."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from resnetkit import __version__
from resnetkit.data.preparing import prepare
from resnetkit.data.transforms import resize_pixels
from resnetkit.deployment.backends.artefacts import version_of
from resnetkit.deployment.exports.acceptance import Comparison
from resnetkit.deployment.exports.card import ExportCard, Golden, Input, golden, golden_picture
from resnetkit.deployment.exports.formats import FORMATS, INT8_FORMATS, FormatName
from resnetkit.deployment.exports.graphs import module_of, ready
from resnetkit.deployment.exports.opened import SUFFIXES, ExportedModel
from resnetkit.deployment.exports.quantising import Int8, accepted, quantise
from resnetkit.deployment.exports.source import sha256_of
from resnetkit.deployment.exports.verification import GoldenCheck, check_golden, golden_batch
from resnetkit.deployment.opening import OpenedModel
from resnetkit.errors import ExportFailed, InvalidArgument

_PACKAGES: dict[FormatName, tuple[str, ...]] = {
    "onnx": ("torch", "onnx", "onnxruntime"), "openvino": ("torch", "openvino"), "torch": ("torch",),
}  # fmt: skip
_RUNTIMES: dict[FormatName, str] = {"onnx": "ONNX Runtime", "openvino": "OpenVINO", "torch": "torch"}

_CLOSE = 0.01
"""how far a probability may be from what `evaluate` says of the same picture, whose resizing rounds otherwise"""


@dataclass(frozen=True)
class Export:
    """What was written, and how near to its golden answer it came in its own runtime."""

    path: Path
    card: ExportCard
    golden: GoldenCheck
    comparison: Comparison | None
    """int8 beside float32"""


def export_path(output: Path, format_: FormatName) -> Path:
    """Where the file goes: `output` itself if it ends as the format's files do, else into it as into a folder.

    >>> export_path(Path("out"), "onnx").as_posix(), export_path(Path("net.xml"), "openvino").as_posix()
    ('out/model.onnx', 'net.xml')
    """
    suffix = SUFFIXES[format_]
    if output.suffix.lower() in {*SUFFIXES.values()} - {suffix}:
        raise InvalidArgument(f"{output} ends as another format's file: {format_} files end in {suffix}")
    return output if output.suffix.lower() == suffix else output / f"model{suffix}"


def export_model(
    opened: OpenedModel, output: Path, format_: FormatName, input_: Input, int8: Int8 | None = None
) -> Export:
    """Convert, check, write. Raises ExportFailed where the file would not say what the network says."""
    kind, path = FORMATS[format_], export_path(output, format_)
    if int8 and format_ not in INT8_FORMATS:
        raise InvalidArgument(f"{format_} files stay in float32: for int8 choose --format onnx or openvino")
    if int8:
        model, quantised, operations = quantise(INT8_FORMATS[format_], opened, input_, int8)
    else:
        model, quantised, operations = kind.convert(opened.network, opened.card, input_), None, (0, 0)
    exported = ExportedModel(path, _card(opened, format_, input_, path), _RUNTIMES[format_], kind.run(model))
    check = check_golden(exported)
    if not check.passed:
        raise ExportFailed(
            f"{opened.name} as {format_} answers its golden picture {check.difference:.2g} away from the network "
            f"(bound {check.bound:.2g}): nothing was written; report this with the model's name"
        )
    card, comparison = exported.card, None
    if int8:
        candidate = ExportedModel(path, card, _RUNTIMES[format_], kind.run(quantised))
        card, comparison = accepted(candidate, exported, int8, operations)
        model = quantised
    kind.write(model, card, path)
    return Export(path, card, check, comparison)


def _card(opened: OpenedModel, format_: FormatName, input_: Input, path: Path) -> ExportCard:
    card, source = opened.card, opened.source
    picture = golden_picture(card.preprocess, input_)
    draft = ExportCard(
        name=opened.name,
        input=input_,
        num_classes=card.num_classes,
        preprocess=card.preprocess,
        golden=golden(picture, np.zeros(card.num_classes, np.float32)),
        class_names=card.class_names,
        task=card.task,
        threshold=card.threshold,
        temperature=card.temperature,
        licence=card.licence,
        source=Path(os.path.relpath(source, path.parent)).as_posix() if source else None,
        source_sha256=sha256_of(source) if source else None,
        training={"data": dict(card.training.get("data", {}))},
        scores=card.scores,
        row=card.row,
        made_with={"resnetkit": __version__, **_versions(format_)},
    )
    return replace(draft, golden=_expected(opened, draft))


def _versions(format_: FormatName) -> dict[str, str]:
    """Without those that came under another name: ONNX Runtime is also onnxruntime-gpu and onnxruntime-openvino."""
    return {name: found for name in _PACKAGES[format_] if (found := version_of(name))}


def _expected(opened: OpenedModel, draft: ExportCard) -> Golden:
    """The golden answer: what torch makes of the graph, if that is what `evaluate` would say."""
    picture = draft.golden.picture()
    module = module_of(ready(opened.network), opened.card, draft.input)
    model = ExportedModel(Path(), draft, "torch", lambda batch: module(torch.from_numpy(batch)).numpy())
    with torch.inference_mode():
        answer = model.run(golden_batch(model))[0]
        said = model.probabilities(picture[None])[0]
    # A tensor file's golden picture has the network's size, where evaluate would resize and crop once more.
    pixels = picture[None]
    if draft.input == "picture":
        pixels = prepare(pixels, opened.preprocess, resize_pixels)
    wanted = opened.classifier()(pixels)[0]
    difference = float(np.abs(said - wanted).max())
    if not difference <= _CLOSE:
        raise ExportFailed(
            f"{opened.name}: the graph's probabilities are {difference:.2g} away from evaluate's: nothing was written; "
            "a network that is not trained, or broken, may do this"
        )
    return golden(picture, answer)
