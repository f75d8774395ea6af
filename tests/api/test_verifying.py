"""An exported file on labelled pictures: beside its network, beside another MODEL, or held to what was measured."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import resnetkit as rk
from resnetkit.api.benchmarking import benchmark
from resnetkit.checkpoints import modelfile
from resnetkit.cli import main
from resnetkit.deployment.exports.acceptance import Alone, Bounds
from resnetkit.deployment.exports.card import KEY, read_card
from resnetkit.deployment.exports.opened import open_exported
from resnetkit.deployment.exports.source import NetworkElsewhere
from resnetkit.deployment.stated import Stated
from resnetkit.errors import CheckpointError, DataError, InvalidArgument, LabelMismatch

pytestmark = pytest.mark.usefixtures("operators_read_once")


@pytest.fixture(scope="module")
def model_file(digits_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's model in a folder of its own."""
    path = tmp_path_factory.mktemp("run") / "model.safetensors"
    shutil.copy(digits_run / "model.safetensors", path)
    return path


@pytest.fixture(scope="module")
def file(model_file: Path) -> Path:
    return rk.export(model_file).path


@pytest.fixture
def apart(file: Path, tmp_path: Path) -> Path:
    """The file alone, far from its network."""
    return Path(shutil.copy(file, tmp_path / "model.onnx"))


def changed_card(file: Path, change) -> None:
    import onnx

    model = onnx.load(file)
    (entry,) = (entry for entry in model.metadata_props if entry.key == KEY)
    entry.value = json.dumps(change(json.loads(entry.value)))
    onnx.save(model, file)


def test_it_is_compared_with_its_network_and_this_process_needs_no_torch(file: Path, model_file: Path):
    script = (
        "import json, sys\nimport resnetkit as rk\n"
        f"result = rk.verify({str(file)!r}, 'digits', split='val')\n"
        "assert not {'torch', 'openvino_telemetry', 'sklearn.svm'} & {k for k, v in sys.modules.items() if v}\n"
        "print(json.dumps(result.to_dict()))\n"
    )
    result = json.loads(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout)
    both = result["comparison"]
    assert (both["n"], both["agreement"], result["passed"], result["notes"]) == (144, 1.0, True, [])
    assert result["against"] == str(model_file)
    assert both["max_difference"] < 0.01
    assert both["top1"] == both["reference_top1"] == rk.evaluate(model_file, "digits", split="val").scores.top1


def test_a_file_that_was_changed_is_found_out(file: Path, model_file: Path):
    import onnx
    from onnx import numpy_helper

    model = onnx.load(file)
    (weight,) = (entry for entry in model.graph.initializer if len(entry.dims) == 2 and 10 in entry.dims)
    noise = np.random.default_rng(0).standard_normal(weight.dims).astype(np.float32)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) + noise, weight.name))
    onnx.save(model, file.with_name("changed.onnx"))
    result = rk.verify(file.with_name("changed.onnx"), "digits")
    assert not result.passed
    assert any("agreement is" in objection for objection in result.objections)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_a_bare_network_is_judged_as_a_picture_file_is(model_file: Path, name: str):
    """Pictures are resized for it, so that it is compared on the same ones."""
    tensor = rk.export(model_file, model_file.parent / name / "tensor", format=name, input="tensor").path
    result = rk.verify(tensor, "digits", split="val")
    assert (result.comparison.n, result.comparison.agreement, result.passed) == (144, 1.0, True)


def test_without_its_network_it_is_held_to_what_was_measured(apart: Path, model_file: Path):
    result = rk.verify(apart, "digits", split="val")
    assert result.comparison is None
    assert result.alone.n == 144
    assert result.alone.measured_top1 == open_exported(apart).card.scores["val"]["top1"]
    assert abs(result.alone.top1 - result.alone.measured_top1) <= 2 / 144
    assert result.passed
    (note,) = result.notes
    assert "is not there or has changed" in note
    assert "--against" in note
    assert rk.verify(apart, "digits").alone.measured_top1 is None  # nobody measured the test part


def test_only_these_very_pictures_were_measured(apart: Path):
    card = open_exported(apart).card
    data, top1 = card.training["data"]["fingerprint"], card.scores["val"]["top1"]
    asked = [(data, "val", 144), ("other data", "val", 144), (data, "val", 143), (data, "test", 144)]
    assert [card.measured(*pictures) for pictures in asked] == [top1, None, None, None]
    report = {"fingerprint": "q", "acceptance_split": "val", "acceptance": {"n": 10, "top1": 0.5}}
    card = replace(card, quantisation=report)
    asked = [("q", "val", 10), ("q", "val", 11), ("q", "test", 10), ("other data", "val", 10)]
    assert [card.measured(*pictures) for pictures in asked] == [0.5, None, None, None]


