"""Findings about classes: missing in a part or nearly so, and rare beside others."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.findings import Examined, Finding

_FEW_TO_LEARN = 10
_FEW_TO_SCORE = 5
_UNEVEN = 10.0  # times as many images in the largest class as in the smallest


def class_findings(examined: Examined, train: str) -> list[Finding]:
    """Of the images that can be decoded; `train` is the command that would train."""
    counts = class_counts(examined)
    learned = next((part for part in ("train", "all") if part in counts), None)
    found = []
    for part, count in counts.items():
        missing = np.flatnonzero(count == 0)
        few = np.flatnonzero((count > 0) & (count < (_FEW_TO_LEARN if part == learned else _FEW_TO_SCORE)))
        where = "" if part == "all" else f" in {part}"
        found += [
            Finding(
                kind="class-missing", level="harm" if part == learned else "caution",
                title=f"classes without an image{where}", count=len(missing), of=len(count),
                names=tuple(examined.class_name(label) for label in missing.tolist()),
                consequence="never learned" if part == learned else f"the score on {part} says nothing of them",
            ),
            Finding(
                kind="class-small", level="caution", title=f"classes with few images{where}", count=len(few),
                of=len(count), names=tuple(f"{examined.class_name(label)} ({count[label]})" for label in few.tolist()),
                consequence="hardly learned; add images" if part == learned else "their score is guesswork",
            ),
        ]  # fmt: skip
    if learned is not None and counts[learned].min() > 0:
        count = counts[learned]
        largest, smallest = int(count.argmax()), int(count.argmin())
        if count[largest] >= _UNEVEN * count[smallest]:
            rare = np.flatnonzero(count * _UNEVEN <= count[largest]).tolist()
            found.append(
                Finding(
                    kind="imbalance", level="caution", title="rare classes beside frequent ones", count=len(rare),
                    of=len(count), names=tuple(f"{examined.class_name(label)} ({count[label]})" for label in rare),
                    consequence=f"{examined.class_name(largest)} has {count[largest]} images: the rare ones are easily "
                    "drowned, and accuracy hides it (evaluate shows each class)",
                    remedy=f"{train} --balance loss",
                )
            )  # fmt: skip
    return [finding for finding in found if finding.count]


def class_counts(examined: Examined) -> Mapping[str, NDArray[np.int64]]:
    """Images by class that can be decoded, part by part."""
    counts = {}
    for number, (part, source) in enumerate(zip(examined.parts, examined.sources, strict=True)):
        whole = examined.whole[examined.part == number]
        counts[part] = (
            np.bincount(source.labels[whole], minlength=source.num_classes)
            if source.targets is None
            else source.targets[whole].sum(axis=0, dtype=np.int64)
        )
    return counts
