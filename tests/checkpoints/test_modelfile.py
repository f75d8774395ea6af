"""One file that is enough to predict anywhere, and clear words where it is not."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from resnetkit.catalog.architectures import architecture
from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.checkpoints import modelfile
from resnetkit.checkpoints.modelfile import ModelCard
from resnetkit.errors import CheckpointError, InvalidArgument


def card(**changes: Any) -> ModelCard:
    values: dict[str, Any] = {
        "row": architecture("resnet20"),
        "architecture": "resnet20",
        "num_classes": 2,
        "preprocess": Preprocess.for_size(32),
        "class_names": ("cat", "dög"),
        "temperature": 1.5,
        "training": {"epochs": 3},
        "scores": {"val": {"n": 10, "top1": 0.9}},
        "licence": "MIT",
    }
    return ModelCard(**{**values, **changes})


@pytest.mark.parametrize(
    "written",
    [
        card(),
        card(class_names=None, temperature=None, licence=None),
        card(num_classes=0, class_names=None),
        card(in_chans=1, preprocess=Preprocess.for_size(28, mean=(0.5,), std=(0.2,))),
    ],
    ids=["full", "bare", "features", "grey"],
)
def test_there_and_back(tmp_path: Path, written: ModelCard) -> None:
    state = {"conv1.weight": torch.randn(2, 3), "bn1.num_batches_tracked": torch.tensor(7)}
    path = tmp_path / "model.safetensors"
    modelfile.save(path, state, written)
    found, read = modelfile.read(path)
    assert read == written
    assert set(found) == set(state)
    assert all(torch.equal(found[key], state[key]) for key in state)
    assert modelfile.is_model_file(path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"class_names": ("cat",)}, "1 class names for 2 classes"),
        ({"in_chans": 1}, "3 values but the network takes 1 channels"),
        ({"temperature": 0.0}, "more than 0"),
        ({"temperature": float("nan")}, "more than 0"),
    ],
)
def test_contradictions(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        card(**changes)


def altered(tmp_path: Path, **changes: Any) -> Path:
    values = {**card().to_dict(), **changes}
    path = tmp_path / "model.safetensors"
    kept = {key: value for key, value in values.items() if value != "leave out"}
    save_file({"a": torch.zeros(1)}, path, metadata={"resnetkit": json.dumps(kept)})
    return path


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format": 2}, "format 2 and this resnetkit reads up to 1: upgrade"),
        ({"format": "1"}, "format version is '1'"),
        ({"format": "leave out"}, "format version is None"),
        ({"colour": "red"}, "unknown keys colour"),
        ({"row": "leave out"}, "lacks row"),
        ({"row": 3}, "wrong type"),
        ({"row": {"network": "Residual", "block": "basic"}}, "incomplete"),
        ({"preprocess": {"sizes": 3}}, "unknown keys"),
        ({"class_names": ["a"]}, "1 class names for 2 classes"),
        ({"class_names": 5}, "wrong type"),
        ({"num_classes": "many"}, "num_classes"),
    ],
)
def test_cards_that_cannot_be_read(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    path = altered(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=says) as caught:
        modelfile.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_model_files(tmp_path: Path) -> None:
    bare = tmp_path / "bare.safetensors"
    save_file({"a": torch.zeros(1)}, bare)
    with pytest.raises(CheckpointError, match="resnetkit adopt"):
        modelfile.read(bare)
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(altered(tmp_path).read_bytes()[:-3])
    with pytest.raises(CheckpointError, match="damaged"):
        modelfile.read(torn)
    with pytest.raises(CheckpointError, match="there is no file"):
        modelfile.read(tmp_path / "absent")
    deep = tmp_path / "deep.safetensors"
    save_file({"a": torch.zeros(1)}, deep, metadata={"resnetkit": "[" * 100_000})
    with pytest.raises(CheckpointError, match="cannot be read"):
        modelfile.read(deep)
    claims = tmp_path / "claims.safetensors"
    claims.write_bytes((2**62).to_bytes(8, "little") + b"{}")
    for path in (bare, tmp_path / "absent", tmp_path, claims):
        assert not modelfile.is_model_file(path)


def test_a_card_that_is_no_json_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="no JSON"):
        modelfile.save(tmp_path / "model.safetensors", {}, card(training={"when": object()}))
    with pytest.raises(InvalidArgument, match="no JSON"):
        modelfile.save(tmp_path / "model.safetensors", {}, card(scores={"loss": float("nan")}))
    assert list(tmp_path.iterdir()) == []
