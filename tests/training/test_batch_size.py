"""A batch that fits: searched rightly, estimated near what training really takes, and kept as the step it was."""

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resnetkit.api.choosing import show_recipe
from resnetkit.api.training import train
from resnetkit.cli import main
from resnetkit.errors import InvalidArgument
from resnetkit.tasks.memory import OutOfMemory
from resnetkit.training import batch_size
from resnetkit.training.batch_size import fits_by_trial, fitting_batch, free_bytes
from resnetkit.training.plan import Plan
from resnetkit.training.progress import Event, Remark

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@given(batch=st.integers(1, 600), most=st.integers(1, 2000), memory=st.integers(1, 3000), pieces=st.integers(1, 4))
def test_what_is_chosen_fits_and_no_larger_one_of_its_kind_does(batch: int, most: int, memory: int, pieces: int):
    try:
        images, chosen = fitting_batch(batch, most, lambda n: n <= memory, pieces)
    except OutOfMemory:
        assert memory < 4
        return
    assert math.ceil(images / chosen) <= memory
    assert images >= batch
    if images > batch:
        assert chosen == pieces
        assert math.ceil((2 * images + 1) / pieces) > memory or 2 * images > most
    elif chosen > pieces:
        assert math.ceil(images / (chosen // 2)) > memory


def auto(output: Path, monkeypatch: pytest.MonkeyPatch, free: int | None, **fields: object) -> tuple[Plan, str]:
    """A short run on a machine with so many bytes free, and what it said."""
    monkeypatch.setattr(batch_size, "free_bytes", lambda: free)
    heard: list[Event] = []
    settings = {"epochs": 1, "deterministic": True, "batch_size": "auto", **fields}
    run = train("digits", output=output, listener=heard.append, **settings).run
    [said] = [event.text for event in heard if isinstance(event, Remark) and "batch size auto" in event.text]
    return Plan.read(run / "recipe.yaml"), said


def test_little_memory_makes_pieces_of_the_recipes_own_batch_and_much_a_larger_one(tmp_path: Path, monkeypatch):
    usual = show_recipe("digits").recipe
    each, fixed = batch_size.bytes_of_training(
        Plan.read(train("digits", output=tmp_path / "usual", epochs=1, deterministic=True).run / "recipe.yaml")
    )
    plan, said = auto(tmp_path / "little", monkeypatch, int((fixed + 20 * each) / 0.8))
    assert (plan.recipe.batch_size, plan.recipe.accumulate, plan.recipe.lr) == (usual.batch_size, 4, usual.lr)
    assert f"{usual.batch_size} images a step in 4 pieces" in said
    plan, said = auto(tmp_path / "much", monkeypatch, 10**11)
    assert (plan.recipe.batch_size, plan.recipe.accumulate) == (64, 1), "twenty steps an epoch are kept"
    plan, said = auto(tmp_path / "unknown", monkeypatch, None)
    assert plan.recipe.batch_size == usual.batch_size
    assert "does not say" in said
    with pytest.raises(OutOfMemory, match="--image-size"):
        auto(tmp_path / "none", monkeypatch, 1000)


def test_a_larger_batch_takes_the_rate_with_it_unless_the_rate_was_said(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("resnetkit.api.preparing.largest_batch", lambda images: 256)
    plan, _ = auto(tmp_path / "a", monkeypatch, 10**11)
    assert (plan.recipe.batch_size, plan.recipe.lr) == (256, pytest.approx(0.4))
    plan, _ = auto(tmp_path / "b", monkeypatch, 10**11, lr=0.05)
    assert (plan.recipe.batch_size, plan.recipe.lr) == (256, 0.05)


@LINUX
def test_free_memory_is_no_more_than_the_system_has_and_than_a_limit_leaves():
    [line] = [each for each in Path("/proc/meminfo").read_text().splitlines() if each.startswith("MemTotal")]
    free = free_bytes()
    assert free is not None
    assert 0 < free < 1024 * int(line.split()[1])
    script = (
        "import resource; from resnetkit.training.batch_size import free_bytes;"
        "size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize();"
        "resource.setrlimit(resource.RLIMIT_AS, (size + 50 * 2**20, resource.RLIM_INFINITY)); print(free_bytes())"
    )
    left = int(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)
    assert 40 * 2**20 < left <= 50 * 2**20


# What training at a batch size takes at its highest, in a process of its own, with the memory it had before.
PEAK = """
import re, sys
from pathlib import Path
import numpy as np
from resnetkit.api.training import train
from resnetkit.data.memory import keep_freed_memory
from resnetkit.training.batch_size import bytes_of_training
from resnetkit.training.plan import Plan
keep_freed_memory()
# Of this program alone: getrusage's figure begins with the parent's, which has run other tests.
peak = lambda: 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
settings = dict(model=sys.argv[2], image_size=int(sys.argv[3]), epochs=1, val_share=0.0, precision="float32",
                kernels="torch", workers=0)
size = int(sys.argv[3])
images = np.random.default_rng(0).integers(0, 256, (2 * int(sys.argv[4]), size, size, 3), dtype=np.uint8)
np.savez(sys.argv[1] + "/data.npz", train_images=images, train_labels=np.arange(len(images))[:, None] % 2)
train(sys.argv[1] + "/data.npz", output=sys.argv[1] + "/a", batch_size=2, **settings)
before = peak()
run = train(sys.argv[1] + "/data.npz", output=sys.argv[1] + "/b", batch_size=int(sys.argv[4]), **settings).run
each, fixed = bytes_of_training(Plan.read(run / "recipe.yaml"))
print((peak() - before) / (int(sys.argv[4]) * each))
"""


@LINUX
@pytest.mark.parametrize(
    ("model", "side", "images"),
    [("resnet20", 32, 96), pytest.param("resnet50", 224, 8, marks=pytest.mark.slow)],
)
def test_the_estimate_is_enough_and_not_far_too_much(tmp_path: Path, model: str, side: int, images: int):
    done = subprocess.run(
        [sys.executable, "-c", PEAK, tmp_path, model, str(side), str(images)], capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert 0.3 < float(done.stdout) < 1.0


def test_a_trial_tells_what_fits_from_what_does_not(tmp_path: Path, monkeypatch):
    plan, _ = auto(tmp_path / "run", monkeypatch, 10**11)
    from resnetkit.api.preparing import new_network

    network = new_network(plan)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    fits = fits_by_trial(network, plan)
    assert fits(8)
    # More than a processor has addresses for: the system itself refuses.
    assert not fits(2**48)
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


def test_auto_is_for_the_beginning_of_a_run(capsys):
    for words in (["train", "--resume", "runs/x"], ["train", "digits", "--show-recipe"]):
        with pytest.raises(SystemExit) as left:
            main([*words, "--batch-size", "auto"])
        assert left.value.code == 1
        assert "--batch-size auto" in capsys.readouterr().err
    with pytest.raises(SystemExit) as left:
        main(["train", "digits", "--batch-size", "lots"])
    assert left.value.code == 2
    with pytest.raises(InvalidArgument):
        train("digits", batch_size="lots")


def test_the_command_says_above_the_header_what_was_chosen(tmp_path: Path, capsys):
    with pytest.raises(SystemExit):
        main(["train", "digits", "-b", "auto", "--epochs", "1", "--deterministic", "--output", str(tmp_path / "run")])
    err = capsys.readouterr().err
    assert re.search(r"note: batch size auto: 64 images a step \(.+ of memory are free and an image takes about", err)
    assert "batch 64" in err
