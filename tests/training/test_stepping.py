"""What befalls a step in real runs: numbers that are none, and memory that is not there."""

import json
import re
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from resnetkit.api.training import train
from resnetkit.data.opening import open_data
from resnetkit.data.randomness import permutation
from resnetkit.errors import InvalidArgument
from resnetkit.training import kernels, stepping
from resnetkit.training.plan import Plan
from resnetkit.training.progress import Event, Remark
from resnetkit.training.stepping import Diverged

BATCH = 256


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch):
    """Puts one pixel that is no number into the images of the run's n-th steps, counted from 0."""
    steps = iter(range(10**6))

    def at(poisoned: Collection[int]) -> None:
        own = stepping.add_gradients

        def add_gradients(network, optimiser, images, answers, **words):
            if next(steps) in poisoned:
                images = images.float()
                images[0, 0, 0, 0] = float("nan")
            return own(network, optimiser, images, answers, **words)

        monkeypatch.setattr(stepping, "add_gradients", add_gradients)

    return at


KERNELS = pytest.mark.parametrize(
    "run_by",
    ["torch", pytest.param("fused", marks=pytest.mark.skipif(kernels.unavailable() is not None, reason="no kernels"))],
)


def short_run(output: Path, said: list[str], **fields: object) -> Path:
    def listen(event: Event) -> None:
        if isinstance(event, Remark):
            said.append(event.text)

    settings = {"epochs": 2, "batch_size": BATCH, "deterministic": True, "checkpoint_steps": 2, "listener": listen}
    return train("digits", output=output, **{**settings, **fields}).run


def newest(run: Path) -> dict[str, torch.Tensor]:
    return load_file(sorted((run / "checkpoint").iterdir())[-1])


@KERNELS
def test_a_step_without_a_finite_loss_changes_nothing_and_its_images_are_named(
    tmp_path: Path, said, poison, run_by: str
):
    poison({2})
    run = short_run(tmp_path / "run", said, epochs=1, checkpoint_steps=1, kernels=run_by)
    assert Plan.read(run / "recipe.yaml").recipe.kernels == run_by
    assert all(bool(t.isfinite().all()) for t in newest(run).values() if t.is_floating_point())
    [remark] = [text for text in said if "not finite" in text]
    assert "epoch 1, step 3" in remark
    # Which images those are, by the address of the order.
    source = open_data("digits").split("train")
    indices = permutation("order", 0, 0, len(source))[2 * BATCH : 3 * BATCH]
    [line] = [json.loads(text) for text in (run / "not_finite.jsonl").read_text().splitlines()]
    assert line == {"epoch": 1, "step": 3, "images": [source.name(int(index)) for index in indices]}
    assert line["images"][0] in remark


@KERNELS
def test_a_skipped_step_leaves_weights_and_statistics_as_they_were(tmp_path: Path, said, poison, run_by: str):
    poison({1, 2})  # the last two of three steps
    pictures = tmp_path / "pictures.npz"
    source = open_data("digits").split("train")
    images = np.concatenate([source.image(index)[None] for index in range(3 * 64)])
    np.savez(pictures, train_images=images, train_labels=source.labels[: 3 * 64, None])
    train(pictures, output=tmp_path / "run", epochs=1, batch_size=64, val_share=0.0, deterministic=True,
          checkpoint_steps=1, kernels=run_by)  # fmt: skip
    before, after = (load_file(path) for path in sorted((tmp_path / "run" / "checkpoint").glob("step-*")))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


@KERNELS
def test_after_three_in_a_row_it_goes_back_and_on_at_a_third_of_the_rate(tmp_path: Path, said, poison, run_by: str):
    poison({7, 8, 9})
    run = short_run(tmp_path / "run", said, kernels=run_by)
    [back] = [text for text in said if text.startswith("back to the checkpoint")]
    # Six steps an epoch; the snapshot before the eighth step is that of the end of the first epoch, or of step 8.
    assert re.search(r"epoch 2, step [02], and on at 0\.333 times", back)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert all(bool(t.isfinite().all()) for t in newest(run).values() if t.is_floating_point())


def test_images_are_mixed_up_to_a_share_of_the_training(tmp_path: Path, said, monkeypatch: pytest.MonkeyPatch):
    own, mixed = stepping.add_gradients, []

    def add_gradients(network, optimiser, images, answers, **words):
        mixed.append(words["mixed"] is not None)
        return own(network, optimiser, images, answers, **words)

    monkeypatch.setattr(stepping, "add_gradients", add_gradients)
    short_run(tmp_path / "run", said, cutmix=1.0, mix_until=0.6)
    steps = len(mixed)
    assert steps >= 10
    assert mixed == [step / steps < 0.6 for step in range(steps)]


