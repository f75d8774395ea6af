"""Check an exported file, in a process that need not have torch."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resnetkit.data.dataset import DataSet, SplitName
from resnetkit.data.known import Progress
from resnetkit.data.opening import open_data
from resnetkit.data.sources import Source
from resnetkit.deployment.exports.acceptance import Bounds, Comparison, compare
from resnetkit.deployment.exports.opened import ExportedModel, exported_file, open_exported
from resnetkit.deployment.exports.verification import GoldenCheck, check_golden
from resnetkit.errors import CheckpointError, DataError, InvalidArgument
from resnetkit.tasks.labels import match_labels


@dataclass(frozen=True)
class Verification:
    """What an exported file answered, beside what it has to answer."""

    path: Path
    description: str
    golden: GoldenCheck
    data: str | None = None
    split: str | None = None
    comparison: Comparison | None = None
    """on labelled pictures, with the other file"""
    objections: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the file says what its network said."""
        return self.golden.passed and not self.objections

    def to_dict(self) -> dict[str, Any]:
        """`{model, passed, golden, comparison, …}`."""
        return {
            "model": str(self.path), "description": self.description, "passed": self.passed,
            "golden": asdict(self.golden), "data": self.data, "split": self.split,
            "comparison": self.comparison.to_dict() if self.comparison else None,
            "objections": list(self.objections), "notes": list(self.notes),
        }  # fmt: skip


def verify(
    file: str | Path,
    data: str | Path | None = None,
    *,
    against: str | Path | None = None,
    split: str | None = None,
    bounds: Bounds | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Ask an exported file its golden picture; with labelled `data`, compare it with the exported file `against`.

    The part `split` is by default test, else val, else all. Raises CheckpointError where a file cannot be read.
    """
    model = _opened(file)
    golden = check_golden(model)
    if data is None or against is None:
        if data is not against:
            raise InvalidArgument("a comparison needs both: labelled pictures, and an exported file to agree with")
        return Verification(model.path, model.description, golden)
    other = _opened(against)
    dataset = open_data(data, channels=1 if model.card.preprocess.channels == 1 else 3, progress=progress)
    labels = match_labels(model.card.class_names, model.card.num_classes, dataset.class_names, dataset.num_classes)
    match_labels(other.card.class_names, other.card.num_classes, dataset.class_names, dataset.num_classes)
    chosen = _part(dataset, split)
    source: Source = dataset.split(chosen)
    truth = np.array(labels.to_model)[source.labels]
    tell = (lambda done: progress("asking both", done, len(source))) if progress else None
    comparison = compare(model, other, source.image, truth, tell)
    notes = (labels.note,) if labels.note else ()
    return Verification(
        model.path, model.description, golden, dataset.name, chosen, comparison,
        tuple(comparison.objections(bounds or Bounds())), notes,
    )  # fmt: skip


def _part(dataset: DataSet, named: str | None) -> SplitName:
    wanted = (named,) if named else ("test", "val", "all", "train")
    found = sorted((name for name in dataset.splits if name in wanted), key=wanted.index)
    if not found:
        raise DataError(f"{dataset.name} has no part called {named!r}: it has {', '.join(dataset.splits)}")
    return found[0]


def _opened(file: str | Path) -> ExportedModel:
    path = exported_file(file)
    if path is None:
        raise CheckpointError(f"{file} is no exported file: give a .onnx, .xml or .pt2, or the folder it lies in")
    return open_exported(path)
