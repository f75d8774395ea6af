"""A network in int8: calibrated on some pictures, accepted or refused on others."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.dataset import DataSet, SplitName
from resnetkit.data.randomness import permutation
from resnetkit.data.sources import Indices, Labels, Source
from resnetkit.data.transforms import EvalTransform
from resnetkit.deployment.exports.acceptance import Bounds, Comparison, compare, stayed_in_float
from resnetkit.deployment.exports.card import ExportCard, golden
from resnetkit.deployment.exports.formats import Format
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
    progress: Callable[[int], None] | None = None


def int8_of(data: DataSet, labels: LabelMap, *, images: int, bounds: Bounds, force: bool) -> Int8:
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


def quantise(kind: Format, model: Any, opened: OpenedModel, inner: Graph, int8: Int8) -> tuple[Any, tuple[int, int]]:
    """The model of the network alone in int8, and how many of how many operations are. ExportFailed if too few are."""
    quantised = kind.quantised(model, _inputs(int8.calibration, opened, inner))
    operations = kind.quantised_operations(quantised)
    if wrong := stayed_in_float(*operations):
        raise ExportFailed(f"{opened.name}: {wrong}, so this is no int8 model: nothing was written")
    return quantised, operations


def accepted(
    model: ExportedModel, reference: ExportedModel, int8: Int8, operations: tuple[int, int]
) -> tuple[ExportCard, Comparison]:
    """The card of an int8 model that passed, or was forced; ExportFailed where it is refused."""
    truth = np.array(int8.labels.to_model)[int8.acceptance.labels]
    comparison = compare(model, reference, int8.acceptance.image, truth, int8.progress)
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


def _inputs(source: Source, opened: OpenedModel, inner: Graph) -> Iterator[NDArray[Any]]:
    """One picture at a time, as the graph takes it."""
    prepare = EvalTransform(opened.preprocess)
    for index in range(len(source)):
        pixels = np.ascontiguousarray(prepare(source.image(index)).permute(1, 2, 0).numpy())[None]
        yield normalised(pixels, opened.preprocess) if inner == "tensor" else pixels
