"""int8 that can be trusted: calibrated on real pictures, judged on others, counted, and refused where it fails."""

import errno
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import resnetkit as rk
from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.checkpoints.modelfile import ModelCard
from resnetkit.deployment.exports.acceptance import Bounds, Comparison
from resnetkit.deployment.exports.formats import FORMATS
from resnetkit.deployment.exports.opened import open_exported
from resnetkit.deployment.exports.quantising import balanced
from resnetkit.errors import ExportFailed, InvalidArgument, WriteFailed

pytestmark = pytest.mark.usefixtures("operators_read_once")


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_int8_is_accepted_on_real_digits_and_says_so(digits_run: Path, tmp_path: Path, name: str):
    bounds, told = Bounds(max_loss=0.05, min_agreement=0.9), []
    done = rk.export(
        digits_run, tmp_path, format=name, calibrate="digits", calibration_images=100, bounds=bounds,
        progress=lambda *said: told.append(said),
    )  # fmt: skip
    assert told[:100] == [("calibrating int8", done, 100) for done in range(1, 101)]
    assert told[-1] == ("judging int8", 144, 144)
    card = open_exported(done.path).card
    report = card.quantisation
    assert card.precision == "int8"
    assert report["acceptance"]["n"] == 144
    assert report["calibration_images"] == 100
    assert (report["calibration_split"], report["acceptance_split"], report["forced"]) == ("train", "val", False)
    assert report["int8_operations"] >= 0.8 * report["operations"] > 10
    assert rk.verify(done.path).passed
    floats = rk.export(digits_run, tmp_path / "float32", format=name, input="tensor").path
    result = rk.verify(done.path, "digits", against=floats)
    assert result.comparison.n == 360
    assert result.comparison.top1 > 0.8
    assert result.comparison.agreement >= 0.9


def test_what_is_refused_is_written_only_by_force(digits_run: Path, tmp_path: Path):
    never = Bounds(max_loss=-1.0)
    asked = {"format": "openvino", "input": "tensor", "calibrate": "digits", "calibration_images": 20}
    with pytest.raises(ExportFailed, match="int8 is refused on the val part of digits"):
        rk.export(digits_run, tmp_path, bounds=never, **asked)
    assert list(tmp_path.iterdir()) == []
    done = rk.export(digits_run, tmp_path, bounds=never, **asked, force=True)
    report = open_exported(done.path).card.quantisation
    assert report["forced"]
    assert "top-1 falls by" in report["objections"][0]
    assert any("by force" in note for note in done.notes)


def test_a_full_temporary_folder_is_told_as_such(digits_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(onnx, "save", full)
    with pytest.raises(WriteFailed, match=r"No space left on device.*TMPDIR"):
        rk.export(digits_run, tmp_path, input="tensor", calibrate="digits", calibration_images=2)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_a_model_that_stayed_in_float_does_not_pass_as_int8(digits_run, tmp_path, name, monkeypatch):
    monkeypatch.setattr(type(FORMATS[name]), "quantised", lambda self, model, batches: model)
    with pytest.raises(ExportFailed, match="only 0 of"):
        rk.export(digits_run, tmp_path, format=name, input="tensor", calibrate="digits", force=True)


def test_torch_files_stay_in_float(digits_run: Path, tmp_path: Path):
    with pytest.raises(InvalidArgument, match="choose --format onnx or openvino"):
        rk.export(digits_run, tmp_path, format="torch", calibrate="digits")


def test_quantising_opens_no_socket(digits_run: Path, tmp_path: Path):
    script = (
        "import sys\nseen = []\n"
        "sys.addaudithook(lambda event, args: seen.append(event) if event.startswith('socket.') else None)\n"
        "import resnetkit as rk\n"
        f"rk.export({str(digits_run)!r}, {str(tmp_path)!r}, format='openvino', input='tensor',"
        " calibrate='digits', calibration_images=10, force=True)\n"
        "assert 'nncf' in sys.modules\n"
        "print(seen)\n"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_the_gate_measures_what_it_says():
    both = Comparison(
        n=1000, top1=0.894, reference_top1=0.9, agreement=0.985, max_difference=0.1,
        milliseconds=1.0, reference_milliseconds=2.0,
    )  # fmt: skip
    assert len(both.objections(Bounds())) == 2
    assert both.objections(Bounds(max_loss=0.006, min_agreement=0.985)) == []
    assert len(both.objections(Bounds(max_loss=0.0059, min_agreement=0.985))) == 1
    assert both.remark is None
    assert "not faster than float32" in (replace(both, milliseconds=2.1).remark or "")


@pytest.mark.parametrize("bounds", [{"max_loss": float("nan")}, {"min_agreement": float("nan")}, {"min_agreement": 99}])
def test_a_bound_that_could_not_be_missed_is_refused(bounds: dict[str, float]):
    with pytest.raises(InvalidArgument, match="both are numbers up to 100"):
        Bounds(**bounds)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=200), st.integers(1, 250))
