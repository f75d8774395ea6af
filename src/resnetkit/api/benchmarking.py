"""How fast a network computes here in each runtime and precision, beside what the machine could do at most."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnetkit.api.describing import describe
from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.cores import usable_cores
from resnetkit.data.loader import Loader
from resnetkit.data.opening import open_data
from resnetkit.data.transforms import EvalTransform
from resnetkit.deployment.backends.artefacts import processor, version_of
from resnetkit.deployment.backends.lanes import Lanes, Mode
from resnetkit.deployment.backends.openvino_runtime import OpenVinoClassifier
from resnetkit.deployment.building import BACKENDS, Backend, build, check_computes, computes, installed, meaning_of
from resnetkit.deployment.choosing import opened
from resnetkit.deployment.exports.classifier import backend_of, check_asked, classifier_of
from resnetkit.deployment.exports.int8_openvino import quantised
from resnetkit.deployment.exports.opened import ExportedModel
from resnetkit.deployment.exports.source import network_of, source_of
from resnetkit.deployment.exports.to_openvino import to_openvino
from resnetkit.deployment.opening import OpenedModel
from resnetkit.deployment.probing import agreement, usual_precisions
from resnetkit.deployment.stated import Stated
from resnetkit.errors import InvalidArgument, ResnetkitError
from resnetkit.tasks.contract import Classifier, Pixels

Cell = tuple[str, str, Mode, int]
"""backend, precision, mode, batch"""

_CALIBRATION_IMAGES = 300
_LIMIT_SIDES = (256, 512, 1024, 2048)
_LIMIT_SECONDS = 0.5  # a product may take


@dataclass(frozen=True)
class Measurement:
    """One runtime at one precision on one size of batch."""

    backend: str
    precision: str
    mode: Mode
    batch: int
    images_per_second: float
    """median over the rounds"""
    p50_ms: float
    """between two answers: the mean of each round, the median over the rounds"""
    top1_agreement: float | None
    """share of the images on which it says what torch says in float32; None: the network of an exported file is gone"""
    limit_share: float | None
    """of what the machine's matrix product reaches at this precision"""


