"""What is kept, and what is said, when it cannot be."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from resnetkit.api.training import resume, train
from resnetkit.catalog.architectures import architecture
from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.catalog.recipe import Recipe
from resnetkit.checkpoints import modelfile
from resnetkit.errors import RunError, WriteFailed
from resnetkit.models import build
from resnetkit.training import loop, snapshot
from resnetkit.training.keeping import Keeper
from resnetkit.training.learner import Learner
from resnetkit.training.progress import Event, Remark, Stepped
from resnetkit.training.run import Run
from resnetkit.training.snapshot import Position


@pytest.mark.parametrize("shortage", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_too_little_memory_to_write_is_as_a_full_disk(tmp_path: Path, monkeypatch, shortage: Exception):
    own, calls = snapshot.write_tensors, iter(range(10**6))

    def scarce(*arguments: object) -> None:
        if next(calls) == 1:  # at the end of the first epoch
            raise shortage
        own(*arguments)

    monkeypatch.setattr(snapshot, "write_tensors", scarce)
    said: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Remark):
            said.append(event.text)

    settings = {"epochs": 2, "batch_size": 512, "device": "cpu"}
    assert train("digits", output=tmp_path / "run", listener=listen, **settings).epochs == 2
    [refused] = [text for text in said if "too little memory to write a checkpoint" in text]
    assert "Training goes on" in refused
    assert "writing works again: nothing was lost" in said
    assert resume(tmp_path / "run").epochs == 2


def test_weights_that_are_no_numbers_are_not_counted_as_written(tmp_path: Path):
    said: list[str] = []
    network = build(architecture("resnet20"), num_classes=2)
    keeper = Keeper(Run(tmp_path), Learner(network, Recipe()), said.append)
    keeper.refusal = WriteFailed("the disk is full")
    with torch.no_grad():
        network.fc.bias[0] = float("nan")
    assert not keeper.keep_snapshot(Position(global_step=1))
    assert not list(tmp_path.rglob("step-*"))
    assert keeper.refusal is not None
    assert said == [], "nothing works again"


def test_a_folder_that_cannot_be_read_for_a_while_is_no_reason_to_end(tmp_path: Path, monkeypatch):
    own, calls = Run.read_metrics, iter(range(10**6))

    def gone(run: Run) -> list[dict[str, object]]:
        if next(calls) == 1:
            raise OSError(116, "Stale file handle")
        return own(run)

    monkeypatch.setattr(Run, "read_metrics", gone)
    settings = {"epochs": 3, "batch_size": 512, "device": "cpu"}
    assert train("digits", output=tmp_path / "run", **settings).epochs == 3
    assert [line["epoch"] for line in own(Run(tmp_path / "run"))] == [1, 2, 3]


@pytest.fixture
def owing(tmp_path: Path, monkeypatch) -> Keeper:
    """A keeper that could not write the model of the third epoch."""
    network = build(architecture("resnet8_w40"), num_classes=2)
    keeper = Keeper(Run(tmp_path), Learner(network, Recipe()), lambda text: None)

    def full(*_: object) -> None:
        raise WriteFailed("the disk is full")

    card = modelfile.ModelCard(
        row=architecture("resnet8_w40"), num_classes=2, preprocess=Preprocess.for_size(32), training={"epoch": 3}
    )
    with monkeypatch.context() as patched:
        patched.setattr(modelfile, "save", full)
        keeper.keep_model(card)
    return keeper


def test_a_model_that_is_owed_is_written_as_it_was(owing: Keeper, tmp_path: Path):
    before = owing._learner.model.state_dict()["fc.weight"].clone()
    with torch.no_grad():
        owing._learner.network.fc.weight += 1
    owing.keep_line(3, {})
    assert torch.equal(modelfile.read(tmp_path / "model.safetensors")[0]["fc.weight"], before)


@pytest.mark.parametrize(("epoch", "kept"), [(2, False), (3, True)])
def test_a_model_of_an_epoch_that_is_trained_again_is_no_longer_owed(owing: Keeper, tmp_path: Path, epoch, kept):
    owing.forget_from(epoch)  # from 0: the third is 2
    owing.keep_line(epoch, {})
    assert (tmp_path / "model.safetensors").exists() == kept


def test_too_little_memory_for_a_model_that_is_owed_costs_the_model_and_not_the_run(
    owing: Keeper, tmp_path: Path, monkeypatch
):
    def short(*_: object) -> None:
        raise MemoryError

    said: list[str] = []
    owing._say = said.append
    monkeypatch.setattr(modelfile, "save", short)
    monkeypatch.setattr(torch.Tensor, "clone", short)
    owing.keep_model(owing._model[1])
    assert said == ["the best model so far, of epoch 3, could not be kept"]


def test_a_run_that_has_ended_is_not_timed_again(tmp_path: Path, monkeypatch):
    run = train("digits", output=tmp_path / "run", epochs=1, batch_size=512, device="cpu").run

    def never(*_: object) -> float:
        raise AssertionError("there is nothing to time")

    monkeypatch.setattr(loop, "expected_seconds", never)
    assert resume(run).epochs == 1


@pytest.fixture
def half(tmp_path: Path) -> Path:
    """A run that was stopped in mid-way, with a best model."""

    def stop(event: Event) -> None:
        if isinstance(event, Stepped) and (event.epoch, event.step) == (2, 2):
            raise KeyboardInterrupt

    settings = {"epochs": 3, "batch_size": 512, "device": "cpu", "checkpoint_steps": 1}
    with pytest.raises(KeyboardInterrupt):
        train("digits", output=tmp_path / "half", listener=stop, **settings)
    return tmp_path / "half"


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:10_000])])
def test_a_best_model_that_is_gone_is_said_and_chosen_anew(half: Path, damage):
    said: list[str] = []
    damage(half / "model.safetensors")
    newest = max((half / "checkpoint").iterdir())
    tensors, position = snapshot._read(newest)
    # What was lost is better than all that comes: were it still counted on, no model would be written.
    snapshot._write(newest.parent, tensors, replace(position, best_score=1.0, best_loss=0.0))
    result = resume(half, listener=lambda event: said.append(event.text) if isinstance(event, Remark) else None)
    assert any("the best epoch is chosen anew" in text for text in said)
    assert modelfile.read(half / "model.safetensors")[1].training["epoch"] == result.best_epoch


def test_an_ended_run_without_its_model_is_not_called_done(tmp_path: Path):
    run = train("digits", output=tmp_path / "run", epochs=1, batch_size=512, device="cpu").run
    (run / "model.safetensors").unlink()
    with pytest.raises(RunError, match=f"--resume {run} --epochs 2 --force"):
        resume(run)
    assert resume(run, epochs=2, force=True).best_epoch == 2
    assert modelfile.read(run / "model.safetensors")[1].training["epoch"] == 2


@pytest.mark.parametrize("damage", [b'{"epoch": 1, "train_l', b"\xff\xfe", b'{"epoch": "one"}\n', b"[]\n"])
def test_damaged_metrics_are_said_before_anything_is_trained(half: Path, damage: bytes):
    (half / "metrics.jsonl").write_bytes(damage)
    steps: list[Event] = []
    with pytest.raises(RunError, match=r"metrics.jsonl is damaged .*: remove the line, or the file"):
        resume(half, listener=lambda event: steps.append(event) if isinstance(event, Stepped) else None)
    assert not steps
