"""Downloads against a server with every fault that a network has."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save as to_bytes

import resnetkit
from resnetkit import downloads
from resnetkit.catalog.architectures import architecture
from resnetkit.catalog.pretrained import Pretrained, pretrained
from resnetkit.checkpoints.compare import network_shapes
from resnetkit.checkpoints.fetch import cached_file, fetch
from resnetkit.checkpoints.transfer import load_local, load_published
from resnetkit.downloads import download
from resnetkit.errors import CheckpointError, DownloadFailed
from resnetkit.models import build, fit_weights

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
COMMIT = "0123456789abcdef0123456789abcdef01234567"


Server = Any  # tests/conftest.py


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setattr(downloads, "_PAUSE", 0.001)
    server.headers = {"X-Repo-Commit": COMMIT, "X-Linked-Etag": f'"{SHA256}"'}


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}


def test_whole(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    target = download(
        f"{server.url}/file.bin",
        tmp_path / "a" / "file.bin",
        sha256=SHA256[:8],
        progress=lambda *step: seen.append(step),
    )
    assert target.read_bytes() == CONTENT
    assert left_in(target.parent) == {"file.bin"}
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    download(f"{server.url}/file.bin", target, sha256=SHA256)
    assert len(server.requests) == 1


@pytest.mark.parametrize("lengths", [True, False])
def test_cut_connections_are_resumed(server: Server, tmp_path: Path, lengths: bool) -> None:
    server.cuts, server.lengths = (2, True) if lengths else (0, False)
    target = download(f"{server.url}/file.bin", tmp_path / "file.bin", sha256=SHA256)
    assert target.read_bytes() == CONTENT
    third = len(CONTENT) // 3
    if lengths:
        assert server.gets == [
            ("/file.bin", None),
            ("/file.bin", f"bytes={third}-"),
            ("/file.bin", f"bytes={2 * third}-"),
        ]


def test_what_an_earlier_process_left_is_used(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:1000])
    assert download(f"{server.url}/file.bin", tmp_path / "file.bin", sha256=SHA256).read_bytes() == CONTENT
    assert server.gets == [("/file.bin", "bytes=1000-")]


def test_a_server_that_cannot_resume(server: Server, tmp_path: Path) -> None:
    server.ranges, server.cuts = False, 1
    assert download(f"{server.url}/file.bin", tmp_path / "file.bin", sha256=SHA256).read_bytes() == CONTENT


def test_a_file_that_shrank(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT + b"more")
    assert download(f"{server.url}/file.bin", tmp_path / "file.bin", sha256=SHA256).read_bytes() == CONTENT


def test_wrong_hash(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match=r"has SHA-256 .* was promised; it was deleted") as caught:
        download(f"{server.url}/file.bin", tmp_path / "file.bin", sha256="deadbeef")
    assert "\n" not in str(caught.value)
    assert left_in(tmp_path) == set()
    with pytest.raises(DownloadFailed, match="has MD5"):
        download(f"{server.url}/file.bin", tmp_path / "file.bin", md5="deadbeef")
    right = hashlib.md5(CONTENT).hexdigest()
    assert download(f"{server.url}/file.bin", tmp_path / "file.bin", md5=right).read_bytes() == CONTENT


def test_truncation_for_ever(server: Server, tmp_path: Path) -> None:
    """A server that says a length and never gives it."""
    server.ranges, server.cuts = False, 100
    with pytest.raises(DownloadFailed, match=r"the connection was cut|IncompleteRead|bytes read"):
        download(f"{server.url}/file.bin", tmp_path / "file.bin")
    assert not (tmp_path / "file.bin").exists()


@pytest.mark.parametrize(("code", "says"), [(404, "does not exist"), (403, "may not be read"), (400, "refuses")])
def test_refusals_are_not_repeated(server: Server, tmp_path: Path, code: int, says: str) -> None:
    server.errors = [code]
    with pytest.raises(DownloadFailed, match=says):
        download(f"{server.url}/file.bin", tmp_path / "file.bin")
    assert len(server.requests) == 1


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.errors = [503, 429, 500]
    assert download(f"{server.url}/file.bin", tmp_path / "file.bin").read_bytes() == CONTENT
    server.errors = [503] * 50
    with pytest.raises(DownloadFailed, match="answers 503, 5 times"):
        download(f"{server.url}/file.bin", tmp_path / "other.bin")


def test_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match=r"cannot download .*refused"):
        download("http://127.0.0.1:9/file.bin", tmp_path / "file.bin")


def test_redirects_are_followed_without_the_token(server: Server, tmp_path: Path) -> None:
    server.redirects = {"/moved": f"{server.url}/file.bin"}
    headers = {"Authorization": "Bearer secret"}
    assert download(f"{server.url}/moved", tmp_path / "file.bin", headers=headers).read_bytes() == CONTENT
    assert [token for *_, token in server.requests] == ["Bearer secret", None]


def test_five_processes_download_once(server: Server, tmp_path: Path) -> None:
    server.cuts = 2
    code = f"""
