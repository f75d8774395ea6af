"""Numbers handed to trackers arrive there, read back with the tracker's own reader, and cost no run."""

import json
import signal
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from resnetkit.api.repeating import train_with_seeds
from resnetkit.api.training import resume, train
from resnetkit.errors import MissingExtra
from resnetkit.training import tracking
from resnetkit.training.interruption import Interrupted
from resnetkit.training.progress import EpochEnded, Event, Remark, nobody
from resnetkit.training.tracking import tracked

SHORT = {"epochs": 2, "batch_size": 128, "precision": "float32"}


def lines(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def records(file: Path) -> Iterator[bytes]:
    """The records of a LevelDB log after wandb's header of 7 bytes: blocks of 32 KiB, checksum, length and kind."""
    content, place, parts = file.read_bytes(), 7, b""
    while place + 7 <= len(content):
        if 2**15 - place % 2**15 < 7:  # too short for a head: the block is filled up
            place += 2**15 - place % 2**15
        _, length, kind = struct.unpack_from("<IHB", content, place)
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def test_mlflow_gets_the_numbers_of_the_metrics_in_the_runs_folder(tmp_path: Path, monkeypatch):
    import mlflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with tracked(nobody, "mlflow") as listener:
        train("digits", output=tmp_path / "run", listener=listener, **SHORT)
    client = mlflow.MlflowClient((tmp_path / "run" / "mlruns").as_uri())
    [experiment] = [each for each in client.search_experiments() if each.name == "resnetkit"]
    [run] = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert run.data.params["recipe.epochs"] == "2"
    for name, key in (("train/loss", "train_loss"), ("val/top1", "val_top1")):
        points = [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, name)]
        assert points == [(line["epoch"], pytest.approx(line[key])) for line in lines(tmp_path / "run")]


def test_mlflow_goes_where_its_variable_says(tmp_path: Path, monkeypatch):
    import mlflow

    uri = (tmp_path / "store").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with tracked(nobody, "mlflow") as listener:
        train("digits", output=tmp_path / "run", listener=listener, **{**SHORT, "epochs": 1})
    assert not (tmp_path / "run" / "mlruns").exists()
    assert [each.name for each in mlflow.MlflowClient(uri).search_experiments() if each.name == "resnetkit"]


def test_wandb_gets_the_numbers_of_the_metrics_offline(tmp_path: Path, monkeypatch, capfd):
    wandb = pytest.importorskip("wandb", reason="wandb is no part of the dev extra: 60 MB for one test")
    from wandb.proto.wandb_internal_pb2 import Record

    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_QUIET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # nobody has logged in there
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    with tracked(nobody, "wandb") as listener:
        train("digits", output=tmp_path / "run", listener=listener, **SHORT)
    wandb.teardown()  # its service writes the rest, as at the end of a process
    shown = "".join(capfd.readouterr())
    assert "Run data is saved locally" in shown
    assert "Run summary" not in shown, "the command has its own"
    [file] = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    rows = []
    for data in records(file):
        record = Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            rows.append({item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item})
    found = [(row["epoch"], row["train/loss"], row["val/top1"]) for row in rows if "train/loss" in row]
    assert found == [
        (line["epoch"], pytest.approx(line["train_loss"]), pytest.approx(line["val_top1"]))
        for line in lines(tmp_path / "run")
    ]
    assert [row["step"] for row in rows if "step/loss" in row] == [10, 21]


@pytest.mark.parametrize("package", ["wandb", "mlflow", "torch.utils.tensorboard"])
def test_a_missing_package_names_its_extra_before_anything_is_trained(monkeypatch, package: str):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    name = package.split(".")[-1]
    with pytest.raises(MissingExtra, match=rf"resnetkit\[{name}\]"), tracked(nobody, name):
        raise AssertionError


def test_a_tracker_that_fails_in_mid_run_does_not_cost_the_run(tmp_path: Path, monkeypatch):
    heard: list[Event] = []

    class Breaking:
        check = staticmethod(lambda: None)

        def __init__(self, *_: object) -> None:
            pass

        def log(self, *_: object) -> None:
            raise ConnectionError("the server is gone")

    monkeypatch.setattr(tracking, "_OPENERS", {"mlflow": Breaking})
    with tracked(heard.append, "mlflow") as listener:
        assert train("digits", output=tmp_path / "run", listener=listener, **SHORT).epochs == 2
    [said] = [event.text for event in heard if isinstance(event, Remark) and "no more numbers" in event.text]
    assert "the server is gone" in said
    assert len([event for event in heard if isinstance(event, EpochEnded)]) == 2


class Unclosed:
    check = staticmethod(lambda: None)

    def __init__(self, run: Path, *_: object) -> None:
        if run.name == "seed-1":
            raise ConnectionError("the server is gone")

    def log(self, *_: object) -> None:
        pass

    def close(self) -> None:
        raise ConnectionError("the server is gone")


def test_a_tracker_that_cannot_be_closed_changes_no_exit(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(tracking, "_OPENERS", {"mlflow": Unclosed})

    def interrupted(event: Event) -> None:
        if isinstance(event, EpochEnded):
            raise Interrupted("runs/train", signal.SIGTERM)

    with pytest.raises(Interrupted), tracked(interrupted, "mlflow") as listener:
        train("digits", output=tmp_path / "run", listener=listener, **SHORT)


def test_a_tracker_that_is_gone_does_not_end_the_remaining_seeds(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(tracking, "_OPENERS", {"mlflow": Unclosed})
    heard: list[Event] = []
    with tracked(heard.append, "mlflow") as listener:
        settings = {**SHORT, "epochs": 1}
        assert len(train_with_seeds(3, "digits", output=tmp_path, listener=listener, **settings).runs) == 3
    said = [event.text for event in heard if isinstance(event, Remark) and "the server is gone" in event.text]
    assert [" ".join(text.split()[1:4]) for text in said] == [
        "cannot be closed:",
        "cannot be opened:",
        "cannot be closed:",
    ]


def test_a_resumed_run_goes_on_without_a_tracker_that_is_gone_and_a_new_one_is_not_begun(tmp_path: Path, monkeypatch):
    class Gone:
        check = staticmethod(lambda: None)

        def __init__(self, *_: object) -> None:
            raise ConnectionError("the server is gone")

    run = train("digits", output=tmp_path / "run", **{**SHORT, "epochs": 1}).run
    monkeypatch.setattr(tracking, "_OPENERS", {"mlflow": Gone})
    heard: list[Event] = []
    with tracked(heard.append, "mlflow") as listener:
        assert resume(run, listener=listener).epochs == 1
    assert [event for event in heard if isinstance(event, Remark) and "cannot be opened" in event.text]
    with pytest.raises(ConnectionError), tracked(nobody, "mlflow") as listener:
        train("digits", output=tmp_path / "new", listener=listener, **SHORT)


def test_wandb_is_online_only_with_a_key_and_a_server_that_answers(tmp_path: Path, monkeypatch, server):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    assert tracking._mode_of_wandb() == "offline"
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login user password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert tracking._mode_of_wandb() == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # the discard port: nobody listens
    assert tracking._mode_of_wandb() == "offline"
