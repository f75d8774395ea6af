"""Writing a file so that whoever reads it finds the old one or the new one, never half of either."""

import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from resnetkit.errors import WriteFailed

_ADVICE = {
    errno.ENOSPC: "no space is left there: free some or choose another folder",
    errno.EDQUOT: "your quota there is used up: free some space or choose another folder",
    errno.EFBIG: "the file is larger than this system lets you write: choose another folder",
    errno.EACCES: "you may not write there: choose another folder or mend its permissions",
    errno.EPERM: "you may not write there: choose another folder or mend its permissions",
    errno.EROFS: "that file system is read-only: choose another folder",
    errno.EEXIST: "a part of that path is a file, not a folder: choose another path",
    errno.ENOTDIR: "a part of that path is a file, not a folder: choose another path",
    errno.EISDIR: "that is a folder: name a file inside it",
}


def write_atomically(path: str | Path, write: Callable[[Path], None]) -> None:
    """Call `write` with a temporary path beside `path`, then put the result in place in one step.

    The bytes are on the disk before the name changes, so neither a kill nor a power cut leaves a torn file. Missing
    folders are made; a symbolic link is written through. If anything fails the temporary file is removed and what
    stood at `path` is intact; an OSError becomes `WriteFailed`, whatever else `write` raised goes on as it was.
    """
    target = Path(os.path.realpath(path))
    # The same folder, because a rename is one step only within a file system.
    temporary = target.with_name(f".{target.name[:100]}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        flush(temporary)
        os.replace(temporary, target)
        _flush_folder(target.parent)
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, error.strerror or str(error))
        kept = "; what stood there is intact" if target.is_file() else ""
        raise WriteFailed(f"cannot write {path}: {advice}{kept}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text_atomically(path: str | Path, text: str) -> None:
    """`text` as UTF-8, as `write_atomically` writes."""
    content = text.encode()
    write_atomically(path, lambda temporary: _write(temporary, content))


def remove_unfinished(folder: str | Path) -> None:
    """Remove the temporary files that a writer left in `folder` because it was killed. Nobody may be writing there."""
    for left in Path(folder).glob(".*.part"):
        # What cannot be removed is in nobody's way.
        with contextlib.suppress(OSError):
            left.unlink()


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file atomically; the tensors may lie on any device and in any memory format."""
    plain = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    # Bytes first: safetensors' own file writer hides the system's error number and makes files only their owner reads.
    content = safetensors_bytes(plain, metadata)
    write_atomically(path, lambda temporary: _write(temporary, content))


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def flush(path: Path) -> None:
    """Wait until the file's bytes are on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """A rename is durable once its folder is; Windows neither offers nor needs this."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems refuse to flush a folder; the file itself is already safe.
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
