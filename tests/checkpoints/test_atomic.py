"""Whoever reads a file finds the old one or the new one; real full disks, real kills."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import resnetkit
from resnetkit.checkpoints.atomic import write_atomically, write_tensors
from resnetkit.errors import WriteFailed


def text_writer(text: str):
    return lambda temporary: temporary.write_text(text)


def test_new_folders_are_made_and_nothing_else_is_left(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "file.txt"
    write_atomically(target, text_writer("one"))
    write_atomically(target, text_writer("two"))
    assert target.read_text() == "two"
    assert os.listdir(target.parent) == ["file.txt"]


def test_readable_as_any_other_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_tensors(tmp_path / "tensors.safetensors", {"a": torch.zeros(2)})
    assert (tmp_path / "tensors.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_who_reads_the_old_file_goes_on_reading_it(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    with target.open() as reader:
        write_atomically(target, text_writer("new"))
        assert reader.read() == "old"
    assert target.read_text() == "new"


def test_a_failing_writer_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")

    def half(temporary: Path) -> None:
        temporary.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(target, half)
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to(tmp_path / "real.txt")
    write_atomically(tmp_path / "link.txt", text_writer("new"))
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"


def test_paths_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(WriteFailed, match="a part of that path is a file"):
        write_atomically(tmp_path / "file" / "inside.txt", text_writer("x"))
    with pytest.raises(WriteFailed, match="name a file inside it"):
        write_atomically(tmp_path, text_writer("x"))


def test_memory_formats_survive(tmp_path: Path) -> None:
    weight = torch.randn(4, 3, 3, 3).contiguous(memory_format=torch.channels_last)
    write_tensors(tmp_path / "a.safetensors", {"weight": weight})
    assert torch.equal(load_file(tmp_path / "a.safetensors")["weight"], weight)


def as_here() -> dict[str, str]:
    """The package that this process tests, wherever another may be installed."""
    return {**os.environ, "PYTHONPATH": str(Path(resnetkit.__file__).parents[1])}


def in_a_subprocess(code: str, first: Callable[[], None] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, timeout=120, check=False, env=as_here(), preexec_fn=first,
    )  # fmt: skip


def test_no_space_left(tmp_path: Path) -> None:
    """A limit on file size stops the write in the middle, as a full disk does."""
    target = tmp_path / "model.safetensors"
    write_tensors(target, {"a": torch.ones(3)})
    done = in_a_subprocess(f"""
import resource, torch
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
from resnetkit.checkpoints.atomic import write_tensors
write_tensors({str(target)!r}, {{"a": torch.zeros(100_000)}})
""")
    line = done.stderr.splitlines()[-1]
    assert line.startswith("resnetkit.errors.WriteFailed: cannot write")
    assert "choose another folder; what stood there is intact" in line
    assert torch.equal(load_file(target)["a"], torch.ones(3))
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_full_file_system(tmp_path: Path) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], capture_output=True).returncode:
        pytest.skip("this user may not mount a small file system")
    try:
        target = tmp_path / "model.safetensors"
        write_tensors(target, {"a": torch.ones(3)})
        with pytest.raises(WriteFailed, match="no space is left there"):
            write_tensors(target, {"a": torch.zeros(100_000)})
        assert torch.equal(load_file(target)["a"], torch.ones(3))
        assert os.listdir(tmp_path) == ["model.safetensors"]
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_no_permission(tmp_path: Path, without_privileges: Callable[[], None]) -> None:
    tmp_path.chmod(0o500)
    done = in_a_subprocess(
        f"""
from pathlib import Path
from resnetkit.checkpoints.atomic import write_atomically
from resnetkit.errors import WriteFailed
try:
    write_atomically(Path({str(tmp_path)!r}, "file.txt"), lambda temporary: temporary.write_text("x"))
except WriteFailed as error:
    print(error)
""",
        without_privileges,
    )
    assert "mend its permissions" in done.stdout, done.stderr
    assert os.listdir(tmp_path) == []


def test_killed_while_writing(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    done = in_a_subprocess(f"""
import os, signal
from resnetkit.checkpoints.atomic import write_atomically
def half(path):
    path.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
write_atomically({str(target)!r}, half)
""")
    assert done.returncode == -signal.SIGKILL
    assert target.read_text() == "old"
