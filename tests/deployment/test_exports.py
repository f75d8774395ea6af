"""What is exported says what the network says, carries everything, and is written whole or not at all."""

import errno
import hashlib
import json
import os
import subprocess
import sys
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import resnetkit as rk
from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.catalog.pretrained import pretrained
from resnetkit.checkpoints import modelfile
from resnetkit.checkpoints.modelfile import ModelCard
from resnetkit.data.preparing import prepare
from resnetkit.data.transforms import resize_pixels
from resnetkit.deployment.backends.onnx_runtime import onnx_session
from resnetkit.deployment.exports import to_onnx, to_openvino
from resnetkit.deployment.exports.formats import FORMATS
from resnetkit.deployment.exports.opened import onnx_run, open_exported, openvino_run
from resnetkit.deployment.exports.source import source_of
from resnetkit.deployment.exports.writing import export_path
from resnetkit.deployment.opening import open_model
from resnetkit.errors import CheckpointError, ExportFailed, InvalidArgument, MissingExtra, WriteFailed

pytestmark = pytest.mark.usefixtures("operators_read_once")

FORMAT_NAMES = ("onnx", "openvino", "torch")
SIZES = ((45, 61), (1, 1), (20_000, 100), (32, 32), (7, 300))


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small colour network with names, a temperature and a licence; its statistics are not those of a fresh one."""
    torch.manual_seed(1)
    row = replace(rk.architecture("resnet18"), depths=(1, 1, 1, 1), widths=(8, 16, 24, 32))
    network = rk.create_model(row, num_classes=5)
    with torch.no_grad():
        network.train()
        for _ in range(3):
            network(2 * torch.randn(8, 3, 32, 32) + 0.3)
        network.fc.weight.mul_(5)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    modelfile.save(
        path,
        network.state_dict(),
        ModelCard(
            row=row,
            num_classes=5,
            class_names=("ant", "bee", "cat", "Däne", "<&>\"'"),
            temperature=1.7,
            licence="Apache-2.0",
            preprocess=Preprocess.for_size(32, crop_share=0.8, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25)),
        ),
    )
    return path


@pytest.fixture(scope="module")
def exports(model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """The network in every format, with either input."""
    folder = tmp_path_factory.mktemp("exports")
    return {
        (name, input_): rk.export(model_file, folder / name / input_, format=name, input=input_).path
        for name in FORMAT_NAMES
        for input_ in ("picture", "tensor")
    }


def evaluated(model_file: Path, pictures: np.ndarray) -> np.ndarray:
    """The probabilities that `evaluate` computes."""
    opened = open_model(model_file)
    return opened.classifier()(prepare(pictures, opened.preprocess, resize_pixels))


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_pictures_of_any_size_get_the_probabilities_of_evaluate(model_file, exports, name):
    model = open_exported(exports[name, "picture"])
    rng = np.random.default_rng(0)
    for height, width in SIZES:
        for count in (1, 3):
            pictures = rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
            pictures[0] = np.linspace(0, 255, width).astype(np.uint8)[None, :, None]
            wanted, got = evaluated(model_file, pictures), model.run(pictures)
            assert got.shape == (count, 5)
            assert got.dtype == np.float32
            assert np.abs(got - wanted).max() < 0.01, (height, width)
            clear = np.diff(np.sort(wanted)[:, -2:])[:, 0] > 0.005
            assert (got.argmax(1) == wanted.argmax(1))[clear].all(), (height, width)


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_a_tensor_file_is_the_bare_network(model_file, exports, name):
    model, network = open_exported(exports[name, "tensor"]), rk.load(model_file)
    for count in (1, 4):
        x = torch.randn(count, 3, 32, 32)
        with torch.no_grad():
            wanted = network(x).numpy()
        assert np.abs(model.run(x.numpy()) - wanted).max() < 1e-4 * np.abs(wanted).max()
    with pytest.raises(InvalidArgument, match=r"takes pictures of \(32, 32\) alone"):
        model.probabilities(np.zeros((1, 32, 40, 3), np.uint8))


@pytest.mark.parametrize("case", [
    {"size": 32, "crop_share": 0.8},
    {"size": 32, "crop_share": 0.9, "interpolation": "bicubic", "rounding": "round"},
    {"size": (24, 40), "crop_mode": "pad"},
    {"size": (40, 24), "crop_mode": "squash", "interpolation": "bicubic"},
    {"size": 28, "mean": (0.5,), "std": (0.5,)},
], ids=["centre", "bicubic", "pad", "squash", "grey"])  # fmt: skip
def test_resizing_in_the_graph_is_within_a_grey_level_of_pillow(case):
    row = Preprocess.for_size(**case)
    card = ModelCard(
        row=rk.architecture("resnet18"), num_classes=1, preprocess=row, in_chans=row.channels
    )  # fmt: skip
    graphs = (
        onnx_run(onnx_session(to_onnx.preprocessing(card).SerializeToString())),
        openvino_run(to_openvino.preprocessing(card)),
    )
    rng = np.random.default_rng(0)
    for height, width in SIZES:
        pictures = rng.integers(0, 256, (2, height, width, row.channels), dtype=np.uint8)
        pictures[1] = np.linspace(0, 255, height).astype(np.uint8)[:, None, None]
        wanted = np.stack([pillow(picture, row) for picture in pictures]).astype(int)
        for graph in graphs:
            assert np.abs(graph(pictures).astype(int) - wanted).max() <= 1, (height, width)


def pillow(picture: np.ndarray, row: Preprocess) -> np.ndarray:
    """The row as Pillow alone would do it: resize, then paste on the mean colour around the middle."""
    image = Image.fromarray(picture[..., 0] if row.channels == 1 else picture)
    height, width = row.resized(*picture.shape[:2])
    image = image.resize((width, height), Image.Resampling[row.interpolation.upper()])
    fill = tuple(round(255 * value) for value in row.mean)
    canvas = Image.new(image.mode, row.size[::-1], fill if row.channels == 3 else fill[0])
    (spare_y, spare_x) = (row.size[0] - height, row.size[1] - width)
    place = [spare // 2 if spare >= 0 else -round(-spare / 2) for spare in (spare_x, spare_y)]
    canvas.paste(image, tuple(place))
    return np.asarray(canvas).reshape(*row.size, row.channels)


def test_the_file_says_everything(model_file, exports):
    for (_, input_), path in exports.items():
        card = open_exported(path).card
        assert card.class_names == ("ant", "bee", "cat", "Däne", "<&>\"'")
        assert (card.temperature, card.licence, card.input) == (1.7, "Apache-2.0", input_)
        assert card.preprocess == open_model(model_file).preprocess
        assert card.source_sha256 == hashlib.sha256(model_file.read_bytes()).hexdigest()
        golden = card.golden.picture()
        assert (golden.shape == (32, 32, 3)) == (input_ == "tensor")
        if input_ == "picture":
            assert np.abs(evaluated(model_file, golden[None])[0] - card.golden.output).max() < 0.01


def test_a_standing_export_is_replaced_and_leaves_nothing_beside(model_file, exports):
    path = exports["openvino", "picture"]
    rk.export(model_file, path, format="openvino")
    assert sorted(each.name for each in path.parent.iterdir()) == ["model.bin", "model.xml"]
    assert rk.verify(path.parent).passed


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_verify_finds_changed_numbers_and_never_imports_torch(exports, name, tmp_path: Path):
    for input_ in ("picture", "tensor"):
        script = (
            "import sys\nimport resnetkit as rk\n"
            f"assert rk.verify({str(exports[name, input_])!r}).passed\n"
            "assert not {'torch', 'openvino_telemetry'} & {k for k, v in sys.modules.items() if v}\n"
        )
        subprocess.run([sys.executable, "-c", script], check=True)
    spoilt = tmp_path / exports[name, "picture"].name
    if name == "onnx":
        import onnx
        from onnx import numpy_helper

        model = onnx.load(exports[name, "picture"])
        (weight,) = (entry for entry in model.graph.initializer if sorted(entry.dims) == [5, 32])
        weight.CopyFrom(numpy_helper.from_array(1.5 * numpy_helper.to_array(weight), weight.name))
        onnx.save(model, spoilt)
        assert not rk.verify(spoilt).passed
    else:
        spoilt.write_bytes(exports[name, "picture"].read_bytes())
        content = bytearray(exports[name, "picture"].with_suffix(".bin").read_bytes())
        content[len(content) // 2] ^= 64
        spoilt.with_suffix(".bin").write_bytes(content)
        with pytest.raises(CheckpointError, match="is not the one"):
            rk.verify(spoilt)


@pytest.mark.parametrize("name", FORMAT_NAMES)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 0.99])
def test_a_truncated_file_is_refused_in_one_line(exports, tmp_path, name, share):
    whole = exports[name, "picture"]
    cut = tmp_path / whole.name
    cut.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
    if name == "openvino":
        cut.with_suffix(".bin").write_bytes(whole.with_suffix(".bin").read_bytes())
    with pytest.raises(CheckpointError) as error:
        rk.verify(cut)
    assert len(str(error.value).splitlines()) == 1


def test_truncated_openvino_numbers_are_refused(exports, tmp_path):
    whole = exports["openvino", "picture"]
    (tmp_path / "model.xml").write_bytes(whole.read_bytes())
    with pytest.raises(CheckpointError, match=r"there is no file .*model\.bin"):
        rk.verify(tmp_path)
    content = whole.with_suffix(".bin").read_bytes()
    (tmp_path / "model.bin").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError):
        rk.verify(tmp_path)


@pytest.mark.parametrize("golden", ["{}", "[1]", '{"format": 99}', '{"format": 1, "golden": {}}', "nonsense", ""])
def test_strange_metadata_is_refused(exports, tmp_path, golden):
    import onnx

    model = onnx.load(exports["onnx", "picture"])
    model.metadata_props[0].value = golden
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(CheckpointError, match=r"metadata|does not say what it is"):
        rk.verify(tmp_path)


def test_a_program_that_would_run_code_is_not_opened(exports, tmp_path):
    import zipfile

    flag = tmp_path / "was-run"
    attack = f"__import__('pathlib').Path({str(flag)!r}).touch()"

    def rewritten(change) -> Path:
        path = tmp_path / "model.pt2"
        with zipfile.ZipFile(exports["torch", "picture"]) as old, zipfile.ZipFile(path, "w") as new:
            for name in old.namelist():
                new.writestr(name, change(name, old.read(name)))
        return path

    def in_json(name: str, old: bytes, new: bytes):
        def change(member: str, content: bytes) -> bytes:
            return content.replace(old, new) if member.endswith(name) else content

        return change

    class Bomb:
        def __reduce__(self):
            return exec, (attack,)

    import pickle

    changes = [
        in_json("model.json", b"torch.ops.aten.conv2d.default", b"torch.load"),
        in_json("weights_config.json", b'"use_pickle": false', b'"use_pickle": true'),
        lambda name, content: pickle.dumps(Bomb()) if "sample_inputs" in name else content,
        lambda name, content: content.replace(b'"expr_str": "', b'"expr_str": "' + attack.replace('"', "'").encode())
        if name.endswith("model.json") else content,
    ]  # fmt: skip
    for change in changes:
        with pytest.raises(CheckpointError):
            rk.verify(rewritten(change))
        assert not flag.exists()
    assert rk.verify(rewritten(lambda name, content: content)).passed


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_a_full_disk_leaves_what_stood_there(model_file, tmp_path, name, monkeypatch):
    path = rk.export(model_file, tmp_path, format=name).path
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if name == "openvino":
        import openvino

        monkeypatch.setattr(openvino, "serialize", full)
    else:
        monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(WriteFailed, match="no space is left"):
        rk.export(model_file, path, format=name)
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before


def test_a_graph_that_says_something_else_is_not_written(model_file, tmp_path, monkeypatch):
    right = FORMATS["onnx"].run
    monkeypatch.setattr(type(FORMATS["onnx"]), "run", lambda self, model: lambda batch: 0.9 * right(model)(batch))
    with pytest.raises(ExportFailed, match="away from the network"):
        rk.export(model_file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_graph_that_evaluate_would_not_agree_with_is_not_written(model_file, tmp_path, monkeypatch):
    monkeypatch.setattr("resnetkit.deployment.exports.graphs.chances", lambda logits, task: logits.softmax(1) * 0.9)
    with pytest.raises(ExportFailed, match="away from evaluate's"):
        rk.export(model_file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_old_graph_never_stands_beside_new_numbers(model_file, tmp_path, monkeypatch):
    """Whoever loads both with OpenVINO alone compares no hashes."""
    path = rk.export(model_file, tmp_path, format="openvino").path
    move = os.replace

    def ends(source, target) -> None:
        if Path(source).suffix == ".xml":
            raise OSError(errno.EIO, "the machine stops here")
        move(source, target)

    monkeypatch.setattr("resnetkit.deployment.exports.formats.os.replace", ends)
    with pytest.raises(WriteFailed):
        rk.export(model_file, path, format="openvino")
    assert [each.name for each in tmp_path.iterdir()] == ["model.bin"]


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("onnx", "onnxruntime", "onnx"), ("onnx", "onnxscript", "onnx"), ("openvino", "openvino", "openvino")],
)
def test_a_missing_package_names_its_extra(model_file, tmp_path, name, package, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf'needs {package}: pip install "resnetkit\[{extra}\]"'):
        rk.export(model_file, tmp_path / "out", format=name)
    assert not (tmp_path / "out").exists()


def test_a_package_that_came_under_another_name_is_no_reason_to_fail(model_file, tmp_path, monkeypatch):
    """onnxruntime-gpu and onnxruntime-openvino bring the module onnxruntime and no package of this name."""
    from importlib import metadata

    asked = metadata.version

    def version(package: str) -> str:
        if package == "onnxruntime":
            raise metadata.PackageNotFoundError(package)
        return asked(package)

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr("resnetkit.deployment.exports.writing.version", version, raising=False)
    assert set(rk.export(model_file, tmp_path).card.made_with) == {"resnetkit", "torch", "onnx"}


def test_a_link_to_a_graph_keeps_its_numbers_beside_it(model_file, tmp_path):
    real, link = tmp_path / "store" / "model.xml", tmp_path / "link" / "model.xml"
    link.parent.mkdir()
    rk.export(model_file, real, format="openvino", input="tensor")
    link.symlink_to(real)
    rk.export(model_file, link, format="openvino")
    assert [each.name for each in link.parent.iterdir()] == ["model.xml"]
    assert sorted(each.name for each in real.parent.iterdir()) == ["model.bin", "model.xml"]
    for path in (real, link):
        assert open_exported(path).card.input == "picture"
        assert rk.verify(path).passed


def test_more_numbers_than_onnx_can_hold_are_told_before_converting(model_file):
    class Large(nn.Module):
        def state_dict(self):
            return OrderedDict(weight=torch.empty(2**29, device="meta"))

    with pytest.raises(ExportFailed, match=r"take 2\S* GiB.*use --format openvino"):
        to_onnx.to_onnx(Large(), open_model(model_file).card, "tensor")


def test_what_is_named_and_is_no_file_goes_into_the_working_folder(tmp_path, monkeypatch):
    """Published weights lie in a cache that other tools share: beside them, one export would replace the other."""
    weights = pretrained("resnet18.tv_in1k")
    kept = tmp_path / "torch" / "hub" / "checkpoints" / str(weights.url).rsplit("/", 1)[-1]
    kept.parent.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(rk.create_model("resnet18").state_dict(), kept)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    done = rk.export(weights.name, format="openvino", input="tensor")
    assert done.path == Path("export", weights.name, "model.xml")
    assert [each.name for each in kept.parent.iterdir()] == [kept.name]
    assert source_of(open_exported(done.path)).resolve() == kept.resolve()
    assert rk.export("resnet20", format="torch", input="tensor").path == Path("export/resnet20/model.pt2")


def test_features_are_no_answer(tmp_path):
    network = rk.create_model("resnet18", num_classes=0)
    card = ModelCard(row=rk.architecture("resnet18"), num_classes=0, preprocess=Preprocess.for_size(32))
    modelfile.save(tmp_path / "model.safetensors", network.state_dict(), card)
    with pytest.raises(InvalidArgument, match="features"):
        rk.export(tmp_path / "model.safetensors", tmp_path)


def test_paths():
    assert export_path(Path("a/b.ONNX"), "onnx") == Path("a/b.ONNX")
    assert export_path(Path("a.b"), "torch") == Path("a.b/model.pt2")


def test_the_card_is_plain_json(exports):
    import onnx

    (entry,) = onnx.load(exports["onnx", "picture"]).metadata_props
    values = json.loads(entry.value)
    assert entry.key == "resnetkit"
    assert {"format", "class_names", "preprocess", "temperature", "licence", "source_sha256", "golden"} <= set(values)
