"""Several processes on this machine train what one would, and none waits for one that is gone."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from resnetkit.api.training import resume, train
from resnetkit.training.plan import Plan
from resnetkit.training.processes import Processes

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
# A calm rate: what rounding makes different grows with every step.
FLAGS = {"epochs": 2, "batch_size": 200, "lr": 0.02, "checkpoint_steps": 4}


def job(
    *words: str | Path, processes: int = 2, program: Sequence[str] = ("-m", "resnetkit")
) -> "subprocess.Popen[str]":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return subprocess.Popen(
        [
            sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes),
            "--master-addr", "127.0.0.1", "--master-port", str(port), *program, "train", *map(str, words),
        ],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip


def flags(**others: object) -> list[str]:
    words = ((f"--{name.replace('_', '-')}", value) for name, value in {**FLAGS, **others}.items())
    return [word for name, value in words for word in ((name,) if value is True else (name, str(value)))]


def lines(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def newest(run: Path) -> dict[str, torch.Tensor]:
    return load_file(sorted((run / "checkpoint").iterdir())[-1])


def rank(pid: str) -> str | None:
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    except OSError:
        return None
    return next((each.removeprefix("RANK=") for each in variables if each.startswith("RANK=")), None)


def children(process: "subprocess.Popen[str]") -> dict[str, int]:
    pids = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return {number: int(pid) for pid in pids if (number := rank(pid)) is not None}


def wait_for(run: Path, step: int, process: "subprocess.Popen[str]") -> None:
    until = time.monotonic() + 120
    while not any(int(path.stem[5:]) >= step for path in (run / "checkpoint").glob("step-*.safetensors")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.02)


# Calmer still: at 0.02 the momentum of this network's first layers ends a twentieth apart (without mirrors a tenth).
MIRRORED = {"model": "resnet8_w40", "flip": True, "mirrored_weights": True, "lr": 0.002}


@pytest.mark.parametrize("more", [{}, MIRRORED], ids=["as they are", "weights that mirror each other"])
def test_two_processes_train_and_score_as_one_does(tmp_path: Path, more: dict[str, Any]):
    process = job("digits", *flags(**more), "--deterministic", "--output", tmp_path / "two", "--json")
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert json.loads(output)["best"]["n"] == 144, "one process speaks, and every held-out image is scored once"
    assert Plan.read(tmp_path / "two" / "recipe.yaml").recipe.kernels == "torch"
    train("digits", output=tmp_path / "one", deterministic=True, **{**FLAGS, **more})
    for ours, theirs in zip(lines(tmp_path / "two"), lines(tmp_path / "one"), strict=True):
        for key in ("train_loss", "val_loss"):
            assert ours[key] == pytest.approx(theirs[key], rel=2e-3), key
        for key in ("train_top1", "val_top1"):
            assert ours[key] == pytest.approx(theirs[key], abs=0.015), key
    ours, theirs = newest(tmp_path / "two"), newest(tmp_path / "one")
    assert ours.keys() == theirs.keys()
    for key in theirs:
        torch.testing.assert_close(ours[key], theirs[key], rtol=0.01, atol=0.005, msg=lambda text, key=key: key + text)
    assert lines(tmp_path / "one")[-1]["train_loss"] < lines(tmp_path / "one")[0]["train_loss"], "it did learn"


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for the processes in /proc")
def test_a_process_that_dies_ends_the_job_at_once_and_one_alone_goes_on_from_there(tmp_path: Path):
    run = tmp_path / "run"
    process = job("digits", *flags(epochs=200), "--output", run)
    wait_for(run, 4, process)
    os.kill(children(process)["1"], signal.SIGKILL)
    began = time.monotonic()
    _, errors = process.communicate(timeout=120)
    assert time.monotonic() - began < 20
    assert process.returncode
    assert "another process of this job has ended" in errors
    assert "Signal 9 (SIGKILL)" in errors
    assert sorted((run / "checkpoint").iterdir())


@pytest.mark.slow
def test_a_signal_to_the_job_leaves_a_checkpoint_that_one_process_continues(tmp_path: Path):
    run = tmp_path / "run"
    process = job("digits", *flags(epochs=6), "--deterministic", "--output", run)
    wait_for(run, 4, process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode
    assert f"resnetkit train --resume {run}" in errors
    assert resume(run).epochs == 6


# A disk that is slow once the job is to stop.
SLOW_DISK = """
import sys, time
from pathlib import Path
from resnetkit.cli import main
from resnetkit.training import keeping, loop
own = keeping.save_snapshot
asked = []
stop = loop._Training._stop_if_asked

def stop_if_asked(self, position):
    asked[:] = [True] if self.interruption.agreed(self.processes) else []
    stop(self, position)

def save_snapshot(*words):
    if not asked:
        return own(*words)
    time.sleep(4)
    path = own(*words)
    Path(sys.argv[0]).with_name("written").touch()
    return path

loop._Training._stop_if_asked, keeping.save_snapshot = stop_if_asked, save_snapshot
main(sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for the processes in /proc")
def test_a_signal_to_every_process_of_a_job_leaves_the_first_one_time_to_write(tmp_path: Path):
    run = tmp_path / "run"
    (tmp_path / "slow_disk.py").write_text(SLOW_DISK)
    words = ("digits", *flags(epochs=200, checkpoint_steps=10**6), "--output", run)
    process = job(*words, program=(str(tmp_path / "slow_disk.py"),))
    until = time.monotonic() + 120
    while not (run / "metrics.jsonl").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    for pid in children(process).values():
        os.kill(pid, signal.SIGTERM)  # and once one has ended, torchrun ends the others
    _, errors = process.communicate(timeout=120)
    assert process.returncode
    assert f"resnetkit train --resume {run}" in errors
    assert (tmp_path / "written").exists()


def test_shares_cover_everything_once():
    for count in (1, 2, 3, 7):
        for n in (1, 2, 6, 13):
            shared = [i for each in range(count) for i in range(n)[Processes(each, count).share(n)]]
            assert shared == list(range(n))
