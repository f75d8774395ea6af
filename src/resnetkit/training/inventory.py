"""Which images and classes a run learns from, written down so that a later change can be named."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from resnetkit.checkpoints.atomic import write_text_atomically
from resnetkit.data.dataset import DataSet
from resnetkit.data.sources import FileSource, Source
from resnetkit.errors import RunError

_NAMED = 3  # names in a sentence; the rest are counted
_LISTED = 200_000  # images of a data set that is listed by name; of a larger one only the classes are


@final
@dataclass(frozen=True)
class Inventory:
    """Class names, and for each part its images by name with their class; None where there are too many to list."""

    class_names: tuple[str, ...] | None
    parts: Mapping[str, Mapping[str, int]] | None
    sizes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """bytes of each file, by which one that was replaced under its name is noticed; arrays have none, nor early runs"""

    @classmethod
    def of(cls, dataset: DataSet) -> "Inventory":
        """What is there now."""
        parts = {name: part for name, part in dataset.splits.items() if name in ("train", "val")}
        if sum(map(len, parts.values())) > _LISTED:
            return cls(dataset.class_names, None)
        listed: dict[str, Mapping[str, int]] = {
            str(name): {part.name(index): int(label) for index, label in enumerate(part.labels)}
            for name, part in parts.items()
        }
        return cls(dataset.class_names, listed, {str(name): _sizes(part) for name, part in parts.items()})

    def write(self, path: Path) -> None:
        """As JSON, atomically."""
        names = None if self.class_names is None else list(self.class_names)
        text = json.dumps({"class_names": names, "parts": self.parts, "sizes": self.sizes}, ensure_ascii=False)
        write_text_atomically(path, text)

    @classmethod
    def read(cls, path: Path) -> "Inventory | None":
        """What `write` wrote; None where there is none, as in a run of an earlier version."""
        if not path.is_file():
            return None
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            names = values["class_names"]
            return cls(None if names is None else tuple(names), values["parts"], values.get("sizes", {}))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{path} is damaged ({error}): remove it, then changed data can no longer be named"
            ) from error

    def changes(self, now: "Inventory") -> list[str]:
        """What is different now, as phrases; empty where nothing that is written here is.

        >>> before = Inventory(("cat",), {"train": {"a": 0, "b": 0}})
        >>> before.changes(Inventory(("cat", "dog"), {"train": {"a": 0, "c": 1}}))
        ['class added: dog', 'train: 1 image added (c)', 'train: 1 image gone (b)']
        """
        before, after = set(self.class_names or ()), set(now.class_names or ())
        found = _phrase("class", "classes", "added", after - before) + _phrase(
            "class", "classes", "gone", before - after
        )
        if self.parts is None or now.parts is None:
            return found
        for part in sorted({*self.parts, *now.parts}):
            old, new = self.parts.get(part, {}), now.parts.get(part, {})
            moved = {name for name in old.keys() & new.keys() if self._class(old[name]) != now._class(new[name])}
            found += _counted(part, "added", new.keys() - old.keys()) + _counted(part, "gone", old.keys() - new.keys())
            found += _counted(part, "of another class", moved)
            bytes_before, bytes_now = self.sizes.get(part, {}), now.sizes.get(part, {})
            both = bytes_before.keys() & bytes_now.keys()
            found += _counted(
                part, "replaced by others", {name for name in both if bytes_before[name] != bytes_now[name]}
            )
        return found

    def _class(self, label: int) -> str | int:
        return self.class_names[label] if self.class_names else label


def _sizes(source: Source) -> dict[str, int]:
    """Of the files that are there; decoding will say what is wrong with the others."""
    if not isinstance(source, FileSource):
        return {}
    paths = {source.name(index): source.path(index) for index in range(len(source))}
    return {name: os.path.getsize(path) for name, path in paths.items() if os.path.isfile(path)}


def _phrase(one: str, many: str, how: str, names: set[str]) -> list[str]:
    return [f"{one if len(names) == 1 else many} {how}: {_some(names)}"] if names else []


def _counted(part: str, how: str, names: set[str]) -> list[str]:
    return [f"{part}: {len(names)} image{'s' * (len(names) > 1)} {how} ({_some(names)})"] if names else []


def _some(names: set[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(sorted(names)[:_NAMED]) + more
