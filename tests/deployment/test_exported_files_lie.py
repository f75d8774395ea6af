"""Exported files that are not what they say: other ends, other answers, or more than arithmetic inside."""

import base64
import html
import json
import re
import shutil
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
from resnetkit.deployment.exports.card import golden as as_golden
from resnetkit.deployment.exports.card import golden_picture, read_card
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


@pytest.fixture(scope="module")
def files(model_file: Path, onnx_file: Path, program: Path) -> dict[str, Path]:
    return {"onnx": onnx_file, "openvino": rk.export(model_file, format="openvino").path, "torch": program}


def with_metadata(kind: str, files: dict[str, Path], folder: Path, change: Callable[[str], str]) -> Path:
    """The file of a format with its metadata changed."""
    import onnx

    def in_program(name: str, content: bytes) -> bytes:
        return change(content.decode()).encode() if name.endswith("extra/resnetkit") else content

    if kind == "torch":
        return rewritten(files[kind], folder, in_program)
    path = folder / files[kind].name
    if kind == "onnx":
        model = onnx.load(files[kind])
        model.metadata_props[0].value = change(model.metadata_props[0].value)
        onnx.save(model, path)
        return path
    shutil.copy(files[kind].with_suffix(".bin"), folder)
    text = files[kind].read_text(encoding="utf-8")
    said = re.search(r'<resnetkit value="([^"]*)"', text).group(1)
    path.write_text(text.replace(said, html.escape(change(html.unescape(said)))), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["onnx", "openvino", "torch"])
def test_other_ends_than_the_metadata_says_are_refused(files: dict[str, Path], kind: str, tmp_path: Path):
    def tensor(text: str) -> str:
        values = json.loads(text)
        picture = golden_picture(Preprocess.from_dict(values["preprocess"]), "tensor")
        golden = as_golden(picture, np.array(values["golden"]["output"]))
        return json.dumps({**values, "input": "tensor", "golden": vars(golden)})

    def one_class_less(text: str) -> str:
        values = json.loads(text)
        values["golden"]["output"].pop()
        return json.dumps({**values, "num_classes": 4})

    assert open_exported(with_metadata(kind, files, tmp_path, lambda text: text)).card.input == "picture"
    with pytest.raises(CheckpointError, match="takes picture, but its metadata says tensor"):
        open_exported(with_metadata(kind, files, tmp_path, tensor))
    with pytest.raises(CheckpointError, match=r"gives \[.*5\], but its metadata says \[batch, 4\]"):
        open_exported(with_metadata(kind, files, tmp_path, one_class_less))


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": -1}, {"temperature": float("nan")}, {"temperature": float("inf")}, {"temperature": "warm"},
        {"threshold": 1.5}, {"threshold": "high"}, {"source": 3}, {"name": ["a"]}, {"row": {"network": "Other"}},
        {"golden": {"png": "iVBORw0KGgo=", "output": [0.0] * 5}}, {"golden": {"png": "?", "output": [0.0] * 5}},
        {"input": "tensor"},
    ],
    ids=str,
)  # fmt: skip
def test_metadata_of_other_values_is_refused(onnx_file: Path, change: dict):
    values = json.loads(open_exported(onnx_file).card.to_json())
    assert read_card(json.dumps(values), "it").row == ROW
    with pytest.raises(CheckpointError, match="the metadata of it cannot be read"):
        read_card(json.dumps({**values, **change}), "it")


def test_a_damaged_golden_picture_is_refused_when_the_file_is_read(onnx_file: Path):
    values = json.loads(open_exported(onnx_file).card.to_json())
    png = base64.b64decode(values["golden"]["png"])
    for damaged in (png[: len(png) // 2], png[:60] + b"????" + png[64:], png[:16] + b"\x7f\xff\xff\xff" * 2 + png[24:]):
        values["golden"]["png"] = base64.b64encode(damaged).decode()
        with pytest.raises(CheckpointError, match="the metadata of it cannot be read"):
            read_card(json.dumps(values), "it")


def test_metadata_of_before_the_row_is_still_read(onnx_file: Path):
    values = json.loads(open_exported(onnx_file).card.to_json())
    del values["row"]
    assert read_card(json.dumps({**values, "format": 1}), "it").row is None


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