def test_calibration_is_as_even_over_the_classes_as_there_are_images(labels: list[int], count: int):
    array = np.array(labels)
    chosen = balanced(array, count)
    assert len(set(chosen.tolist())) == len(chosen) == min(count, len(array))
    sizes, taken = np.bincount(array, minlength=6), np.bincount(array[chosen], minlength=6)
    most = taken.max()
    assert all(taken[c] >= most - 1 or taken[c] == sizes[c] for c in range(6))


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_sums_overflow_on_no_processor(name: str):
    # Equal weights and white pictures: the largest sums there are. Without VNNI, x86 adds two products in 16 bits.
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 2)]
    for layer in (layers[0], layers[2], layers[5]):
        nn.init.constant_(layer.weight, 0.1)
        nn.init.zeros_(layer.bias)
    card = ModelCard(row=rk.architecture("resnet20"), num_classes=2, preprocess=Preprocess.for_size(8))
    white = np.ones((1, 3, 8, 8), np.float32)
    kind = FORMATS[name]
    model = kind.convert(nn.Sequential(*layers), card, "tensor")
    quantised = kind.quantised(model, [white])
    assert np.allclose(kind.run(quantised)(white), kind.run(model)(white), rtol=0.05)  # it was half, with 8-bit weights
    weights = int8_weights(quantised)
    assert len(weights) == 3
    assert all(60 < np.abs(array.astype(int)).max() <= 64 for array in weights)  # for processors with VNNI


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_each_filter_has_a_range_of_its_own(name: str):
    # A network's filters differ in size, most of all after its batch norms are folded in.
    layers = [nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2)]
    with torch.no_grad():
        layers[0].weight.mul_(torch.tensor([1.0, 0.3, 0.1, 0.01]).view(-1, 1, 1, 1))
    card = ModelCard(row=rk.architecture("resnet20"), num_classes=2, preprocess=Preprocess.for_size(8))
    kind = FORMATS[name]
    grey = np.full((1, 3, 8, 8), 0.5, np.float32)
    quantised = kind.quantised(kind.convert(nn.Sequential(*layers), card, "tensor"), [grey])
    (filters,) = (array for array in int8_weights(quantised) if array.ndim == 4)
    # With one range for all the smallest filter would be within 1; OpenVINO rounds ranges as small as its own to 59.
    assert np.abs(filters.astype(int)).max((1, 2, 3)).min() > 50


def int8_weights(model: Any) -> list[np.ndarray]:
    """The weights of a quantised model of either format."""
    if isinstance(model, onnx.ModelProto):
        arrays = [onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    else:
        arrays = [node.data for node in model.get_ordered_ops() if node.get_type_name() == "Constant"]
    return [array for array in arrays if array.dtype == np.int8 and array.ndim > 1]


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_a_real_cifar_network_passes(real_data: Path, tmp_path: Path, name: str):
    weights, data = real_data / "weights" / "cifar" / "resnet20-12fca82f.th", real_data / "cifar10_20k.npz"
    bounds = Bounds(max_loss=0.003)
    done = rk.export(weights, tmp_path, format=name, input="tensor", calibrate=data, bounds=bounds)
    assert done.card.quantisation["calibration_images"] == 300
    both = done.comparison
    assert both.n == 1000
    assert both.reference_top1 > 0.95  # of images it was trained on


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["resnet20-12fca82f", "resnet56-4bfd9763"])
@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_real_cifar_networks_lose_at_most_three_tenths_of_a_point(real_data, tmp_path, name: str, weights: str):
    file, data = real_data / "weights" / "cifar" / f"{weights}.th", real_data / "cifar10_20k.npz"
    int8 = rk.export(file, tmp_path / "int8", format=name, calibrate=data)
    floats = rk.export(file, tmp_path / "float32", format=name)
    both = rk.verify(int8.path, data, against=floats.path, split="test").comparison
    print(json.dumps({"format": name, "weights": weights, **both.to_dict()}))
    assert both.n == 10_000
    assert both.reference_top1 - both.top1 <= 0.003
