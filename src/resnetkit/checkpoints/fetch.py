"""Downloading published weights into the caches that the field's other tools share.

Plain HTTPS instead of a hub library: the hub's protocol is two requests, its cache is files and links, and resuming,
hashes and locks are needed for the authors' own servers anyway. A file that another tool has fetched is found, and the
other way round: HF_HOME and HF_HUB_CACHE (hub), TORCH_HOME (authors' servers), HF_ENDPOINT, HF_TOKEN and
HF_HUB_OFFLINE are honoured, proxies as urllib does (https_proxy, no_proxy).
"""

import contextlib
import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from resnetkit.catalog.pretrained import Pretrained
from resnetkit.errors import CheckpointError

Progress = Callable[[int, int | None], None]
"""called with bytes done and bytes in all, where the server says"""

_TIMEOUT = 30.0  # seconds without a byte
_ATTEMPTS = 5  # in a row that bring nothing
_PAUSE = 0.1  # seconds before the second of them, then twice as long each
_CHUNK = 1 << 20
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
    if weights.hub is not None:
        return _fetch_from_hub(weights.hub, progress)
    if weights.url is None:
        raise CheckpointError(f"{weights.name} has no known source: give a local file with pretrained=PATH")
    target = _torch_cache() / weights.url.rsplit("/", 1)[-1]
    return download(weights.url, target, sha256=weights.hash_prefix, progress=progress)


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


def download(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    headers: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Fetch `url` to `target`: once under several processes, resumed where it was cut, in place only when whole.

    `sha256` is the hash or its first digits. A wrong hash deletes what was fetched and raises `CheckpointError`.
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(target.name + ".lock")):
            if target.is_file():  # another process was faster
                return target
            _fill(url, part, headers or {}, progress)
            _check_hash(url, part, sha256)
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(part, target)
    except OSError as error:
        raise CheckpointError(f"cannot store {url} in {target.parent}: {error.strerror or error}") from error
    return target


def _fill(url: str, part: Path, headers: Mapping[str, str], progress: Progress | None) -> None:
    """All bytes of `url` in `part`; tried again from where it broke, as long as that brings anything."""
    failures = 0
    while failures < _ATTEMPTS:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _continue(url, part, headers, progress):
                return
            reason = "the connection was cut"
        except urllib.error.HTTPError as error:
            if error.code == 416:  # the rest asked for is not there: what lies here is of another file
                part.unlink(missing_ok=True)
                reason = "the server's file has changed"
            elif error.code < 500 and error.code not in (408, 429):
                raise CheckpointError(_refusal(url, error.code)) from error
            else:
                reason = f"the server answers {error.code}"
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            reason = str(getattr(error, "reason", None) or error or type(error).__name__)
        advanced = part.exists() and part.stat().st_size > before
        failures = 0 if advanced else failures + 1
        time.sleep(0 if advanced else _PAUSE * 2**failures)
    raise CheckpointError(
        f"cannot download {url} ({reason}, {_ATTEMPTS} times): try again, it goes on where it stopped, {_ADVICE}"
    )


def _continue(url: str, part: Path, headers: Mapping[str, str], progress: Progress | None) -> bool:
    """Ask for what is missing and append it; True when the file is whole."""
    have = part.stat().st_size if part.exists() else 0
    request = _request(url, {**headers, **({"Range": f"bytes={have}-"} if have else {})})
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
        if have and answer.status != 206:  # this server sends the whole again
            have = 0
        total = _total(answer.headers, have)
        with part.open("ab" if have else "wb") as file:
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                have += len(chunk)
                if progress is not None:
                    progress(have, total)
    return total is None or have == total


def _total(headers: http.client.HTTPMessage, have: int) -> int | None:
    if whole := re.search(r"/(\d+)$", headers.get("Content-Range", "")):
        return int(whole[1])
    length = headers.get("Content-Length")
    return have + int(length) if length and length.isdigit() else None


def _check_hash(url: str, part: Path, expected: str | None) -> None:
    if expected is None:
        return
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(expected.lower()):
        part.unlink()
        raise CheckpointError(
            f"{url} has SHA-256 {found[:16]}… where {expected[:16]} was promised; it was deleted: "
            f"try again, and if it stays so do not trust it, {_ADVICE}"
        )


def _refusal(url: str, code: int) -> str:
    if code in (401, 403):
        return f"{url} may not be read ({code}): accept its terms and set HF_TOKEN, {_ADVICE}"
    if code in (404, 410):
        return f"{url} does not exist ({code}): see `resnetkit list --pretrained`, {_ADVICE}"
    return f"the server refuses {url} ({code}): try again later, {_ADVICE}"


def _request(url: str, headers: Mapping[str, str], method: str = "GET") -> urllib.request.Request:
    request = urllib.request.Request(url, method=method, headers={"User-Agent": "resnetkit"})
    for name, value in headers.items():
        if name == "Authorization":
            request.add_unredirected_header(name, value)  # a token is for the server it was given for
        else:
            request.add_header(name, value)
    return request


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
            answer = opener.open(_request(url, headers, "HEAD"), timeout=_TIMEOUT).headers
        except urllib.error.HTTPError as error:
            if error.code == 404:
                continue
            if error.code not in (301, 302, 303, 307, 308):
                raise CheckpointError(_refusal(url, error.code)) from error
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
    raise CheckpointError(_refusal(url, 404))


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