from pathlib import Path
from resnetkit.downloads import download
download({server.url + "/file.bin"!r}, Path({str(tmp_path / "file.bin")!r}), sha256={SHA256!r})
"""
    here = {**os.environ, "PYTHONPATH": str(Path(resnetkit.__file__).parents[1])}
    processes = [subprocess.Popen([sys.executable, "-c", code], env=here) for _ in range(5)]
    assert [process.wait(120) for process in processes] == [0] * 5
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert len(server.gets) == 3  # one download in three pieces


def of_hub() -> Pretrained:
    return replace(pretrained("resnet18.a1_in1k"), hub="timm/tiny", url=None)


def test_the_hub_and_its_cache(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    server.redirects = {"/timm/tiny/resolve/main/model.safetensors": f"{server.url}/file.bin"}
    path = fetch(of_hub())
    folder = tmp_path / "hf" / "hub" / "models--timm--tiny"
    assert path == folder / "snapshots" / COMMIT / "model.safetensors"
    assert path.resolve() == (folder / "blobs" / SHA256).resolve()
    assert path.read_bytes() == CONTENT
    assert (folder / "refs" / "main").read_text() == COMMIT
    assert {token for _, path, _, token in server.requests if path == "/file.bin"} == {None}
    asked = len(server.requests)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch(of_hub()) == path
    assert len(server.requests) == asked


def test_a_hub_that_lies(server: Server) -> None:
    server.redirects = {"/timm/tiny/resolve/main/model.safetensors": f"{server.url}/other"}
    server.files["/other"] = b"something else"
    with pytest.raises(CheckpointError, match="SHA-256"):
        fetch(of_hub())
    assert cached_file(of_hub()) is None


def test_the_hub_without_the_file(server: Server) -> None:
    with pytest.raises(CheckpointError, match=r"does not exist .*see `resnetkit list --pretrained`, or give a local"):
        fetch(of_hub())
    server.errors = [403]
    server.files["/timm/tiny/resolve/main/model.safetensors"] = CONTENT
    with pytest.raises(CheckpointError, match=r"may not be read .*set HF_TOKEN, or give a local"):
        fetch(of_hub())


def test_offline(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE forbids to download it: unset it, or give a local file"):
        fetch(of_hub())
    assert server.requests == []


def test_authors_servers_and_torch_home(server: Server, tmp_path: Path) -> None:
    weights = replace(of_hub(), hub=None, url=f"{server.url}/file.bin", hash_prefix=SHA256[:8])
    assert fetch(weights) == tmp_path / "torch" / "hub" / "checkpoints" / "file.bin"
    assert fetch(weights).read_bytes() == CONTENT
    assert len(server.requests) == 1


def small_state(num_classes: int = 4) -> dict[str, torch.Tensor]:
    shapes = network_shapes(architecture("resnet20"), num_classes=num_classes, in_chans=3)
    return {key: torch.randn(shape) if shape else torch.tensor(0) for key, shape in shapes.items()}


def test_from_the_server_into_a_network(server: Server, tmp_path: Path) -> None:
    state = small_state()
    server.files["/weights.safetensors"] = to_bytes(state)
    weights = replace(of_hub(), hub=None, url=f"{server.url}/weights.safetensors", hash_prefix=None, num_classes=4)
    loaded = load_published(weights, architecture("resnet20"))
    assert list(loaded) == list(state)
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_other_classes_and_channels() -> None:
    state, row = small_state(), architecture("resnet20")
    grey = fit_weights(build(row, num_classes=4, in_chans=1), state)
    assert torch.equal(grey["conv1.weight"], state["conv1.weight"].sum(1, keepdim=True))
    four = fit_weights(build(row, num_classes=4, in_chans=4), state)["conv1.weight"]
    assert torch.equal(four, state["conv1.weight"][:, [0, 1, 2, 0]] * 0.75)
    seven = build(row, num_classes=7)
    other = fit_weights(seven, state)
    assert torch.equal(other["fc.weight"], seven.fc.weight)
    assert torch.equal(other["layer1.0.conv1.weight"], state["layer1.0.conv1.weight"])
    assert not {"fc.weight", "fc.bias"} & set(fit_weights(build(row, num_classes=0), state))


def test_local_files_and_folders(tmp_path: Path) -> None:
    state = small_state()
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "model.pth")
    for path in (tmp_path, tmp_path / "model.pth"):
        assert torch.equal(load_local(path, architecture("resnet20"))["fc.weight"], state["fc.weight"])
    with pytest.raises(
        CheckpointError, match=r"does not fit this architecture: .*conv1.weight is 16×3×3×3 in the file"
    ):
        load_local(tmp_path, architecture("resnet18"))
    torch.save({**state, "layer2.0.ca.fc.weight": torch.ones(2)}, tmp_path / "more.pth")
    with pytest.raises(CheckpointError, match=r"layer2.0.ca.fc.weight 2 has no place"):
        load_local(tmp_path / "more.pth", architecture("resnet20"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="holds none of"):
        load_local(tmp_path / "empty", architecture("resnet18"))
