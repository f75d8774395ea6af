"""Score a model on labelled pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from resnetkit.checkpoints.modelfile import ModelCard
from resnetkit.data.dataset import DataSet, SplitName
from resnetkit.data.known import Progress
from resnetkit.data.loader import Loader
from resnetkit.data.opening import open_data, with_validation
from resnetkit.data.transforms import EvalTransform
from resnetkit.deployment.choosing import Work, choose, opened
from resnetkit.deployment.exports.card import ExportCard
from resnetkit.deployment.stated import Stated
from resnetkit.errors import DataError
from resnetkit.evaluation.scoring import Scores, probabilities
from resnetkit.evaluation.several import SeveralScores, judge
from resnetkit.tasks.labels import match_labels
from resnetkit.tasks.mirroring import Mirrored


@dataclass(frozen=True)
class Evaluation:
    """What a model scored, on which part of which data."""

    model: str
    data: str
    split: str
    description: str
    num_classes: int
    scores: Scores | SeveralScores
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """`{model, data, split, n, top1, loss, top1_ci95, …}`; shares of 1; `mean_ap, f1, …` of several labels."""
        return {
            "model": self.model, "data": self.data, "split": self.split, **self.scores.to_dict(),
            "notes": list(self.notes),
        }  # fmt: skip


def evaluate(
    model: str | Path,
    data: str | Path,
    *,
    split: str | None = None,
    stated: Stated | None = None,
    tta: Literal["none", "flip"] = "none",
    batch_size: int = 64,
    backend: str = "auto",
    precision: str = "float32",
    device: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Score a model on the part `split` of labelled data: by default test, else val, else what its run held out.

    With `tta` "flip" the answer for an image is the mean of those for it and for its mirror image, at twice the time.
    Computes in float32 unless told otherwise. `progress` gets what is being done, how much of it, and of how much.
    Raises LabelMismatch before any work where classes do not agree.
    """
    found = opened(model, stated)
    card = found.card
    dataset, notes = open_as_trained(data, card, progress)
    if dataset.several_labels != (card.task == "multilabel"):
        one, several = "one label an image", "several labels an image"
        has, knows = (several, one) if dataset.several_labels else (one, several)
        raise DataError(f"{dataset.name} has {has}, and the model learnt {knows}: their answers cannot be compared")
    labels = match_labels(card.class_names, card.num_classes, dataset.class_names, dataset.num_classes)
    chosen = _choose_split(dataset, split, card)
    source = dataset.split(chosen)
    loader = Loader(source, EvalTransform(card.preprocess), batch_size, workers=workers)
    work = Work(len(source), lambda _: next(loader.batches()).pixels)
    classifier = choose(
        found, device=device, backend=backend, precision=precision, mode="throughput", batch_size=batch_size, work=work
    ).classifier
    asked = Mirrored(classifier) if tta == "flip" else classifier
    tell = (lambda done: progress("asking the model", done, len(source))) if progress else None
    probs, truth = probabilities(asked, loader.batches(), labels, tell)
    return Evaluation(
        model=str(model),
        data=dataset.name,
        split=chosen,
        description=asked.description,
        num_classes=card.num_classes,
        scores=judge(probs, truth, card.class_names or dataset.class_names, card.threshold),
        notes=(*found.notes, *notes, *((labels.note,) if labels.note else ())),
    )


def open_as_trained(
    data: str | Path, card: ModelCard | ExportCard, progress: Progress | None = None
) -> tuple[DataSet, tuple[str, ...]]:
    """The data, split as the model's own run split it if it is the data of that run."""
    channels = 1 if card.in_chans == 1 else 3
    trained = card.training.get("data", {})
    dataset = open_data(data, channels=channels, val_share=0, progress=progress)
    own = trained.get("fingerprint") == dataset.fingerprint
    together = trained.get("together", ()) if own else ()
    return with_validation(dataset, trained.get("split_seed", 0), trained.get("val_share", 0.1), together), ()


def _choose_split(dataset: DataSet, named: str | None, card: ModelCard | ExportCard | ExportCard) -> SplitName:
    if named is not None:
        known: dict[str, SplitName] = {
            "train": "train",
            "val": "val",
            "valid": "val",
            "validation": "val",
            "test": "test",
            "all": "all",
        }
        if named not in known or known[named] not in dataset.splits:
            raise DataError(f"{dataset.name} has no part called {named!r}: it has {', '.join(dataset.splits)}")
        return known[named]
    own = card.training.get("data", {}).get("fingerprint") == dataset.fingerprint
    if "test" in dataset.splits:
        return "test"
    if "val" in dataset.splits and (own or not dataset.val_from_train):
        return "val"
    # The model has not seen this data, so nothing needs to be kept apart.
    return "all" if "all" in dataset.splits else "train"
