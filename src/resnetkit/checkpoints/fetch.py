"""Downloading published weights into the caches that the field's other tools share.

Plain HTTPS (`downloads`) instead of a hub library: the hub's protocol is two requests, its cache is files and links,
and resuming, hashes and locks are needed for the authors' own servers anyway. A file that another tool has fetched is
found, and the other way round: HF_HOME and HF_HUB_CACHE (hub), TORCH_HOME (authors' servers), HF_ENDPOINT, HF_TOKEN and
HF_HUB_OFFLINE are honoured.
"""

import contextlib
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from resnetkit.catalog.pretrained import Pretrained
from resnetkit.downloads import TIMEOUT, Progress, download, refusal, request_for
from resnetkit.errors import CheckpointError, DownloadFailed

_FILES = ("model.safetensors", "pytorch_model.bin")
_ADVICE = "or give a local file with pretrained=PATH"


def fetch(weights: Pretrained, progress: Progress | None = None) -> Path:
    """The local file of published weights, downloaded once if need be. `CheckpointError` says why it cannot be had."""
    cached = cached_file(weights)
    if cached is not None:
        return cached
    if _offline():
        raise CheckpointError(
            f"{weights.name} is not in the cache and HF_HUB_OFFLINE forbids to download it: unset it, {_ADVICE}"
        )
    with _of_weights():
        if weights.hub is not None:
            return _fetch_from_hub(weights.hub, progress)
        if weights.url is None:
            raise CheckpointError(f"{weights.name} has no known source: give a local file with pretrained=PATH")
        target = _torch_cache() / weights.url.rsplit("/", 1)[-1]
        return download(weights.url, target, sha256=weights.hash_prefix, progress=progress)


@contextlib.contextmanager
def _of_weights() -> Iterator[None]:
    """What went wrong in a download, with what one can do about it where it is weights that are wanted."""
    try:
        yield
    except DownloadFailed as error:
        more = {401: ": accept its terms and set HF_TOKEN", 403: ": accept its terms and set HF_TOKEN",
                404: ": see `resnetkit list --pretrained`"}.get(error.code or 0, "")  # fmt: skip
        raise CheckpointError(f"{error}{more}, {_ADVICE}") from error


def cached_file(weights: Pretrained) -> Path | None:
    """The file if this machine has it already, whoever fetched it; no network."""
    if weights.hub is not None:
        folder = _hub_folder(weights.hub)
        with contextlib.suppress(OSError):
            commit = (folder / "refs" / "main").read_text().strip()
            for name in _FILES:
                if (found := folder / "snapshots" / commit / name).is_file():
                    return found
    if weights.url is not None and (found := _torch_cache() / weights.url.rsplit("/", 1)[-1]).is_file():
        return found
    return None


# The hub's cache: blobs by hash, snapshots of links by commit, refs that name commits.


@dataclass(frozen=True)
class _HubFile:
    url: str
    commit: str
    etag: str
    name: str


def _fetch_from_hub(repository: str, progress: Progress | None) -> Path:
    token = os.environ.get("HF_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    found = _ask_hub(repository, headers)
    folder = _hub_folder(repository)
    # Files in the hub's large storage are named by their SHA-256, small ones by git's hash, which says nothing here.
    sha256 = found.etag if re.fullmatch(r"[0-9a-f]{64}", found.etag) else None
    blob = download(found.url, folder / "blobs" / found.etag, sha256=sha256, headers=headers, progress=progress)
    link = folder / "snapshots" / found.commit / found.name
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_file():
            _link(blob, link)
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / "main").write_text(found.commit)
    except OSError as error:
        raise CheckpointError(f"cannot store {repository} in {folder}: {error.strerror or error}") from error
    return link


def _ask_hub(repository: str, headers: Mapping[str, str]) -> _HubFile:
    """Which commit and hash the repository's weights have; the redirect to the storage is not followed."""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    opener = urllib.request.build_opener(_NoRedirect)
    url = ""
    for name in _FILES:
        url = f"{endpoint}/{repository}/resolve/main/{name}"
        try:
            answer = opener.open(request_for(url, headers, "HEAD"), timeout=TIMEOUT).headers
        except urllib.error.HTTPError as error:
            if error.code == 404:
                continue
            if error.code not in (301, 302, 303, 307, 308):
                raise refusal(url, error.code) from error
            answer = error.headers
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", None) or error)
            raise CheckpointError(f"cannot reach {endpoint} ({reason}): check network and proxy, {_ADVICE}") from error
        etag = (answer.get("X-Linked-Etag") or answer.get("ETag") or "").removeprefix("W/").strip('"')
        commit = answer.get("X-Repo-Commit") or ""
        # Both become names of files.
        if not re.fullmatch(r"[0-9a-zA-Z_-]{1,128}", etag) or not re.fullmatch(r"[0-9a-f]{1,64}", commit):
            raise CheckpointError(f"{url} answers without commit and hash: is HF_ENDPOINT right? {_ADVICE}")
        return _HubFile(url, commit, etag, name)
    raise refusal(url, 404)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def _link(blob: Path, link: Path) -> None:
    """A relative link, or a copy of the name where the file system has no links."""
    try:
        link.symlink_to(os.path.relpath(blob, link.parent))
    except FileExistsError:
        return
    except OSError:
        os.replace(blob, link)


def _hub_folder(repository: str) -> Path:
    home = Path(os.environ.get("HF_HOME", Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface"))
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    return cache.expanduser() / f"models--{repository.replace('/', '--')}"


def _torch_cache() -> Path:
    home = Path(os.environ.get("TORCH_HOME", Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "torch"))
    return home.expanduser() / "hub" / "checkpoints"


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")
