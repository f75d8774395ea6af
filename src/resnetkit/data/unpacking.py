"""Archives from elsewhere: only plain files, only inside the folder, no more than its size can hold."""

import os
import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from resnetkit.data.decode import printable
from resnetkit.errors import DataError

_GROWTH = 4  # of images, which are compressed already
_ALLOWANCE = 64 << 20  # bytes that small archives may hold besides


def unpack(archive: Path, folder: Path, progress: Callable[[int], None] | None = None) -> None:
    """Write the files of a `.tar.gz` below `folder`; `progress` gets the bytes of the archive that are read.

    Raises `DataError` for a member that would lie outside, that is no plain file, that claims more than could be in
    an archive of this size, and for a damaged archive. What was written before stays.
    """
    most = _GROWTH * archive.stat().st_size + _ALLOWANCE
    where, total = printable(archive.name), 0
    try:
        with archive.open("rb") as stream, tarfile.open(fileobj=stream, mode="r:gz") as tar:
            for member in tar:
                if member.isdir():
                    continue
                target = _inside(folder, member, where)
                total += member.size
                if total > most:
                    raise DataError(
                        f"{where} claims to hold more than {most >> 20} MiB: refused as a possible decompression bomb"
                    )
                target.parent.mkdir(parents=True, exist_ok=True)
                content = tar.extractfile(member)
                assert content is not None  # of a plain file
                with target.open("xb") as file:
                    shutil.copyfileobj(content, file, 1 << 20)
                if target.stat().st_size != member.size:
                    raise DataError(f"{where} is cut short: {printable(member.name)} is not whole")
                if progress:
                    progress(stream.tell())
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{where} is not a whole .tar.gz: {error}") from error


def _inside(folder: Path, member: tarfile.TarInfo, where: str) -> Path:
    """Where a member goes."""
    name = printable(member.name)
    if not member.isreg():
        raise DataError(f"{where} holds {name}, which is no plain file: refused")
    path = PurePosixPath(member.name)
    if (
        not path.parts
        or path.is_absolute()
        or ".." in path.parts
        or "\\" in member.name
        or ":" in path.parts[0]
        or "\0" in member.name
    ):
        raise DataError(f"{where} holds {name}, which would lie outside of its folder: refused")
    return folder / os.path.join(*path.parts)
