"""Downloading a file: once under several processes, resumed where it was cut, in place only when whole and right.

Plain HTTPS by the standard library; proxies are honoured as urllib does (https_proxy, no_proxy).
"""

import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from filelock import FileLock

from resnetkit.errors import DownloadFailed

Progress = Callable[[int, int | None], None]
"""called with bytes done and bytes in all, where the server says"""

TIMEOUT = 30.0
"""seconds without a byte"""

_ATTEMPTS = 5  # in a row that bring nothing
_PAUSE = 0.1  # seconds before the second of them, then twice as long each
_CHUNK = 1 << 20


def download(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    headers: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Fetch `url` to `target`: once under several processes, resumed where it was cut, in place only when whole.

    `sha256` and `md5` are the hash or its first digits. A wrong one deletes what was fetched and raises
    `DownloadFailed`, as does whatever else prevents it.
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(target.name + ".lock")):
            if target.is_file():  # another process was faster
                return target
            _fill(url, part, headers or {}, progress)
            _check_hash(url, part, "SHA-256", sha256)
            _check_hash(url, part, "MD5", md5)
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(part, target)
    except OSError as error:
        raise DownloadFailed(f"cannot store {url} in {target.parent}: {error.strerror or error}") from error
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
                raise refusal(url, error.code) from error
            else:
                reason = f"the server answers {error.code}"
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            reason = str(getattr(error, "reason", None) or error or type(error).__name__)
        advanced = part.exists() and part.stat().st_size > before
        failures = 0 if advanced else failures + 1
        time.sleep(0 if advanced else _PAUSE * 2**failures)
    raise DownloadFailed(f"cannot download {url} ({reason}, {_ATTEMPTS} times): try again, it goes on where it stopped")


def _continue(url: str, part: Path, headers: Mapping[str, str], progress: Progress | None) -> bool:
    """Ask for what is missing and append it; True when the file is whole."""
    have = part.stat().st_size if part.exists() else 0
    request = request_for(url, {**headers, **({"Range": f"bytes={have}-"} if have else {})})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
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


def _check_hash(url: str, part: Path, kind: str, expected: str | None) -> None:
    if expected is None:
        return
    with part.open("rb") as file:
        found = hashlib.file_digest(file, kind.replace("-", "").lower()).hexdigest()
    if not found.startswith(expected.lower()):
        part.unlink()
        raise DownloadFailed(
            f"{url} has {kind} {found[:16]}… where {expected[:16]} was promised; it was deleted: "
            "try again, and if it stays so do not trust it"
        )


def refusal(url: str, code: int) -> DownloadFailed:
    """What a server's answer that will not change means."""
    if code in (401, 403):
        return DownloadFailed(f"{url} may not be read ({code})", code)
    if code in (404, 410):
        return DownloadFailed(f"{url} does not exist ({code})", code)
    return DownloadFailed(f"the server refuses {url} ({code}): try again later", code)


def request_for(url: str, headers: Mapping[str, str], method: str = "GET") -> urllib.request.Request:
    """A request that gives its token to the named server alone."""
    request = urllib.request.Request(url, method=method, headers={"User-Agent": "resnetkit"})
    for name, value in headers.items():
        if name == "Authorization":
            request.add_unredirected_header(name, value)  # a token is for the server it was given for
        else:
            request.add_header(name, value)
    return request
