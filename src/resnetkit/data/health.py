"""The health of a data set: every image decoded once, and what training would suffer from."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.data.class_findings import class_counts, class_findings
from resnetkit.data.copy_findings import copy_findings
from resnetkit.data.dataset import DataSet
from resnetkit.data.file_findings import file_findings, size_findings
from resnetkit.data.findings import Examined, Finding
from resnetkit.data.inspection import Inspection, inspect
from resnetkit.data.normalisation_findings import normalisation_findings
from resnetkit.data.sources import Source


@final
@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Of the images that can be decoded, in pixels: height and width of the median, the smallest, the largest."""

    median: tuple[int, int]
    smallest: tuple[int, int]
    largest: tuple[int, int]


@final
@dataclass(frozen=True, kw_only=True)
class Health:
    """What a check found; `findings` come with the gravest first."""

    data: str
    parts: Mapping[str, int]
    """images by part"""
    classes: Mapping[str, Mapping[str, int]]
    """images that can be decoded, by part and class"""
    formats: Mapping[str, int]
    sizes: Sizes | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """of the data, channel by channel, in shares of 1; empty where no image can be decoded"""
    preprocess: Preprocess | None
    """what they and the sizes are compared with"""
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    seconds: float

    @property
    def images(self) -> int:
        """How many there are."""
        return sum(self.parts.values())

    @property
    def harmed(self) -> bool:
        """Whether training would stop, learn something false, or be scored falsely."""
        return any(finding.level == "harm" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "data": self.data,
            "harmed": self.harmed,
            "images": self.images,
            "parts": dict(self.parts),
            "classes": {part: dict(counts) for part, counts in self.classes.items()},
            "formats": dict(self.formats),
            "sizes": None if self.sizes is None else {key: list(size) for key, size in asdict(self.sizes).items()},
            "mean": list(self.mean),
            "std": list(self.std),
            "preprocess": None if self.preprocess is None else self.preprocess.to_dict(),
            "findings": [finding.to_dict() for finding in self.findings],
            "notes": list(self.notes),
            "seconds": self.seconds,
        }


def parts_as_found(dataset: DataSet) -> dict[str, Source]:
    """The parts that the data has of itself; what was held out of one piece by the seed is put back.

    The data set must have been opened with no share for validation.
    """
    if "all" in dataset.splits:
        return {"all": dataset.split("all")}
    return {str(part): source for part, source in dataset.splits.items()}


def examine(
    sources: dict[str, Source], *, workers: int | None = None, progress: Callable[[int], None] | None = None
) -> Examined:
    """Look at all images of all parts, and compare them; `progress` gets how many more are done."""
    return Examined.of(sources, [inspect(source, workers=workers, progress=progress) for source in sources.values()])


def judge(
    examined: Examined, preprocess: Preprocess, *, train: str, fix: str | None, trained: bool
) -> tuple[Finding, ...]:
    """All findings, the gravest first. `train` and `fix` are the commands that train and that clean.

    `trained` says that the preprocessing is that of a trained model, not what training would choose.
    """
    found = [
        *file_findings(examined, fix),
        *copy_findings(examined, fix),
        *class_findings(examined, train),
        *size_findings(examined, preprocess, train),
        *normalisation_findings(examined.normalisation, preprocess, train=train, trained=trained),
    ]
    grave = {"harm": 0, "caution": 1, "note": 2}
    return tuple(sorted(found, key=lambda finding: grave[finding.level]))


def facts(examined: Examined) -> dict[str, Any]:
    """What `Health` says of the images beside the findings."""
    every = Inspection(examined.looks)
    mean, std = examined.normalisation or ((), ())
    counts = class_counts(examined)
    return {
        "parts": {part: len(source) for part, source in zip(examined.parts, examined.sources, strict=True)},
        "classes": {
            part: {examined.class_name(label): int(n) for label, n in enumerate(count)}
            for part, count in counts.items()
        },
        "formats": {name: n for name, n in every.formats.items() if name},
        "sizes": median_size(examined),
        "mean": mean,
        "std": std,
    }


def median_size(examined: Examined) -> Sizes | None:
    """The sizes' median, least and most; None where no image can be decoded."""
    sizes = examined.sizes[examined.whole]
    if not len(sizes):
        return None
    order = np.argsort(sizes.prod(axis=1), kind="stable")
    median, smallest, largest = np.median(sizes, axis=0).astype(int), sizes[order[0]], sizes[order[-1]]
    return Sizes(
        median=(int(median[0]), int(median[1])),
        smallest=(int(smallest[0]), int(smallest[1])),
        largest=(int(largest[0]), int(largest[1])),
    )
