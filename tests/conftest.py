"""What all tests share: one thread each, as two test processes run side by side, and where real data lies."""

import ctypes
import functools
import hashlib
import http.server
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch

from resnetkit import downloads
from resnetkit.catalog.datasets import DATASETS, RemoteFile

torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # of the commands that tests start


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images and weights; the test is skipped, saying so, where none is named."""
    folder = os.environ.get("RESNETKIT_REAL_DATA")
    if not folder:
        pytest.skip("RESNETKIT_REAL_DATA is unset: it names the folder of real images and trained weights")
    return Path(folder)


@pytest.fixture
def without_privileges() -> Callable[[], None]:
    """A `preexec_fn` that makes even root obey file permissions: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH go."""
    if not sys.platform.startswith("linux"):
        pytest.skip("drops Linux capabilities to make root obey permissions")

    def drop() -> None:
        for capability in (1, 2):
            ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)

    return drop


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run on real handwriting, good enough to tell most digits apart."""
    from resnetkit.api.training import train

    folder = tmp_path_factory.mktemp("runs") / "digits"
    train("digits", output=folder, epochs=8, batch_size=64, precision="float32")
    return folder


@pytest.fixture(scope="session")
def operators_read_once() -> Iterator[None]:
    """torch parses the source of all its ONNX operators again for each model: half of the time for a small one."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(functools.cache(ONNXRegistry.from_torchlib)))
        yield


@dataclass
class Server:
    """What it holds, which faults it has, and which requests came."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cuts: int = 0
    """so many answers break off after a third"""
    errors: list[int] = field(default_factory=list)
    """the first answers have these codes"""
    ranges: bool = True
    lengths: bool = True
    redirects: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    """given with every answer"""
    requests: list[tuple[str, str, str | None, str | None]] = field(default_factory=list)

    @property
    def gets(self) -> list[tuple[str, str | None]]:
        return [(path, part) for method, path, part, _ in self.requests if method == "GET"]


@pytest.fixture
def server() -> Iterator[Server]:
    """A server on this machine with every fault that a network has."""
    state = Server(files={"/file.bin": bytes(range(256)) * 4000})

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self, body: bool) -> None:
            part = self.headers.get("Range")
            state.requests.append((self.command, self.path, part, self.headers.get("Authorization")))
            if state.errors and body:
                self.send_error(state.errors.pop(0))
                return
            if self.path in state.redirects:
                self.send_response(302)
                self.send_header("Location", state.redirects[self.path])
                self.more_headers()
                self.end_headers()
                return
            if self.path not in state.files:
                self.send_error(404)
                return
            content = state.files[self.path]
            start = int(part[6:-1]) if part and state.ranges else 0
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            if state.lengths:
                self.send_header("Content-Length", str(len(content) - start))
            self.more_headers()
            self.end_headers()
            if body:
                cut = state.cuts > 0
                state.cuts -= cut
                self.wfile.write(content[start : start + len(content) // 3] if cut else content[start:])

        def more_headers(self) -> None:
            for name, value in state.headers.items():
                self.send_header(name, value)

        def do_GET(self) -> None:
            self.answer(body=True)

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        state.url = f"http://127.0.0.1:{running.server_address[1]}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        running.shutdown()
        thread.join()


@pytest.fixture
def publish(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """publish("cifar10", archive, …): the server has these instead of the real files; gives the cache's folder."""
    monkeypatch.setenv("RESNETKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(downloads, "_PAUSE", 0.001)

    def put(name: str, *contents: bytes) -> Path:
        files = []
        for old, content in zip(DATASETS[name].files, contents, strict=True):
            path = "/" + old.url.rsplit("/", 1)[-1]
            server.files[path] = content
            digest = {"sha256": hashlib.sha256(content).hexdigest()} if old.sha256 else {
                "md5": hashlib.md5(content).hexdigest()
            }  # fmt: skip
            files.append(RemoteFile(url=server.url + path, size=old.size, **digest))
        monkeypatch.setitem(DATASETS, name, replace(DATASETS[name], files=tuple(files)))
        return tmp_path / "cache" / "data" / name

    return put
