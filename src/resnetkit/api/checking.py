"""Check a data set before training: what is broken, what is there twice, what would be learned falsely."""

import os
import shlex
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from resnetkit.api.choosing import named_model, named_recipe
from resnetkit.api.showing import show_training
from resnetkit.catalog.architectures import ARCHITECTURES
from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.catalog.recipe import Recipe
from resnetkit.catalog.recipes import RECIPES
from resnetkit.checkpoints.atomic import write_atomically, write_text_atomically
from resnetkit.data.cleaning import Cleaned, cleaned_table, refuse_unwritable
from resnetkit.data.dataset import DataSet, SplitName
from resnetkit.data.duplicates import groups
from resnetkit.data.findings import Examined, Finding
from resnetkit.data.grouping import UnusableClasses
from resnetkit.data.health import Health, examine, facts, judge, median_size, parts_as_found
from resnetkit.data.inspection import Inspection
from resnetkit.data.known import Progress
from resnetkit.data.opening import open_data
from resnetkit.data.sources import FileSource
from resnetkit.deployment.opening import open_model
from resnetkit.errors import InvalidArgument, LabelMismatch
from resnetkit.training.planning import ImageFacts, default_recipe, preprocess_for, resolve_recipe


@dataclass(frozen=True)
class Check:
    """The health of a data set and, if one was asked for, the cleaned table that was written."""

    health: Health
    cleaned: Cleaned | None = None
    shown: Path | None = None
    """the picture of the first batch; None where none was asked for, or classes that differ forbid it"""

    def to_dict(self) -> dict[str, Any]:
        """JSON values: those of the health, and `cleaned`."""
        written = self.cleaned
        cleaned = None if written is None else {**vars(written), "table": str(written.table)}
        return {**self.health.to_dict(), "cleaned": cleaned, "shown": self.shown and str(self.shown)}


