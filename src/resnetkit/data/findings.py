"""What a check of a data set can find, as rows: how many, which, what training does about it, and what mends it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from resnetkit.catalog.preprocessing import Normalisation
from resnetkit.data.duplicates import Likeness
from resnetkit.data.inspection import Album, Inspection, Look
from resnetkit.data.sources import Indices, Source

Level = Literal["harm", "caution", "note"]
"""harm: training would stop, learn something false, or be scored falsely; note: it is taken care of"""


@final
@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is the matter with `count` of `of` images (or classes)."""

    kind: str
    """a word for programs, such as "truncated" """
    level: Level
    title: str
    count: int
    of: int
    names: tuple[str, ...]
    """all of them; copies of each other as "a = b", the first five of many"""
    groups: tuple[tuple[str, ...], ...] = ()
    """where they are copies of each other: every group, with every name"""
    consequence: str
    """what training will do about it, or suffer from it"""
    remedy: str | None = None
    """the command that mends it, if one does"""

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "names": list(self.names), "groups": [list(group) for group in self.groups]}


@final
@dataclass(frozen=True, eq=False)
class Examined:
    """All images of a data set in one row, part after part, with what was seen of each."""

    parts: tuple[str, ...]
    sources: tuple[Source, ...]
    looks: tuple[Look, ...]
    part: Indices
    """of each image its part's place in `parts`"""
    labels: Indices
    answers: Indices
    """equal for images with equal labels, be they one or several"""
    whole: NDArray[np.bool_]
    sizes: NDArray[np.int64]
    alike: Likeness
    normalisation: Normalisation | None
    """mean and std of the pixels; None where no image can be decoded"""

    @classmethod
    def of(cls, sources: dict[str, Source], inspections: Sequence[Inspection]) -> "Examined":
        """From the parts of a data set and a look at each."""
        counts = [len(source) for source in sources.values()]
        every = Inspection([look for inspection in inspections for look in inspection.looks])
        sizes, whole = every.sizes, every.whole
        labels = np.concatenate([source.labels for source in sources.values()])
        targets = [source.targets for source in sources.values() if source.targets is not None]
        answers = np.unique(np.concatenate(targets), axis=0, return_inverse=True)[1] if targets else labels
        album = Album(len(every.looks))
        for look in every.looks:
            album.add(look)
        return cls(
            parts=tuple(sources), sources=tuple(sources.values()), looks=tuple(every.looks),
            part=np.repeat(np.arange(len(counts)), counts), labels=labels, answers=answers, whole=whole, sizes=sizes,
            alike=album.likeness(), normalisation=every.normalisation(),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.looks)

    def place(self, row: int) -> tuple[Source, int]:
        """The source that holds an image, and its index there."""
        part = int(self.part[row])
        return self.sources[part], row - int(np.searchsorted(self.part, part))

    def name(self, row: int) -> str:
        """What people call it."""
        source, index = self.place(row)
        return source.name(index)

    def names(self, rows: Indices | Sequence[int]) -> tuple[str, ...]:
        """Of several images."""
        return tuple(self.name(int(row)) for row in rows)

    def class_name(self, label: int) -> str:
        """The class's name, or its number where the data does not name it."""
        names = self.sources[0].class_names
        return names[label] if names else str(label)