@KERNELS
def test_it_gives_up_after_three_ways_back(tmp_path: Path, said, run_by: str):
    with pytest.raises(Diverged, match="lower --lr"):
        short_run(tmp_path / "run", said, lr=1e30, kernels=run_by)
    assert len([text for text in said if text.startswith("back to the checkpoint")]) == 3
    # What is there is still fit to be continued, and no snapshot holds what is no number.
    assert all(bool(t.isfinite().all()) for t in newest(tmp_path / "run").values() if t.is_floating_point())


def test_batches_of_one_a_last_short_batch_and_a_class_of_one_image(tmp_path: Path, said):
    images = np.random.default_rng(0).integers(0, 256, (10, 16, 16), dtype=np.uint8)
    np.savez(tmp_path / "few.npz", train_images=images, train_labels=np.array([0, 1, 0, 1, 0, 1, 0, 1, 0, 2])[:, None])
    for batch_size, steps in ((1, 8), (3, 3), (100, 1)):
        run = train(tmp_path / "few.npz", output=tmp_path / f"run-{batch_size}", epochs=1, batch_size=batch_size,
                    val_share=0.2, deterministic=True).run  # fmt: skip
        assert sorted((run / "checkpoint").glob("step-*"))[-1].stem == f"step-{steps:08d}"
        assert all(bool(t.isfinite().all()) for t in newest(run).values() if t.is_floating_point())
    with pytest.raises(InvalidArgument, match="--batch-size of 2"):
        train(tmp_path / "few.npz", model="resnet18", output=tmp_path / "tiny", epochs=1, batch_size=1, image_size=32,
              deterministic=True)  # fmt: skip


def test_a_shortage_of_memory_makes_pieces_until_they_fit(tmp_path: Path, said, monkeypatch: pytest.MonkeyPatch):
    own = stepping.add_gradients

    def scarce(*arguments, pieces: int, **words):
        result = own(*arguments, pieces=pieces, **words)
        if pieces < 4:  # after the gradients are there and the statistics changed, as it may happen
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return result

    monkeypatch.setattr(stepping, "add_gradients", scarce)
    run = short_run(tmp_path / "run", said, epochs=1)
    assert [text for text in said if "computed in 2 pieces" in text]
    assert len([text for text in said if "out of memory" in text]) == 2, "what fits is remembered"
    monkeypatch.undo()
    ours, theirs = newest(run), newest(short_run(tmp_path / "same", said, epochs=1, accumulate=4))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


# The limit is on the whole address space, a little above what the process has when it begins to train.
SCARCE = """
import resource, sys
from resnetkit.api.training import train
train("digits", output=sys.argv[1], epochs=1, batch_size=32, image_size=32, deterministic=True, workers=0)
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + int(sys.argv[3]) * 2**20, resource.RLIM_INFINITY))
train(sys.argv[4], output=sys.argv[2], epochs=1, batch_size=256, image_size=32, deterministic=True, workers=0,
      listener=lambda event: print(event))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a limit on the address space")
def test_out_of_memory_the_batch_is_computed_in_pieces_and_the_step_is_that_of_accumulating(tmp_path: Path):
    # One step, so that every piece of it is of the size that was found to fit.
    source, pictures = open_data("digits").split("train"), tmp_path / "pictures.npz"
    images = np.stack([source.image(index) for index in range(300)])
    np.savez(pictures, train_images=images[:256], train_labels=source.labels[:256, None],
             val_images=images[256:], val_labels=source.labels[256:300, None])  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", SCARCE, tmp_path / "warm", tmp_path / "scarce", "300", pictures],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pieces = [int(number) for number in re.findall(r"computed in (\d+) pieces", done.stdout)]
    assert pieces, done.stdout
    train(pictures, output=tmp_path / "same", epochs=1, batch_size=256, image_size=32, deterministic=True,
          accumulate=pieces[-1], workers=0)  # fmt: skip
    ours, theirs = newest(tmp_path / "scarce"), newest(tmp_path / "same")
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_any_seed_will_do(tmp_path: Path):
    """The day and the time, to the second, is a usual one; torch takes 64 bits."""
    settings = {"epochs": 1, "batch_size": BATCH, "deterministic": True, "device": "cpu", "model": "resnet8_w40"}
    runs = [
        train("digits", output=tmp_path / str(seed), seed=seed, **settings).run for seed in (20261231235959, 2**63 - 1)
    ]
    first, second = (load_file(run / "model.safetensors") for run in runs)
    assert any(not torch.equal(first[key], second[key]) for key in first)
