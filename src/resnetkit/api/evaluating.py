"""Score a model on labelled pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnetkit.data.judging import open_as_trained, part_to_judge
from resnetkit.data.known import Progress
from resnetkit.data.loader import Loader
from resnetkit.data.transforms import EvalTransform
from resnetkit.deployment.choosing import Work, choose, opened
from resnetkit.deployment.stated import Stated
from resnetkit.errors import DataError
from resnetkit.evaluation.scoring import Scores, probabilities
from resnetkit.evaluation.several import SeveralScores, judge
from resnetkit.tasks.labels import match_labels
from resnetkit.tasks.views import Augmentation, asked_with


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
    tta: Augmentation = "none",
    batch_size: int = 64,
    backend: str = "auto",
    precision: str = "float32",
    device: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Score a model on the part `split` of labelled data: by default test, else val, else what its run held out.

    With `tta` "flip" the answer for an image is the mean of those for it and for its mirror image, at twice the time;
    with "shifts" of those for both also moved to either side, at six times. Computes in float32 unless told otherwise.
    `progress` gets what is being done, how much of it, and of how much. Raises LabelMismatch before any work where
    classes do not agree. Where memory is too little for a batch it is computed in pieces, and a note says in which.
    """
    found = opened(model, stated)
    card = found.card
    dataset = open_as_trained(data, card.in_chans, card.training, progress)
    if dataset.several_labels != (card.task == "multilabel"):
        one, several = "one label an image", "several labels an image"
        has, knows = (several, one) if dataset.several_labels else (one, several)
        raise DataError(f"{dataset.name} has {has}, and the model learnt {knows}: their answers cannot be compared")
    labels = match_labels(card.class_names, card.num_classes, dataset.class_names, dataset.num_classes)
    chosen = part_to_judge(dataset, split, card.training)
    source = dataset.split(chosen)
    loader = Loader(source, EvalTransform(card.preprocess), batch_size, workers=workers)
    work = Work(len(source), lambda _: next(loader.batches()).pixels)
    said: list[str] = []
    ready = choose(
        found, device=device, backend=backend, precision=precision, mode="throughput", batch_size=batch_size, work=work,
        say=said.append,
    )  # fmt: skip
    asked = asked_with(tta, ready.classifier)
    tell = (lambda done: progress("asking the model", done, len(source))) if progress else None
    probs, truth = probabilities(asked, loader.batches(), labels, tell)
    return Evaluation(
        model=str(model),
        data=dataset.name,
        split=chosen,
        description=asked.description,
        num_classes=card.num_classes,
        scores=judge(probs, truth, card.class_names or dataset.class_names, card.threshold),
        notes=(*ready.notes, *((labels.note,) if labels.note else ()), *said),
    )
