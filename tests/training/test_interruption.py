"""Real runs in real processes, killed at real moments: whatever happens, --resume ends where no kill would have."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from resnetkit.api.training import resume, train
from resnetkit.data.opening import open_data
from resnetkit.errors import CheckpointError, DataError, RunError, WriteFailed
from resnetkit.training.progress import Event, Stepped
from resnetkit.training.run import Run

FLAGS = ("--epochs", "3", "--deterministic", "--checkpoint-steps", "2", "--batch-size", "256", "--device", "cpu")
# Whatever a step may draw, keep or average.
EVERYTHING = (
    "--drop-path", "0.2", "--dropout", "0.1", "--ema-decay", "0.9", "--ema-every", "2", "--clip-norm", "5",
    "--early-sizes", "0.5", "0.75", "--early-until", "0.3", "0.6",
    "--head-epochs", "0.5", "--layer-decay", "0.7", "--loss", "bce", "--optimiser", "lamb",
    "--lr", "0.01", "--mixup", "0.2", "--cutmix", "1", "--mix-share", "0.8", "--accumulate", "2",
    "--auto-augment", "trivial", "--erasing", "0.2", "--repeats", "2",
)  # fmt: skip


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "resnetkit", *map(str, words)]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def start(*words: str | Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )  # fmt: skip


def kill(process: "subprocess.Popen[str]") -> None:
    """Like a power cut; it must still have been at work."""
    assert process.poll() is None
    process.kill()
    process.communicate()


def newest_step(run: Path) -> int:
    return max((int(path.stem[5:]) for path in (run / "checkpoint").glob("step-*.safetensors")), default=-1)


def wait_for_step(run: Path, step: int, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if newest_step(run) >= step:
            return
        time.sleep(0.002)
    raise AssertionError(f"no checkpoint of step {step}: {process.communicate()[1]}")


@pytest.fixture(scope="module")
def regularised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The like with everything that a recipe can add to a step."""
    run = tmp_path_factory.mktemp("regularised") / "run"
    done = subprocess.run(
        command("train", "digits", *FLAGS, *EVERYTHING, "--output", run),
        capture_output=True, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    run = tmp_path_factory.mktemp("whole") / "run"
    done = subprocess.run(
        command("train", "digits", *FLAGS, "--output", run), capture_output=True, text=True, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stderr
    return run


def metrics(run: Path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in ("epoch", "train_loss", "train_top1", "val_loss", "val_top1")} for line in lines]


def assert_same_end(run: Path, whole: Path) -> None:
    assert metrics(run) == metrics(whole)
    for name in ("model.safetensors", f"checkpoint/{sorted(os.listdir(whole / 'checkpoint'))[-1]}"):
        ours, theirs = load_file(run / name), load_file(whole / name)
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert torch.equal(ours[key], theirs[key]), (name, key)


def test_killed_twice_and_resumed_it_ends_bit_for_bit_as_if_never_stopped(tmp_path: Path, whole: Path):
    run = tmp_path / "run"
    process = start("train", "digits", *FLAGS, "--output", run)
    wait_for_step(run, 4, process)
    kill(process)
    process = start("train", "--resume", run, "--checkpoint-steps", "2")
    wait_for_step(run, 8, process)
    kill(process)
    done = subprocess.run(command("train", "--resume", run), capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert "resumed" in done.stderr
    assert_same_end(run, whole)
    assert not list(run.rglob("*.part")), "a finished run leaves no temporary file"


@pytest.mark.slow
def test_with_every_regulariser_it_ends_bit_for_bit_as_if_never_stopped(tmp_path: Path, regularised: Path):
    run = tmp_path / "run"
    process = start("train", "digits", *FLAGS, *EVERYTHING, "--output", run)
    wait_for_step(run, 8, process)
    kill(process)
    resume(run)
    assert_same_end(run, regularised)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_many_random_moments_it_ends_bit_for_bit_as_if_never_stopped(tmp_path: Path, seed: int):
    # Nearly all of the time goes into starting processes: as many kills as make sure, of a run that is no longer.
    flags = ("--epochs", "4", "--batch-size", "128", "--deterministic", "--device", "cpu", *EVERYTHING)
    whole, run = tmp_path / "whole", tmp_path / "run"
    undisturbed = start("train", "digits", *flags, "--output", whole)
    _, errors = undisturbed.communicate(timeout=300)
    assert undisturbed.returncode == 0, errors
    random, kills = Random(seed), 0
    process = start("train", "digits", *flags, "--checkpoint-steps", "3", "--output", run)
    while True:
        further = newest_step(run) + random.randint(1, 6)
        while process.poll() is None and newest_step(run) < further:
            time.sleep(0.002)
        time.sleep(random.uniform(0, 0.15))  # in mid-step, in mid-writing, in mid-validation
        if process.poll() is not None:
            break
        kill(process)
        kills += 1
        process = start("train", "--resume", run, "--checkpoint-steps", str(random.choice((1, 2, 3, 4))))
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert kills >= 6
    assert_same_end(run, whole)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_step_writes_a_checkpoint_and_says_how_to_go_on(
    tmp_path: Path, whole: Path, sent: signal.Signals, code: int
):
    run = tmp_path / "run"
    process = start("train", "digits", *FLAGS, "--output", run)
    wait_for_step(run, 2, process)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    assert f"resnetkit train --resume {run}" in errors.splitlines()[-1]
    resume(run)
    assert_same_end(run, whole)


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """Images of which 128 take a processor a while to learn from, and 1,500 to be scored."""
    images = np.random.default_rng(0).integers(0, 256, (1_628, 48, 48, 3), np.uint8)
    labels = np.arange(len(images))[:, None] % 2
    path = tmp_path / "noise.npz"
    np.savez(
        path, train_images=images[:128], train_labels=labels[:128], val_images=images[128:], val_labels=labels[128:]
    )
    return path


def test_a_request_to_stop_that_arrives_twice_is_one(tmp_path: Path, noise: Path):
    run = tmp_path / "run"
    flags = ("--epochs", "9", "--deterministic", "--batch-size", "128", "--device", "cpu")
    process = start("train", noise, *flags, "--output", run)
    wait_for_step(run, 0, process)
    for _ in range(2):  # as a job manager and torchrun both send it
        time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 143, errors
    assert f"resnetkit train --resume {run}" in errors.splitlines()[-1]
    assert newest_step(run) == 1, "the step is finished"


# In a process of its own: in a whole run this ended its worker of pytest-xdist, for a reason that was not found.
TWICE_AND_ONCE_MORE = """
import signal, time
from resnetkit.training.interruption import noted_interruption
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background has another
try:
    with noted_interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        print(interruption.received.name)
        time.sleep(2.1)
        signal.raise_signal(signal.SIGINT)
        print("still going")
except KeyboardInterrupt:
    print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""


def test_a_second_signal_after_a_moment_acts_at_once():
    process = subprocess.run(
        [sys.executable, "-c", TWICE_AND_ONCE_MORE], capture_output=True, text=True, env=ENVIRONMENT
    )
    assert process.stdout.split() == ["SIGINT", "True"], process.stderr


# A run that says after which step it is.
TELLING = (
    "import sys; from resnetkit.cli import main; from resnetkit.training import loop;"
    "own = loop._Training._stepped;"
    "loop._Training._stepped = lambda self, position: (own(self, position), print(position.steps_done, flush=True));"
    "main(sys.argv[1:])"
)


def test_a_signal_during_a_long_validation_is_answered_before_its_end(tmp_path: Path, noise: Path):
    flags = ("--epochs", "1", "--deterministic", "--batch-size", "64", "--device", "cpu")
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", TELLING, "train", noise, *flags, "--output", run],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    assert process.stdout
    assert [process.stdout.readline(), process.stdout.readline()] == ["1\n", "2\n"]
    time.sleep(0.5)  # no step is left, and the validation takes many times that
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 143, errors
    assert newest_step(run) == 2, "the steps are kept"
    assert not (run / "metrics.jsonl").exists(), "it did not wait for the end of the validation"
    resume(run)
    train(noise, output=tmp_path / "whole", epochs=1, deterministic=True, batch_size=64, device="cpu")
    assert_same_end(run, tmp_path / "whole")


def test_images_that_are_gone_in_mid_epoch_cost_nothing_that_was_learnt(tmp_path: Path):
    source = open_data("digits").split("train")
    for index in range(120):
        folder = tmp_path / "data" / str(source.labels[index] % 2)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(source.image(index)[..., 0]).save(folder / f"{index}.png")
    settings = {"epochs": 2, "batch_size": 4, "deterministic": True, "workers": 1, "device": "cpu"}
    train(tmp_path / "data", output=tmp_path / "whole", **settings)

    def listen(event: Event) -> None:
        if isinstance(event, Stepped) and (event.epoch, event.step) == (2, 3):
            (tmp_path / "data").rename(tmp_path / "gone")

    with pytest.raises(DataError, match=f"continue with: resnetkit train --resume {tmp_path / 'run'}"):
        train(tmp_path / "data", output=tmp_path / "run", listener=listen, **settings)
    steps_an_epoch = int(sorted(os.listdir(tmp_path / "whole" / "checkpoint"))[-1][5:13]) // 2
    assert newest_step(tmp_path / "run") >= steps_an_epoch + 3
    (tmp_path / "gone").rename(tmp_path / "data")
    resume(tmp_path / "run")
    assert_same_end(tmp_path / "run", tmp_path / "whole")


def test_what_a_killed_writer_left_is_removed(tmp_path: Path):
    run = train("digits", output=tmp_path / "run", epochs=1, batch_size=512, device="cpu").run
    left = [run / ".metrics.jsonl.17-0badcafe.part", run / "checkpoint" / ".step-00000003.safetensors.17-0badcafe.part"]
    for path in left:
        path.write_bytes(b"half")
    resume(run)
    assert not [path for path in left if path.exists()]


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(tmp_path: Path, whole: Path):
    run = tmp_path / "run"
    process = start("train", "digits", *FLAGS, "--output", run)
    wait_for_step(run, 6, process)
    kill(process)
    newest = sorted((run / "checkpoint").glob("step-*.safetensors"))[-1]
    content = bytearray(newest.read_bytes())
    content[-5] ^= 0xFF
    newest.write_bytes(content)
    said: list[str] = []
    resume(run, listener=lambda event: said.append(str(event)))
    assert any(newest.name in line and "damaged" in line for line in said)
    assert_same_end(run, whole)


def test_with_all_checkpoints_damaged_it_says_so_and_stops(tmp_path: Path):
    run = tmp_path / "run"
    train("digits", output=run, epochs=1, batch_size=512, deterministic=True)
    for path in (run / "checkpoint").glob("step-*"):
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="no intact checkpoint is left"):
        resume(run)


def test_early_stopping_ends_after_so_many_epochs_without_a_better_one(tmp_path: Path):
    # Nothing can change, so the first epoch stays the best.
    fields = {"freeze": "body", "lr": 1e-30, "early_stopping": 2, "batch_size": 256}
    assert train("digits", output=tmp_path / "run", epochs=9, deterministic=True, **fields).epochs == 3
    assert resume(tmp_path / "run").epochs == 3, "it stays over"
    assert train("digits", output=tmp_path / "short", epochs=2, deterministic=True, **fields).epochs == 2


def test_every_epoch_takes_every_step(whole: Path):
    # 1293 images in batches of 256 are six steps an epoch, the last of 13 images.
    assert sorted(os.listdir(whole / "checkpoint"))[-1] == "step-00000018.safetensors"
    assert [line["epoch"] for line in metrics(whole)] == [1, 2, 3]


def test_a_finished_run_can_be_resumed_without_harm(whole: Path):
    before = (whole / "model.safetensors").read_bytes()
    result = resume(whole)
    assert result.epochs == 3
    assert (whole / "model.safetensors").read_bytes() == before


def test_resuming_what_is_no_run_is_one_clear_error(tmp_path: Path):
    with pytest.raises(RunError, match="is no run folder"):
        resume(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"holds no recipe\.yaml"):
        resume(tmp_path)


def test_a_run_is_never_overwritten(whole: Path):
    with pytest.raises(RunError, match="already holds a run"):
        train("digits", output=whole, epochs=1)


def test_recipe_yaml_runs_it_again(tmp_path: Path, whole: Path):
    train(recipe=whole / "recipe.yaml", output=tmp_path / "again", checkpoint_steps=2)
    assert_same_end(tmp_path / "again", whole)


# The system's own limit on the size of a file stands for a full disk: write() fails with an error number.
SMALL_FILES = (
    "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY));"
    "from resnetkit.cli import main; main(sys.argv[1:])"
)


@pytest.fixture
def full_disk(tmp_path: Path) -> "Iterator[tuple[Path, subprocess.Popen[str]]]":
    """A run that was killed, and a process that continues it on a disk that takes nothing more."""
    run = tmp_path / "run"
    first = start("train", "digits", *FLAGS, "--output", run)
    wait_for_step(run, 6, first)
    kill(first)
    process = subprocess.Popen(
        [sys.executable, "-c", SMALL_FILES, "train", "--resume", run, "--checkpoint-steps", "2"],
        stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    yield run, process
    process.kill()
    process.communicate()


def heard(process: "subprocess.Popen[str]", words: str) -> str:
    """The next line of a process that has these words."""
    assert process.stderr
    for line in process.stderr:
        if words in line:
            return line
    raise AssertionError(f"it ended without saying {words!r}")


def wait_until_no_part(run: Path) -> None:
    """A process that waits for space tries again and again: there is a part while it tries, and none in between."""
    deadline = time.monotonic() + 60
    while parts := list(run.rglob("*.part")):
        assert time.monotonic() < deadline, f"{parts} was left"
        time.sleep(0.002)


def test_on_a_full_disk_it_trains_on_and_loses_nothing_once_there_is_space(
    full_disk: "tuple[Path, subprocess.Popen[str]]", whole: Path
):
    run, process = full_disk
    before = {path.name: path.read_bytes() for path in (run / "checkpoint").glob("step-*")}
    line = heard(process, "cannot write")
    assert "Training goes on" in line
    heard(process, "3/3")  # the last epoch is done, and nothing of it is on disk
    assert {path.name: path.read_bytes() for path in (run / "checkpoint").glob("step-*")} == before
    wait_until_no_part(run)
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, unlimited)
    heard(process, "writing works again")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert_same_end(run, whole)


@pytest.mark.slow
def test_a_signal_ends_the_wait_for_space_with_one_clear_line_and_the_old_checkpoint(
    full_disk: "tuple[Path, subprocess.Popen[str]]", whole: Path
):
    run, process = full_disk
    heard(process, "3/3")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert "cannot write" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    resume(run)
    assert_same_end(run, whole)


def test_a_run_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteFailed, match="--output"):
        Run.create(tmp_path / "file" / "run")
