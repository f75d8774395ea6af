"""Exported files that are not what they say: other ends, other answers, or more than arithmetic inside."""

import json
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import resnetkit as rk
from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.checkpoints import modelfile
from resnetkit.checkpoints.modelfile import ModelCard
from resnetkit.deployment.exports.opened import ExportedModel, open_exported
from resnetkit.deployment.exports.verification import check_golden
from resnetkit.errors import CheckpointError, ExportFailed, UnsafeFile

pytestmark = pytest.mark.usefixtures("operators_read_once")

ROW = replace(rk.architecture("resnet20"), depths=(1, 1, 1), widths=(4, 8, 8), stem_width=4)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("small") / "model.safetensors"
    network = rk.create_model(ROW, num_classes=5)
    card = ModelCard(row=ROW, num_classes=5, preprocess=Preprocess.for_size(16, crop_share=0.8))
    modelfile.save(path, network.state_dict(), card)
    return path


@pytest.fixture(scope="module")
def onnx_file(model_file: Path) -> Path:
    return rk.export(model_file).path


@pytest.fixture(scope="module")
def program(model_file: Path) -> Path:
    return rk.export(model_file, format="torch").path


def test_another_input_than_the_metadata_says_is_refused(model_file: Path, onnx_file: Path, tmp_path: Path):
    import onnx

    model = onnx.load(onnx_file)
    model.metadata_props[0].value = model.metadata_props[0].value.replace('"input": "picture"', '"input": "tensor"')
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(CheckpointError, match="takes picture, but its metadata says tensor"):
        open_exported(tmp_path / "model.onnx")
    path = rk.export(model_file, tmp_path, format="openvino").path
    said, other = "&quot;input&quot;: &quot;picture&quot;", "&quot;input&quot;: &quot;tensor&quot;"
    text = path.read_text(encoding="utf-8")
    assert text.count(said) == 1
    path.write_text(text.replace(said, other), encoding="utf-8")
    with pytest.raises(CheckpointError, match="takes picture, but its metadata says tensor"):
        open_exported(path)


def test_numbers_outside_the_file_are_not_looked_for(onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An ONNX file may name another file for its numbers: a stranger's would read what lies on this machine."""
    import onnx
    import onnxruntime

    strange = tmp_path / "model.onnx"
    onnx.save(onnx.load(onnx_file), strange, save_as_external_data=True, location="numbers.bin", size_threshold=1024)
    assert (tmp_path / "numbers.bin").stat().st_size > 1024
    onnxruntime.InferenceSession(strange, providers=["CPUExecutionProvider"])  # who asks by the path does find them
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="External data"):
        open_exported(strange)


@pytest.mark.parametrize(
    ("answer", "passed"),
    [
        ((1.0, 0.985, 0.0, 0.0, 0.0), True),
        ((0.991, 0.99, 0.0, 0.0, 0.0), True),
        ((0.991, 0.994, 0.0, 0.0, 0.0), False),  # each number within the bound, but another class comes first
        ((1.0, 0.985, 0.0, 0.0, 0.02), False),
        ((1.0, 0.985, 0.0, 0.0, float("nan")), False),
        ((1.0, 0.985, 0.0, 0.0), False),
    ],
)
def test_the_golden_answer_is_the_same_class_and_the_same_numbers(onnx_file: Path, answer: tuple, passed: bool):
    card = open_exported(onnx_file).card
    card = replace(card, golden=replace(card.golden, output=(1.0, 0.985, 0.0, 0.0, 0.0)))
    numbers = np.array(answer, np.float32)
    assert check_golden(ExportedModel(onnx_file, card, "it", lambda batch: np.tile(numbers, (2, 1)))).passed == passed
    assert not check_golden(ExportedModel(onnx_file, card, "it", lambda batch: numbers[None])).passed


def rewritten(program: Path, folder: Path, change: Callable[[str, bytes], bytes], *, twice: str = "") -> Path:
    """The program with its members changed; the one whose name ends in `twice` is there a second time."""
    path = folder / "model.pt2"
    with zipfile.ZipFile(program) as old, zipfile.ZipFile(path, "w") as new, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name that is there twice
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
            if twice and name.endswith(twice):
                new.writestr(name, old.read(name))
    return path


def set_everywhere(values: object, key: str, value: object) -> int:
    """Give `key` this value in every object, however deep; how many there were."""
    if isinstance(values, list):
        return sum(set_everywhere(each, key, value) for each in values)
    if not isinstance(values, dict):
        return 0
    inside = sum(set_everywhere(each, key, value) for each in values.values())
    if key in values:
        values[key] = value
    return inside + (key in values)


@pytest.mark.parametrize(
    ("member", "key", "value", "said"),
    [
        ("model.json", "guards_code", ["__import__('os').abort()"], "Python code"),
        ("model.json", "target", "torch.load", "no arithmetic"),
        ("weights_config.json", "path_name", "../../elsewhere", "no tensors"),
        ("weights_config.json", "use_pickle", True, "pickled weights"),
    ],
)
def test_a_program_that_is_more_than_arithmetic_is_refused_by_its_own_reason(
    program: Path, tmp_path: Path, member: str, key: str, value: object, said: str
):
    found = 0

    def change(name: str, content: bytes) -> bytes:
        nonlocal found
        if not name.endswith(member):
            return content
        values = json.loads(content)
        found += set_everywhere(values, key, value)
        return json.dumps(values).encode()

    file = rewritten(program, tmp_path, change)
    assert found
    with pytest.raises(UnsafeFile, match=said):
        open_exported(file)


def test_a_program_with_a_member_twice_or_one_too_many_is_refused(program: Path, tmp_path: Path):
    with pytest.raises(UnsafeFile, match="a member twice"):
        open_exported(rewritten(program, tmp_path, lambda name, content: content, twice="model.json"))
    with zipfile.ZipFile(rewritten(program, tmp_path, lambda name, content: content), "a") as archive:
        archive.writestr("model/data/aotinductor/model.so", b"machine code")
    with pytest.raises(UnsafeFile, match="does not write"):
        open_exported(tmp_path / "model.pt2")


def test_a_network_that_gives_no_numbers_is_not_written(model_file: Path, tmp_path: Path):
    state, card = modelfile.read(model_file)
    state["fc.bias"][0] = float("nan")
    modelfile.save(tmp_path / "model.safetensors", state, card)
    with pytest.raises(ExportFailed, match="away from evaluate's"):
        rk.export(tmp_path / "model.safetensors")
    assert not (tmp_path / "export").exists()
