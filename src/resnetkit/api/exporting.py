"""Write a network as a file that other runtimes take."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from resnetkit.checkpoints.modelfile import ModelCard
from resnetkit.data.dataset import DataSet
from resnetkit.data.judging import open_as_trained
from resnetkit.data.known import Progress
from resnetkit.deployment.exports.acceptance import Bounds, Comparison
from resnetkit.deployment.exports.card import ExportCard, Input
from resnetkit.deployment.exports.formats import FormatName
from resnetkit.deployment.exports.quantising import int8_of
from resnetkit.deployment.exports.verification import GoldenCheck
from resnetkit.deployment.exports.writing import export_model
from resnetkit.deployment.opening import open_model
from resnetkit.deployment.stated import Stated
from resnetkit.errors import DataError
from resnetkit.tasks.labels import LabelMap, match_labels


@dataclass(frozen=True)
class Exported:
    """A file that was written: what it says of itself, and how near it is to the network."""

    model: str
    path: Path
    card: ExportCard
    golden: GoldenCheck
    comparison: Comparison | None
    """int8 beside float32, on pictures that calibration has not seen"""
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """`{model, path, input, precision, …}`."""
        card = self.card
        return {
            "model": self.model, "path": str(self.path), "name": card.name, "input": card.input,
            "precision": card.precision, "num_classes": card.num_classes, "preprocess": card.preprocess.to_dict(),
            "source_sha256": card.source_sha256, "golden": asdict(self.golden),
            "quantisation": card.quantisation, "notes": list(self.notes),
        }  # fmt: skip


def export(
    model: str | Path,
    output: str | Path | None = None,
    *,
    format: FormatName = "onnx",
    input: Input = "picture",
    calibrate: str | Path | None = None,
    calibration_images: int = 300,
    bounds: Bounds | None = None,
    force: bool = False,
    stated: Stated | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Write a model as ONNX, as OpenVINO's .xml and .bin, or as torch's .pt2, and check it before it is written.

    `input="picture"`: the file takes uint8 pictures `N,H,W,C` of any size and gives probabilities; resizing, cropping
    and normalising are inside. `input="tensor"`: the bare network, float32 `N,C,H,W`, normalised, to logits.
    `output` is a folder, or a file if it ends as the format's do; by default `export` beside the model's file, and for
    a model that is named and not a file, `export/NAME` in the working folder.
    `calibrate` names labelled data and asks for int8: some hundred pictures of its training part, as many of each
    class, say which numbers occur; on its validation part int8 must stay within `bounds` of float32, or it is refused
    unless `force`; `progress` is told of their download, of calibrating and of judging.

    Raises MissingExtra, ExportFailed or WriteFailed.
    """
    opened = open_model(model, stated)
    notes, int8 = opened.notes, None
    if calibrate is not None:
        data, labels = _calibration_data(calibrate, opened.card, progress)
        notes += data.notes + ((labels.note,) if labels.note else ())
        int8 = int8_of(data, labels, images=calibration_images, bounds=bounds or Bounds(), force=force,
                       progress=progress)  # fmt: skip
    done = export_model(opened, Path(output) if output else _usual_place(model, opened.source), format, input, int8)
    if done.card.quantisation and done.card.quantisation["forced"]:
        notes += (f"int8 was not accepted and is written by force: {'; '.join(done.card.quantisation['objections'])}",)
    if done.comparison and done.comparison.remark:
        notes += (done.comparison.remark,)
    return Exported(str(model), done.path, done.card, done.golden, done.comparison, notes)


def _calibration_data(spec: str | Path, card: ModelCard, progress: Progress | None) -> tuple[DataSet, LabelMap]:
    """The data, split as the model's own run split it."""
    data = open_as_trained(spec, card.in_chans, card.training, progress)
    if data.several_labels:
        raise DataError(f"{data.name} has images with several labels: int8 is judged by one label an image so far")
    return data, match_labels(card.class_names, card.num_classes, data.class_names, data.num_classes)


def _usual_place(model: str | Path, source: Path | None) -> Path:
    """The file of published weights lies in a cache that other tools share: nothing is written beside it."""
    return source.parent / "export" if source and Path(model).exists() else Path("export", model)
