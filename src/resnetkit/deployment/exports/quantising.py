"""A network in int8: calibrated on some pictures, accepted or refused on others."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.dataset import DataSet, SplitName
from resnetkit.data.known import Progress
from resnetkit.data.randomness import permutation
from resnetkit.data.sources import Indices, Labels, Source
from resnetkit.data.transforms import EvalTransform
from resnetkit.deployment.exports.acceptance import Bounds, Comparison, compare, stayed_in_float
from resnetkit.deployment.exports.card import ExportCard, Input, golden
from resnetkit.deployment.exports.formats import Int8Format
from resnetkit.deployment.exports.graphs import Graph
from resnetkit.deployment.exports.opened import ExportedModel, normalised
from resnetkit.deployment.exports.verification import golden_batch
from resnetkit.deployment.opening import OpenedModel
from resnetkit.errors import DataError, ExportFailed
from resnetkit.tasks.labels import LabelMap


@dataclass(frozen=True, kw_only=True)
class Int8:
    """Pictures that say which numbers occur, and others that say whether the result can be trusted."""

    calibration: Source
    acceptance: Source
    labels: LabelMap
    data: Mapping[str, Any]
    """what the pictures are, for the metadata"""
    bounds: Bounds
    force: bool = False
    """accept the model whatever it scores; its metadata says so"""
    progress: Progress | None = None


def int8_of(
    data: DataSet, labels: LabelMap, *, images: int, bounds: Bounds, force: bool, progress: Progress | None = None
) -> Int8:
    """Calibration from the training part, balanced over the classes; acceptance on the validation part, else test."""
    whole: SplitName = "train" if "train" in data.splits else "all"
    if whole not in data.splits:
        raise DataError(f"{data.name} has no training part to calibrate on: it has {', '.join(data.splits)}")
    part: SplitName | None = next((name for name in ("val", "test") if name in data.splits), None)
    if part is None:
        raise DataError(f"{data.name} has no validation part to judge int8 on: it has {', '.join(data.splits)}")
    source = data.split(whole)
    chosen = balanced(source.labels, images)
    return Int8(
        calibration=source.subset(chosen), acceptance=data.split(part), labels=labels, bounds=bounds, force=force,
        progress=progress,
        data={"data": data.name, "fingerprint": data.fingerprint, "calibration_split": whole,
              "calibration_images": len(chosen), "acceptance_split": part},
    )  # fmt: skip


def balanced(labels: Labels, count: int) -> Indices:
    """About `count` indices, as many of each class as there are, always the same ones.

    >>> labels = np.array([0] * 90 + [1] * 10)
    >>> np.bincount(labels[balanced(labels, 30)]).tolist()
    [20, 10]
    """
    order = permutation("order", 0, 0, len(labels))
    turn = np.empty(len(labels), np.int64)  # the how-manieth of its class each image is, in this order
    for label in np.unique(labels):
        members = order[labels[order] == label]
        turn[members] = np.arange(len(members))
    place = np.argsort(order)
    return np.sort(np.lexsort((place, turn))[:count])


def quantise(kind: Int8Format, opened: OpenedModel, input_: Input, int8: Int8) -> tuple[Any, Any, tuple[int, int]]:
    """The network as a model in float32 and in int8, and how many of how many operations are. ExportFailed if too few.

    Preprocessing stays as it is: the network is quantised alone.
    """
    inner: Graph = "pixels" if input_ == "picture" else input_
    model = kind.convert(opened.network, opened.card, inner)
    quantised = kind.quantised(model, _Inputs(int8.calibration, opened, inner, int8.progress))
    operations = kind.quantised_operations(quantised)
    if wrong := stayed_in_float(*operations):
        raise ExportFailed(f"{opened.name}: {wrong}, so this is no int8 model: nothing was written")
    if inner != input_:
        model, quantised = (kind.with_preprocessing(each, opened.card) for each in (model, quantised))
    return model, quantised, operations


def accepted(
    model: ExportedModel, reference: ExportedModel, int8: Int8, operations: tuple[int, int]
) -> tuple[ExportCard, Comparison]:
    """The card of an int8 model that passed, or was forced; ExportFailed where it is refused."""
    truth = np.array(int8.labels.to_model)[int8.acceptance.labels]
    progress = int8.progress
    tell = (lambda done: progress("judging int8", done, len(truth))) if progress else None
    comparison = compare(model, reference, int8.acceptance.image, truth, tell)
    objections = comparison.objections(int8.bounds)
    if objections and not int8.force:
        raise ExportFailed(
            f"int8 is refused on the {int8.data['acceptance_split']} part of {int8.data['data']} (n = {comparison.n}): "
            f"{'; '.join(objections)}. Nothing was written; --force writes it nevertheless"
        )
    report = {
        **int8.data, "acceptance": comparison.to_dict(), "bounds": asdict(int8.bounds), "objections": objections,
        "forced": bool(objections), "int8_operations": operations[0], "operations": operations[1],
    }  # fmt: skip
    answer = model.run(golden_batch(model))[0]
    expected = golden(model.card.golden.picture(), answer)
    return replace(model.card, precision="int8", quantisation=report, golden=expected), comparison


@final
class _Inputs:
    """One picture at a time, as the graph takes it. A quantiser computes while it goes through them, maybe twice."""

    def __init__(self, source: Source, opened: OpenedModel, inner: Graph, progress: Progress | None) -> None:
        self._source, self._row, self._inner, self._progress = source, opened.preprocess, inner, progress
        self._prepare = EvalTransform(opened.preprocess)

    def __len__(self) -> int:
        return len(self._source)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        for index in range(len(self)):
            if self._progress:
                self._progress("calibrating int8", index + 1, len(self))
            pixels = np.ascontiguousarray(self._prepare(self._source.image(index)).permute(1, 2, 0).numpy())[None]
            yield normalised(pixels, self._row) if self._inner == "tensor" else pixels
