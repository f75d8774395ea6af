"""Tables of images: a CSV, TSV or Parquet file with the columns `path`, `label` and, if it likes, `split` and `weight`.

Several labels of an image are separated by `;`; one such row makes the whole table a question of several labels. A
weight says how often training draws an image beside the others: 2 is twice as often as 1, 0 is never.
"""

import csv
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module
from math import inf
from pathlib import Path

import numpy as np

from resnetkit.data.decode import printable, reading_failed
from resnetkit.data.grouping import PART_NAMES, listed, sources_of, sources_of_several
from resnetkit.data.sources import FileSource
from resnetkit.errors import DataError, MissingExtra

TABLE_SUFFIXES = frozenset((".csv", ".tsv", ".parquet"))
_COLUMNS = ("path", "label", "split", "weight")

Row = Mapping[str, str]


def table_parts(table: Path) -> tuple[dict[str, FileSource], tuple[str, ...]]:
    """Sources by part ("all" without a column `split`), and notes. Paths are relative to the table's folder.

    Raises `DataError` that names the line at fault, `MissingExtra` for Parquet without pyarrow.
    """
    where = printable(table)
    try:
        columns, rows = _read_parquet(table) if table.suffix.lower() == ".parquet" else _read_text(table)
        entries = [_checked(row, f"{where}, line {line}", columns) for line, row in rows]
    except OSError as error:
        raise DataError(f"{where}: {reading_failed(error)}") from error
    if not entries:
        raise DataError(f"{where} lists no images")
    grouped: dict[str, dict[str, list[str]]] = {part: defaultdict(list) for part in ("train", "val", "test", "all")}
    seen: dict[str, _Entry] = {}
    for entry in entries:
        first = seen.setdefault(entry.path, entry)
        if first.part != entry.part:
            raise DataError(f"{entry.where}: {printable(entry.path)} is in {first.part} and in {entry.part}: keep one")
        if first.weight != entry.weight:
            raise DataError(f"{entry.where}: {printable(entry.path)} has weight {first.weight:g} above: keep one")
        for label in entry.labels:
            grouped[entry.part][label].append(entry.path)
    found = {part: classes for part, classes in grouped.items() if classes}
    several = any(len(entry.labels) > 1 for entry in entries)
    sources = (sources_of_several if several else sources_of)(found, table.parent, where)
    if "weight" in columns:
        sources = {part: _weighted(source, seen, where) for part, source in sources.items()}
    others = [column for column in columns if column not in _COLUMNS]
    notes = (f"columns that are not used: {listed(others)}",) if others else ()
    return sources, notes


def _weighted(source: FileSource, seen: Mapping[str, "_Entry"], where: str) -> FileSource:
    weights = np.array([seen[path].weight for path in source.paths])
    if not weights.any():
        raise DataError(f"{where}: all weights of a part are 0: none of its images would ever be drawn")
    return replace(source, weights=weights)


def _read_text(table: Path) -> tuple[list[str], Iterator[tuple[int, Row]]]:
    try:
        # Spreadsheets begin their UTF-8 with a byte order mark.
        lines = table.read_text(encoding="utf-8-sig").splitlines(keepends=True)
        reader = csv.DictReader(lines, delimiter="\t" if table.suffix.lower() == ".tsv" else ",", strict=True)
        columns = _checked_columns(list(reader.fieldnames or ()), table)
        rows = [(reader.line_num, row) for row in reader]
    except UnicodeDecodeError as error:
        raise DataError(f"{printable(table)} is not UTF-8 text: save it as UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{printable(table)} is not a table: {error}") from error
    return columns, iter(rows)


def _read_parquet(table: Path) -> tuple[list[str], Iterator[tuple[int, Row]]]:
    try:
        arrow = import_module("pyarrow")
        parquet = import_module("pyarrow.parquet")
    except ImportError as error:
        raise MissingExtra('Parquet tables need pyarrow: pip install "resnetkit[parquet]"') from error
    try:
        content = parquet.read_table(table)
    except arrow.ArrowException as error:
        raise DataError(f"{printable(table)} is not a readable Parquet file: {str(error).splitlines()[0]}") from error
    columns = _checked_columns(content.column_names, table)
    rows = ({name: "" if value is None else str(value) for name, value in row.items()} for row in content.to_pylist())
    return columns, enumerate(rows, 1)


def _checked_columns(columns: list[str], table: Path) -> list[str]:
    missing = [name for name in _COLUMNS[:2] if name not in columns]
    if missing:
        raise DataError(
            f"{printable(table)} has no column {' and '.join(missing)}: its first line must name path, label "
            f"and, if wanted, split and weight; it says {listed(columns)}"
        )
    return columns


@dataclass(frozen=True)
class _Entry:
    """A row as it is meant."""

    path: str
    labels: tuple[str, ...]
    part: str
    weight: float
    where: str


def _checked(row: Row, where: str, columns: Collection[str]) -> _Entry:
    path, label = (row["path"] or "").strip(), (row["label"] or "").strip()
    if not path or not label:
        raise DataError(f"{where}: {'path' if not path else 'label'} is empty")
    if "\0" in path:
        raise DataError(f"{where}: the path holds a zero byte")
    labels = tuple(part.strip() for part in label.split(";"))
    if not all(labels) or len(set(labels)) < len(labels):
        raise DataError(f"{where}: labels {printable(label)!r} hold an empty or repeated one between the semicolons")
    part = "all"
    if "split" in columns:
        named = (row["split"] or "").strip()
        if named.lower() not in PART_NAMES:
            raise DataError(f"{where}: split {printable(named)!r} is none of train, val, test")
        part = PART_NAMES[named.lower()]
    return _Entry(path, labels, part, _weight(row, where) if "weight" in columns else 1.0, where)


def _weight(row: Row, where: str) -> float:
    text = (row["weight"] or "").strip()
    with suppress(ValueError):
        if 0 <= (weight := float(text)) < inf:
            return weight
    raise DataError(f"{where}: weight {printable(text)!r} is not a number from 0 on")