def check(
    data: str | os.PathLike[str],
    *,
    model: str | Path | None = None,
    image_size: int | None = None,
    fix: str | Path | None = None,
    show: str | Path | None = None,
    recipe: str | Path | Recipe | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Check:
    """Decode every image of every part once and report what training would suffer from; no image is changed.

    Sizes, mean and std are compared with the preprocessing of `model` (a run or a model file), else with what training
    would choose for these images, or for `image_size`. `fix` is where a cleaned table (CSV) is written, which `train`
    takes in the data's place. `show` is where a picture (PNG) is written of the first batch that `train` would feed, by
    `recipe` if one is named, with its labels. `progress` gets what is being done, how much of it, and of how much.
    Raises `DataError` where the data cannot be opened; parts whose classes differ are a finding.
    """
    began = time.perf_counter()
    if show is not None and Path(show).suffix.lower() != ".png":
        raise InvalidArgument(f"--show {show}: the picture is a PNG, name it augmented.png or the like")
    named_recipe(recipe)  # a wrong name is said before any image is read
    known = None if model is None or _is_bare(model) else open_model(model).card.preprocess
    if known is not None and image_size is not None:
        known = known.restated(image_size=image_size)
    wrong: tuple[Finding, ...] = ()
    try:
        dataset = open_data(data, channels=known.channels if known else None, val_share=0, progress=progress)
    except UnusableClasses as error:
        dataset, wrong = _as_it_is(data, error), (_classes_differ(error),)
    except LabelMismatch as error:
        return Check(_not_opened(os.fspath(data), _classes_differ(error), time.perf_counter() - began))
    sources = parts_as_found(dataset)
    if fix is not None:
        refuse_unwritable(Path(fix), tuple(sources.values()))
    total = sum(len(source) for source in sources.values())
    done = 0

    def tell(more: int) -> None:
        nonlocal done
        done += more
        if progress:
            progress("looking at the images", done, total)

    examined = examine(sources, workers=workers, progress=tell)
    preprocess = known or _as_training_would(examined, dataset, image_size)
    words = shlex.quote(os.fspath(data))
    fixable = all(isinstance(source, FileSource) for source in sources.values())
    findings = judge(
        examined, preprocess, train=f"resnetkit train {words}", trained=known is not None,
        fix=f"resnetkit check {words} --fix clean.csv" if fixable else None,
    )  # fmt: skip
    findings = (*wrong, *findings)
    cleaned = None if fix is None else _write_cleaned(examined, Path(fix))
    shown = None if show is None or wrong else Path(show)
    if shown is not None:
        fields = {"image_size": image_size} if image_size else {}
        start = None if model is None else named_model(model)
        _write_shown(examined, dataset, shown, recipe=recipe, start=start, fields=fields, workers=workers)
    health = Health(
        data=os.fspath(data), preprocess=preprocess, findings=findings, notes=dataset.notes,
        seconds=time.perf_counter() - began, **facts(examined),
    )  # fmt: skip
    return Check(health, cleaned, shown)


def _is_bare(model: str | Path) -> bool:
    """Whether it is an architecture's name, which says nothing of preprocessing."""
    return not Path(model).exists() and str(model) in ARCHITECTURES


def _as_training_would(examined: Examined, dataset: DataSet, image_size: int | None) -> Preprocess:
    sizes = median_size(examined)
    height, width = sizes.median if sizes else (224, 224)
    images = ImageFacts(height, width)
    recipe = RECIPES[default_recipe(images, weights=False)].recipe
    learned = dataset.splits.get("train", dataset.splits.get("all"))
    if learned is not None:
        recipe = resolve_recipe(recipe, images, replace(dataset, splits={"train": learned}))
    preprocess = preprocess_for(recipe, images, dataset.channels)
    return preprocess.restated(image_size=image_size) if image_size else preprocess


def _write_cleaned(examined: Examined, table: Path) -> Cleaned:
    text, cleaned = cleaned_table(examined, table)
    write_text_atomically(table, text)
    return cleaned


def _write_shown(examined: Examined, dataset: DataSet, picture: Path, **chosen: Any) -> None:
    """The first batch of the training part."""
    learned = next((part for part in ("train", "all") if part in examined.parts), None)
    sizes = median_size(examined)
    if learned is None or sizes is None:
        raise InvalidArgument(f"--show {picture}: there is no image to train on")
    rows = np.flatnonzero(examined.part == examined.parts.index(learned))
    copies = [group.tolist() for group in groups(examined.alike.near[rows])]
    broken = examined.names(np.flatnonzero(~examined.whole))
    normalisation = Inspection([examined.looks[row] for row in rows]).normalisation()
    images = ImageFacts(*sizes.median, normalisation)
    sheet = show_training(dataset, images, copies=copies, broken=broken, **chosen)
    write_atomically(picture, lambda temporary: sheet.save(temporary, "PNG"))


def _as_it_is(data: str | os.PathLike[str], error: UnusableClasses) -> DataSet:
    """A data set that training refuses, with the classes of all its parts."""
    first = next(iter(error.parts.values()))
    return DataSet(
        name=Path(data).name, splits={cast(SplitName, part): source for part, source in error.parts.items()},
        class_names=first.class_names, num_classes=first.num_classes, channels=first.channels, fingerprint="",
    )  # fmt: skip


def _classes_differ(error: LabelMismatch) -> Finding:
    return Finding(
        kind="classes-differ", level="harm", title="classes that do not agree", count=1, of=1, names=(str(error),),
        consequence="training stops before it reads an image; mend the folders or the table, then check again",
    )  # fmt: skip


def _not_opened(data: str, finding: Finding, seconds: float) -> Health:
    """The one finding that keeps training, and a look at the images, from beginning."""
    return Health(
        data=data, parts={}, classes={}, formats={}, sizes=None, mean=(), std=(), preprocess=None, findings=(finding,),
        notes=(), seconds=seconds,
    )  # fmt: skip