def test_less_than_was_measured_is_an_objection(apart: Path, capsys: pytest.CaptureFixture[str]):
    def better(values: dict) -> dict:
        return {**values, "scores": {"val": {**values["scores"]["val"], "top1": 1.2}}}

    changed_card(apart, better)
    with pytest.raises(SystemExit) as left:
        main(["verify", str(apart), "digits", "--split", "val"])
    assert left.value.code == 1
    out = capsys.readouterr().out
    assert "below the 120.00 % that were measured" in out
    assert "alone on the val part of digits, n = 144" in out


def test_the_bound_on_what_was_measured():
    def alone(top1: float, measured: float | None) -> list[str]:
        return Alone(n=1000, top1=top1, measured_top1=measured, milliseconds=1).objections(Bounds())

    assert alone(0.5, None) == alone(0.9, 0.905) == alone(0.95, 0.9) == []
    assert len(alone(0.9, 0.906)) == 1


def test_another_model_may_be_named(apart: Path, model_file: Path, digits_run: Path):
    for against in (digits_run, model_file, rk.export(model_file, apart.parent / "out", format="openvino").path):
        result = rk.verify(apart, "digits", against=against, split="val")
        assert (result.comparison.agreement, result.against) == (1.0, str(against))
    with pytest.raises(InvalidArgument, match="give DATA as well"):
        rk.verify(apart, against=model_file)
    with pytest.raises(CheckpointError, match="there is no file"):
        rk.verify(apart, "digits", against="nowhere.safetensors")


def test_another_order_of_classes_is_no_comparison(apart: Path, model_file: Path, tmp_path: Path):
    state, card = modelfile.read(model_file)
    turned = tmp_path / "turned.safetensors"
    modelfile.save(turned, state, replace(card, class_names=card.class_names[::-1]))
    with pytest.raises(LabelMismatch, match="same classes in the same order"):
        rk.verify(apart, "digits", against=turned)


def test_a_model_file_that_has_changed_since_is_not_taken_for_the_network(model_file: Path, tmp_path: Path):
    own = Path(shutil.copy(model_file, tmp_path / "model.safetensors"))
    file = rk.export(own).path
    assert rk.verify(file, "digits", split="val").against == str(own)
    state, card = modelfile.read(own)
    modelfile.save(own, {key: values * 0.9 for key, values in state.items()}, card)
    assert rk.verify(file, "digits", split="val").comparison is None


def test_a_bare_architecture_left_nothing_to_compare_with(tmp_path: Path):
    file = rk.export("resnet20", tmp_path).path
    card = open_exported(file).card
    assert (card.source, card.source_sha256) == (None, None)
    assert card.measured("any", "val", 1) is None


def test_what_tensors_do_not_tell_is_remembered(tmp_path: Path):
    """plain20 has the tensors of resnet20: stated when exporting, it need not be stated again."""
    torch.manual_seed(0)
    network = rk.create_model("plain20", num_classes=10, in_chans=1).train()
    with torch.no_grad():
        for _ in range(5):
            network(torch.randn(32, 1, 8, 8))
        network.fc.weight.mul_(30)
    foreign = tmp_path / "plain.pth"
    torch.save(network.state_dict(), foreign)
    file = rk.export(foreign, stated=Stated(architecture="plain20", image_size=8)).path
    result = rk.verify(file, "digits", split="test")
    assert (result.against, result.passed, result.comparison.agreement) == (str(foreign), True, 1.0)
    row = benchmark(file, data="digits", batches=(64,), modes=("latency",), rounds=1, seconds=0.01).results[0]
    assert row.top1_agreement == 1.0


def test_a_network_that_cannot_answer_says_why(model_file: Path, tmp_path: Path):
    (tmp_path / "broken.pth").write_bytes(b"no model")
    with pytest.raises(CheckpointError, match=r"broken\.pth"):
        NetworkElsewhere(tmp_path / "broken.pth")
    with NetworkElsewhere(model_file) as network:
        picture = np.zeros((11, 8, network.meaning.preprocess.channels), np.uint8)
        assert network.answer([picture]).shape == (1, 10)
        network._process.kill()
        with pytest.raises(CheckpointError, match="ended without an answer"):
            network.answer([picture])


@pytest.mark.parametrize("change", [{"scores": [1]}, {"quantisation": 3}, {"training": {"data": 1}}, {"training": 1}])
def test_strange_reports_in_the_metadata_are_refused(file: Path, change: dict):
    values = json.loads(open_exported(file).card.to_json())
    assert read_card(json.dumps(values), "it").scores["val"]["n"] == 144
    with pytest.raises(CheckpointError, match="the metadata of it"):
        read_card(json.dumps({**values, **change}), "it")


def test_several_labels_an_image_are_refused(file: Path, tmp_path: Path):
    (tmp_path / "table.csv").write_text("path,label\na.png,0;1\nb.png,2\nc.png,0\n")
    with pytest.raises(DataError):
        rk.verify(file, tmp_path / "table.csv")
