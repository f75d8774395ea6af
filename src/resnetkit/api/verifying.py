"""Check an exported file, in a process that need not have torch."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resnetkit.data.dataset import DataSet
from resnetkit.data.judging import open_as_trained, part_to_judge
from resnetkit.data.known import Progress
from resnetkit.deployment.exports.acceptance import Alone, Answering, Bounds, Comparison, compare, score
from resnetkit.deployment.exports.opened import ExportedModel, exported_file, open_exported
from resnetkit.deployment.exports.source import NetworkElsewhere, source_of
from resnetkit.deployment.exports.verification import GoldenCheck, check_golden
from resnetkit.errors import CheckpointError, DataError, InvalidArgument, LabelMismatch
from resnetkit.tasks.labels import match_labels


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What an exported file answered, beside what it has to answer."""

    path: Path
    description: str
    golden: GoldenCheck
    data: str | None = None
    split: str | None = None
    against: str | None = None
    """what it was compared with on labelled pictures"""
    comparison: Comparison | None = None
    alone: Alone | None = None
    """its score on labelled pictures, where there was nothing to compare it with"""
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
            "golden": asdict(self.golden), "data": self.data, "split": self.split, "against": self.against,
            "comparison": self.comparison.to_dict() if self.comparison else None,
            "alone": self.alone.to_dict() if self.alone else None,
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
    """Ask an exported file its golden picture; with labelled `data`, compare it with the MODEL `against`.

    Without one it is compared with the model file that it was made of, if that still stands where it stood; else with
    what was measured when it was made, as far as its metadata says. The part `split` is by default test, else val, else
    all. Raises CheckpointError where a file cannot be read.
    """
    model = _opened(file)
    golden = check_golden(model)
    if data is None:
        if against is not None:
            raise InvalidArgument(f"{against} is compared on labelled pictures: give DATA as well")
        return Verification(path=model.path, description=model.description, golden=golden)
    card, bounds = model.card, bounds or Bounds()
    dataset = _one_label_an_image(open_as_trained(data, card.in_chans, card.training, progress))
    labels = match_labels(card.class_names, card.num_classes, dataset.class_names, dataset.num_classes)
    chosen = part_to_judge(dataset, split, card.training)
    source = dataset.split(chosen)
    truth = np.array(labels.to_model)[source.labels]
    tell = (lambda done: progress("asking", done, len(source))) if progress else None
    notes = (labels.note,) if labels.note else ()
    comparison, alone = None, None
    with _reference(model, against) as (other, named, note):
        if other:
            comparison = compare(model, other, source.image, truth, tell)
        else:
            measured = card.measured(dataset.fingerprint, chosen, len(source))
            alone = score(model, source.image, truth, measured, tell)
    judged: Comparison | Alone | None = comparison or alone
    return Verification(
        path=model.path, description=model.description, golden=golden, data=dataset.name, split=chosen,
        against=named, comparison=comparison, alone=alone,
        objections=tuple(judged.objections(bounds)) if judged else (),
        notes=(*notes, *((note,) if note else ())),
    )  # fmt: skip


@contextmanager
def _reference(
    model: ExportedModel, against: str | Path | None
) -> Iterator[tuple[Answering | None, str | None, str | None]]:
    """What the file has to agree with, its name, and what the person should know about it."""
    if against is not None:
        if path := exported_file(against):
            other = open_exported(path)
            _check_classes(model, other.card.class_names, other.card.num_classes, against)
            yield other, str(against), None
            return
        with NetworkElsewhere(against) as network:
            _check_classes(model, network.meaning.class_names, network.meaning.num_classes, against)
            yield network, str(against), None
        return
    source = source_of(model)
    if source is None:
        yield None, None, _why_alone(model)
        return
    try:
        network = NetworkElsewhere(source, model.card)
    except CheckpointError as error:
        yield None, None, f"compared with no network ({error}): name an exported file with --against"
        return
    with network:
        yield network, str(source), None


def _why_alone(model: ExportedModel) -> str:
    was = model.card.source
    if was is None:
        return "the file does not say what it was made of: name its network with --against to compare the two"
    return (
        f"the model file that it was made of, {model.path.parent / was}, is not there or has changed: "
        "name one with --against to compare the two"
    )


def _check_classes(model: ExportedModel, names: tuple[str, ...] | None, count: int, against: str | Path) -> None:
    """Answers are compared by their index, so both must mean the same by it."""
    own = model.card
    if own.num_classes != count or (own.class_names and names and own.class_names != names):
        raise LabelMismatch(f"{model.path} and {against} do not give the same classes in the same order")


def _one_label_an_image(dataset: DataSet) -> DataSet:
    if dataset.several_labels:
        raise DataError(f"{dataset.name} has images with several labels: files are compared by one label an image")
    return dataset


def _opened(file: str | Path) -> ExportedModel:
    path = exported_file(file)
    if path is None:
        raise CheckpointError(f"{file} is no exported file: give a .onnx, .xml or .pt2, or the folder it lies in")
    return open_exported(path)