@dataclass(frozen=True)
class Benchmark:
    """What was measured, on what."""

    model: str
    images: str
    macs: int | None
    """multiply-adds an image; None: the network of an exported file is gone"""
    processor: str
    cores: int
    versions: dict[str, str | None]
    limits: dict[str, float]
    """matrix product of each precision, in billions of operations a second (a multiply-add is two)"""
    results: tuple[Measurement, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def benchmark(
    model: str | Path,
    *,
    stated: Stated | None = None,
    data: str | Path | None = None,
    batches: Sequence[int] = (16, 1),
    backends: Sequence[str] | None = None,
    precisions: Sequence[str] | None = None,
    modes: Sequence[Mode] = ("latency", "throughput"),
    rounds: int = 5,
    seconds: float = 1.0,
    progress: Callable[[str], None] | None = None,
) -> Benchmark:
    """Measure a MODEL in every runtime that is installed (or in `backends`), all of them in turn in each round.

    A backend or precision that is named and cannot be measured at all is InvalidArgument, or MissingExtra.
    `precisions` are float32, and bf16 where the processor and a backend have it, if not named. An exported file is
    measured as it is, in its own runtime and precision, beside the network that it was made of where that still stands;
    to ask for others alone is InvalidArgument.
    `data` gives the pictures, and those that int8 is calibrated on; without it pixels are random, which times the same
    but says little about agreement. Each measurement of a round lasts `seconds` or three batches.
    """
    unknown = set(backends or ()) - set(BACKENDS)
    if unknown:
        raise InvalidArgument(f"backend {', '.join(sorted(unknown))}: choose from {', '.join(BACKENDS)}")
    found = opened(model, stated)
    file = found if isinstance(found, ExportedModel) else None
    precisions = _precisions_of(file, backends, precisions)
    if "int8" in precisions and data is None and not file:
        raise InvalidArgument("int8 is calibrated on real pictures: give some with --data")
    say = progress or (lambda text: None)
    pixels, calibration = _pictures(found.card.preprocess, data, max(batches))
    if isinstance(found, ExportedModel):
        cells = _file_cells(found, batches, backends, modes)
        network = _network_of(found)
    else:
        cells = _network_cells(found, calibration, batches, backends, precisions, modes, say)
        network = found
    exact, macs = None, None
    if network:
        exact = build(network, "torch", "float32", Lanes.of("latency"))(pixels)
        size = (network.card.in_chans, *network.preprocess.size)
        macs = describe(network.card.row, size, num_classes=network.card.num_classes).macs
    for cell, classifier in cells.items():
        classifier(pixels[: cell[3]])
    times: dict[Cell, list[float]] = {cell: [] for cell in cells}
    limits: dict[str, list[float]] = {precision: [] for precision in precisions}
    for turn in range(rounds):
        say(f"round {turn + 1} of {rounds}")
        for precision in precisions:
            limits[precision].append(matrix_limit(precision))
        for cell, classifier in cells.items():
            times[cell].append(_seconds_a_batch(classifier, pixels[: cell[3]], seconds))
    best = {precision: max(values) for precision, values in limits.items()}
    results = []
    for cell, values in times.items():
        took, batch, limit = statistics.median(values), cell[3], best[cell[1]]
        share = 2 * macs * batch / took / 1e9 / limit if macs and limit else None
        same = None if exact is None else agreement(cells[cell](pixels), exact)
        results.append(Measurement(*cell, batch / took, 1000 * took, same, share))
    return Benchmark(
        model=str(model), images=str(data or "random pixels"), macs=macs, processor=processor(), cores=usable_cores(),
        versions={name: version_of(name) for name in ("torch", "openvino", "onnxruntime", "nncf")},
        limits=best, results=tuple(results),
    )  # fmt: skip


def _precisions_of(
    file: ExportedModel | None, backends: Sequence[str] | None, asked: Sequence[str] | None
) -> Sequence[str]:
    """What is measured: an exported file has its precision; where none was named, those that a backend computes in."""
    if file is None:
        return asked or [each for each in usual_precisions() if any(computes(name, each) for name in _named(backends))]
    own = file.card.precision
    if asked and own not in asked:
        raise InvalidArgument(f"{file.path} computes in {own}: leave out --precision {' '.join(asked)}")
    return (own,)


def _file_cells(
    model: ExportedModel, batches: Sequence[int], backends: Sequence[str] | None, modes: Sequence[Mode]
) -> dict[Cell, Classifier]:
    """An exported file has its runtime and precision; it is asked as `predict` and `evaluate` ask it."""
    own = backend_of(model)
    if backends and own not in backends:
        check_asked(model, device=None, backend=backends[0], precision="auto")
    cells: dict[Cell, Classifier] = {}
    for mode in modes:
        if mode == "throughput" and own == "torch":
            continue  # torch has one way of sharing out the cores
        classifier = classifier_of(model, Lanes.of(mode))
        cells |= {(own, model.card.precision, mode, batch): classifier for batch in batches}
    return cells


def _network_of(model: ExportedModel) -> OpenedModel | None:
    """The network that the file was made of, where it can still be opened."""
    source = source_of(model)
    if source is None:
        return None
    try:
        return network_of(source, model.card)
    except ResnetkitError:
        return None


def _network_cells(
    opened: OpenedModel,
    calibration: Pixels,
    batches: Sequence[int],
    backends: Sequence[str] | None,
    precisions: Sequence[str],
    modes: Sequence[Mode],
    say: Callable[[str], None],
) -> dict[Cell, Classifier]:
    """The network in each runtime and precision that can be measured."""
    int8 = None
    cells: dict[Cell, Classifier] = {}
    for (precision, backend), mode in product(_measurable(backends, precisions), modes):
        if mode == "throughput" and backend in ("torch", "compile"):
            continue  # torch has one way of sharing out the cores
        say(f"making {backend} {precision}")
        lanes = Lanes.of(mode)
        if precision == "int8" and backend == "openvino":
            if int8 is None:
                one_by_one = [calibration[index : index + 1] for index in range(len(calibration))]
                int8 = quantised(to_openvino(opened.network, opened.card, "pixels"), one_by_one)
            classifier: Classifier = OpenVinoClassifier(int8, meaning_of(opened), precision="int8", lanes=lanes)
        else:
            classifier = build(opened, backend, precision, lanes, say)
        cells |= {(backend, precision, mode, batch): classifier for batch in batches}
    return cells


def _measurable(backends: Sequence[str] | None, precisions: Sequence[str]) -> list[tuple[str, Backend]]:
    """Each precision with the backends that compute in it: of those named, else of those installed.

    int8 is made here for OpenVINO alone; whoever asks for it is told where that is missing. InvalidArgument where
    one that was named would be left out altogether.
    """
    named = _named(backends)
    able = [
        (precision, name)
        for precision, name in product(precisions, named)
        if (name == "openvino" if precision == "int8" else computes(name, precision))
    ]
    found = {each for pair in able for each in pair}
    for precision, name in product(precisions, named):
        if precision not in found or (backends and name not in found):
            check_computes(name, precision)
    return [each for each in able if backends or each[0] == "int8" or installed(each[1])]


def _named(backends: Sequence[str] | None) -> list[Backend]:
    """Those of these names, in our order; all of them where none is named."""
    return [name for name in BACKENDS if name in (backends or BACKENDS)]


def matrix_limit(precision: str) -> float:
    """What torch's matrix product reaches on all cores, in billions of operations a second; 0: it has none.

    Of sides up to 2048, or to what takes half a second, as a precision that the processor lacks does early.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(usable_cores())
    fastest = 0.0
    try:
        for side in _LIMIT_SIDES:
            seconds = min(_product_seconds(precision, side) for _ in range(6))
            fastest = max(fastest, 2 * side**3 / seconds / 1e9)
            if 8 * seconds > _LIMIT_SECONDS:
                break
    except RuntimeError:  # torch has no such product here
        return 0.0
    finally:
        torch.set_num_threads(threads)
    return fastest


def _product_seconds(precision: str, side: int) -> float:
    if precision == "int8":
        a, b = (torch.randint(-100, 100, (side, side), dtype=torch.int8) for _ in range(2))
        multiply: Callable[[Tensor, Tensor], Tensor] = torch._int_mm
    else:
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        a, b = (torch.randn(side, side).to(dtype) for _ in range(2))
        multiply = torch.mm
    began = time.perf_counter()
    multiply(a, b)
    return time.perf_counter() - began


def _seconds_a_batch(classifier: Classifier, pixels: Pixels, seconds: float) -> float:
    """Mean time between answers, once the first has come."""
    began, count = time.perf_counter(), 0

    def again() -> Any:
        given = 0
        while given < 3 or time.perf_counter() - began < seconds:
            given += 1
            yield pixels

    for _ in classifier.stream(again()):
        count += 1
    return (time.perf_counter() - began) / count


def _pictures(preprocess: Preprocess, data: str | Path | None, batch: int) -> tuple[Pixels, Pixels]:
    """A batch to measure on, and the pictures to calibrate on: evenly spaced over the training part."""
    channels = preprocess.channels
    if data is None:
        shape = (batch, *preprocess.size, channels)
        return np.random.default_rng(0).integers(0, 256, shape, np.uint8), np.zeros((0, *shape[1:]), np.uint8)
    dataset = open_data(data, channels=1 if channels == 1 else 3)

    def taken(part: str, count: int) -> Pixels:
        source = dataset.split(part)  # type: ignore[arg-type]
        spaced = np.linspace(0, len(source) - 1, min(count, len(source))).astype(np.int64)
        loader = Loader(source.subset(spaced), EvalTransform(preprocess), count)
        return next(loader.batches()).pixels

    parts = dataset.splits
    train = "train" if "train" in parts else next(iter(parts))
    other = "val" if "val" in parts else "test" if "test" in parts else train
    measured = taken(other, batch)
    repeated = np.ascontiguousarray(measured[np.arange(batch) % len(measured)])
    return repeated, taken(train, _CALIBRATION_IMAGES)
