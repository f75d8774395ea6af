"""A table of the images that are fit for training: it takes the data set's place, and no image is touched."""

import csv
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from resnetkit.data.copy_findings import superfluous
from resnetkit.data.findings import Examined
from resnetkit.data.sources import FileSource
from resnetkit.errors import InvalidArgument


@final
@dataclass(frozen=True, kw_only=True)
class Cleaned:
    """A table that was written: how many images it lists, and how many it leaves out, and why."""

    table: Path
    kept: int
    broken: int
    copies: int
    unwritable: int
    """whose names no table can hold, as they are not valid text"""


def refuse_unwritable(table: Path, sources: tuple[object, ...]) -> None:
    """InvalidArgument where no such table can be written, before any work is done."""
    if table.suffix.lower() != ".csv":
        raise InvalidArgument(f"--fix {table}: the cleaned table is a CSV file, name it clean.csv or the like")
    if not all(isinstance(source, FileSource) for source in sources):
        raise InvalidArgument("--fix lists image files, but these images lie in one array file or come by name")


def cleaned_table(examined: Examined, table: Path) -> tuple[str, Cleaned]:
    """Path, label and, where the data has parts, split of each image that can be decoded and is no mere copy.

    As the text of a CSV file that is to lie at `table`: paths are relative to its folder.
    """
    out = superfluous(examined)
    rows: list[dict[str, str]] = []
    unwritable = 0
    for row in np.flatnonzero(examined.whole & ~out).tolist():
        source, index = examined.place(row)
        assert isinstance(source, FileSource)
        entry = {"path": _relative(source.path(index), table), "label": _label(examined, row)}
        if examined.parts != ("all",):
            entry["split"] = examined.parts[examined.part[row]]
        if source.weights is not None:
            entry["weight"] = repr(float(source.weights[index]))
        if _is_text(entry["path"]) and entry["label"]:
            rows.append(entry)
        else:
            unwritable += 1
    return _csv(rows), Cleaned(
        table=table, kept=len(rows), broken=int((~examined.whole).sum()), copies=int((examined.whole & out).sum()),
        unwritable=unwritable,
    )  # fmt: skip


def _csv(rows: list[dict[str, str]]) -> str:
    text = io.StringIO(newline="")
    # All quoted, so that no letter that some program takes for the end of a line divides a path.
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["path", "label"], quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _relative(path: str, table: Path) -> str:
    relative = os.path.relpath(path, table.parent)
    # Readers of tables strip the blanks around a value.
    return os.path.join(os.curdir, relative) if relative != relative.strip() else relative


def _label(examined: Examined, row: int) -> str:
    source, index = examined.place(row)
    targets = source.targets
    labels = np.flatnonzero(targets[index]) if targets is not None else source.labels[index : index + 1]
    return ";".join(examined.class_name(int(label)) for label in labels)


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
