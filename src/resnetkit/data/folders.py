"""Class folders: find the image files below a folder, by part and by class."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from resnetkit.data.decode import IMAGE_SUFFIXES, printable, reading_failed
from resnetkit.data.grouping import PART_NAMES, listed, sources_of
from resnetkit.data.sources import FileSource
from resnetkit.errors import DataError


@dataclass
class _Found:
    """What a walk met on its way."""

    others: Counter[str] = field(default_factory=Counter)
    """files that are no images, by suffix"""
    hidden: int = 0


def folder_parts(root: Path) -> tuple[dict[str, FileSource], tuple[str, ...]]:
    """Sources by part ("train", "val", "test", or "all" for class folders alone), and notes for the person."""
    found, where = _Found(), printable(root)
    folders = _folders(root, found)
    parts = {folder: PART_NAMES[folder.lower()] for folder in folders if folder.lower() in PART_NAMES}
    is_split = "train" in parts.values() or (bool(parts) and len(parts) == len(folders))
    notes = []
    if is_split:
        clashes = [part for part, times in Counter(parts.values()).items() if times > 1]
        if clashes:
            same = ", ".join(f"{folder}/" for folder, part in parts.items() if part == clashes[0])
            raise DataError(f"{where} has more than one {clashes[0]} part: {same}; keep one")
        ignored = [printable(folder) for folder in folders if folder not in parts]
        if ignored:
            notes.append(f"left out beside the parts: {listed(ignored)}")
        grouped = {
            part: _classes(root, folder, _folders(root / folder, found), found) for folder, part in parts.items()
        }
        for part in [part for part, classes in grouped.items() if not classes]:
            if part == "train":
                raise DataError(f"{where}: train/ holds no class folders; give each class its own")
            notes.append(f"the {part} part has no class folders: left out")
            del grouped[part]
    else:
        grouped = {"all": _classes(root, "", folders, found)}
    if not any(paths for classes in grouped.values() for paths in classes.values()):
        raise DataError(f"{where} holds no images in class folders: put each class's images into a folder of its own")
    sources = sources_of(grouped, root, where)
    if found.others:
        kinds = ", ".join(suffix or "no suffix" for suffix, _ in found.others.most_common(5))
        notes.append(f"left out {found.others.total()} files that are no images or in no class folder ({kinds})")
    if found.hidden:
        notes.append(f"left out {found.hidden} hidden files and folders")
    return sources, tuple(notes)


def _classes(root: Path, part: str, folders: list[str], found: _Found) -> dict[str, list[str]]:
    """Image paths, relative to `root` and sorted, by class folder of `root/part`."""
    return {name: sorted(_images(root, os.path.join(part, name), found)) for name in folders}


def _folders(folder: Path, found: _Found) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            names = []
            for entry in entries:
                if _is_hidden(entry.name):
                    found.hidden += 1
                elif _is_folder(entry):
                    names.append(entry.name)
                else:
                    found.others[os.path.splitext(entry.name)[1].lower()] += 1
            return sorted(names)
    except OSError as error:
        raise DataError(f"{printable(folder)}: {reading_failed(error)}") from error


def _images(root: Path, below: str, found: _Found) -> Iterator[str]:
    """Image files anywhere below `root/below`; each folder is entered once, so that looping links end."""
    entered: set[tuple[int, int]] = set()
    ahead = [below]
    while ahead:
        folder = ahead.pop()
        try:
            status = os.stat(os.path.join(root, folder))
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            with os.scandir(os.path.join(root, folder)) as entries:
                for entry in entries:
                    path = os.path.join(folder, entry.name)
                    if _is_hidden(entry.name):
                        found.hidden += 1
                    elif _is_folder(entry):
                        ahead.append(path)
                    elif os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES and _may_be_read(entry):
                        yield path
                    else:
                        found.others[os.path.splitext(entry.name)[1].lower()] += 1
        except OSError as error:
            raise DataError(f"{printable(os.path.join(root, folder))}: {reading_failed(error)}") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _may_be_read(entry: os.DirEntry[str]) -> bool:
    """A file, or a link whatever it leads to (the scan will tell), but no pipe that would never end."""
    return entry.is_symlink() or entry.is_file()


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir")
