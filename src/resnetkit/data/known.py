"""Data sets known by name: downloaded once, verified, laid out in the user's cache, then opened like any other."""

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock

from resnetkit.catalog.datasets import KnownDataSet, RemoteFile
from resnetkit.data.converting import convert
from resnetkit.data.decode import printable, reading_failed
from resnetkit.data.places import ELSEWHERE, cache_folder
from resnetkit.downloads import download
from resnetkit.errors import DataError, DownloadFailed, WriteFailed

Progress = Callable[[str, int, int], None]
"""called with what is being done, how much of it is done, and how much there is"""


def local_copy(name: str, row: KnownDataSet, progress: Progress | None = None) -> Path:
    """The data set's file or folder on this machine, made now if need be, once under several processes.

    Raises `DataError` where it cannot be fetched, `WriteFailed` where it cannot be kept.
    """
    home = cache_folder() / "data" / name
    ready = home / "ready"
    try:
        home.mkdir(parents=True, exist_ok=True)
        with FileLock(home / "lock"):
            if not ready.is_dir():
                files = [_fetched(name, file, home, progress) for file in row.files]
                _lay_out(name, row, files, home, progress)
                for file in files:
                    file.unlink()
            return ready / (ready / "open").read_text(encoding="utf-8")
    except OSError as error:
        raise WriteFailed(
            f"{printable(home)}: {name} cannot be kept there: {reading_failed(error)}; {ELSEWHERE}"
        ) from error


def _fetched(name: str, file: RemoteFile, home: Path, progress: Progress | None) -> Path:
    target = home / urlsplit(file.url).path.rsplit("/", 1)[-1]

    def tell(done: int, total: int | None) -> None:
        if progress:
            progress(f"downloading {target.name}, MiB", done >> 20, (total or file.size or done) >> 20)

    try:
        return download(file.url, target, sha256=file.sha256, md5=file.md5, progress=tell)
    except DownloadFailed as error:
        raise DataError(f"{error}, or give the folder, table or .npz of your own copy of {name} as DATA") from error


def _lay_out(name: str, row: KnownDataSet, files: list[Path], home: Path, progress: Progress | None) -> None:
    """All or nothing: the folder gets its name when it is whole."""
    begun = home / "begun"
    shutil.rmtree(begun, ignore_errors=True)
    begun.mkdir()
    total = max(file.stat().st_size for file in files) >> 20
    tell = partial(progress, f"unpacking {name}, MiB") if progress else None
    opened = convert(files, begun, row, lambda done: tell(done >> 20, total) if tell else None)
    (begun / "open").write_text(opened, encoding="utf-8")
    os.replace(begun, home / "ready")
