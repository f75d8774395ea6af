"""Tables of images: a CSV, TSV or Parquet file with the columns `path`, `label` and, if it likes, `split`."""

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path

from resnetkit.data.decode import printable, reading_failed
from resnetkit.data.grouping import PART_NAMES, listed, sources_of
from resnetkit.data.sources import FileSource
from resnetkit.errors import DataError, MissingExtra

TABLE_SUFFIXES = frozenset((".csv", ".tsv", ".parquet"))
_COLUMNS = ("path", "label", "split")

Row = Mapping[str, str]


def table_parts(table: Path) -> tuple[dict[str, FileSource], tuple[str, ...]]:
    """Sources by part ("all" without a column `split`), and notes. Paths are relative to the table's folder.

    Raises `DataError` that names the line at fault, `MissingExtra` for Parquet without pyarrow.
    """
    where = printable(table)
    try:
        columns, rows = _read_parquet(table) if table.suffix.lower() == ".parquet" else _read_text(table)
        grouped: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        parts: dict[str, str] = {}
        for line, row in rows:
            path, label, part = _checked(row, f"{where}, line {line}", has_split="split" in columns)
            if parts.setdefault(path, part) != part:
                raise DataError(f"{where}, line {line}: {printable(path)} is in {parts[path]} and in {part}: keep one")
            grouped[part][label].append(path)
    except OSError as error:
        raise DataError(f"{where}: {reading_failed(error)}") from error
    if not grouped:
        raise DataError(f"{where} lists no images")
    others = [column for column in columns if column not in _COLUMNS]
    notes = (f"columns that are not used: {listed(others)}",) if others else ()
    order = [part for part in ("train", "val", "test", "all") if part in grouped]
    return sources_of({part: grouped[part] for part in order}, table.parent, where), notes


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
            f"and, if wanted, split; it says {listed(columns)}"
        )
    return columns


def _checked(row: Row, where: str, *, has_split: bool) -> tuple[str, str, str]:
    """Path, label and part of a row."""
    path, label = (row["path"] or "").strip(), (row["label"] or "").strip()
    if not path or not label:
        raise DataError(f"{where}: {'path' if not path else 'label'} is empty")
    if ";" in label:
        raise DataError(f"{where}: several labels ({printable(label)}): give each image one")
    if "\0" in path:
        raise DataError(f"{where}: the path holds a zero byte")
    if not has_split:
        return path, label, "all"
    part = PART_NAMES.get((row["split"] or "").strip().lower())
    if part is None:
        raise DataError(f"{where}: split {printable(row['split'] or '')!r} is none of train, val, test")
    return path, label, part
