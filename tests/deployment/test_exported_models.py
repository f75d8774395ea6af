"""Exported files are MODELs as any other: predicted, scored and measured, without torch where they need none."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import resnetkit as rk
from resnetkit.api.benchmarking import benchmark
from resnetkit.api.evaluating import evaluate
from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.cli import main
from resnetkit.data.preparing import prepare, resize_with_pillow
from resnetkit.deployment.backends.lanes import Lanes
from resnetkit.deployment.exports.classifier import ExportedClassifier, classifier_of, on_canvas
from resnetkit.deployment.exports.graphs import PictureToPixels
from resnetkit.deployment.exports.opened import chances, open_exported
from resnetkit.deployment.stated import Stated
from resnetkit.errors import CheckpointError, InvalidArgument, MissingExtra
from resnetkit.tasks.classifier import chances as torch_chances

pytestmark = pytest.mark.usefixtures("operators_read_once")

FORMATS = ("onnx", "openvino", "torch")


@pytest.fixture(scope="module")
def files(digits_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    folder = tmp_path_factory.mktemp("exports")
    return {
        (name, input_): rk.export(digits_run, folder / name / input_, format=name, input=input_).path
        for name in FORMATS
        for input_ in ("picture", "tensor")
    }


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("pictures")
    paths = []
    for index in range(5):
        image = Image.fromarray((load_digits().images[index] * 15.9375).astype(np.uint8))
        image.resize((30 + 7 * index, 41)).save(folder / f"{index}.png")
        paths.append(str(folder / f"{index}.png"))
    return paths


@given(
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)), more=st.integers(0, 9),
    crop_mode=st.sampled_from(["centre", "squash", "pad"]), rounding=st.sampled_from(["floor", "round"]),
)  # fmt: skip
def test_preprocessing_makes_the_pixels_of_their_canvas(size, more, crop_mode, rounding):
    row = Preprocess(size=size, resize=min(size) + more, crop_mode=crop_mode, rounding=rounding)
    pixels = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    canvas = on_canvas(pixels, row)
    assert (prepare(canvas, row, resize_with_pillow) == pixels).all()
    assert (PictureToPixels(row)(torch.from_numpy(canvas)).numpy() == pixels).all()


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_chances_are_torchs(task):
    logits = torch.tensor([[0.0, -90.0, 3.0], [120.0, 1.0, -1.0]])
    assert np.allclose(chances(logits.numpy(), task), torch_chances(logits, task).numpy(), atol=1e-7)


@pytest.mark.parametrize("input_", ["picture", "tensor"])
@pytest.mark.parametrize("name", FORMATS)
def test_predictions_and_scores_are_those_of_the_network(digits_run, files, pictures, name, input_):
    file = files[name, input_]
    own, other = rk.Predictor(digits_run), rk.Predictor(file)
    answers = list(other.stream(pictures))
    for picture, streamed in zip(pictures, answers, strict=True):
        wanted, got = own(picture), other(picture)
        assert np.abs(got.probabilities - wanted.probabilities).max() < 0.01
        assert np.abs(got.probabilities - streamed.probabilities).max() < 1e-5
        assert got.class_names == wanted.class_names
    wanted, got = evaluate(digits_run, "digits").scores, evaluate(file.parent, "digits", batch_size=50).scores
    assert (got.n, got.right) == (wanted.n, wanted.right)
    assert abs(got.loss - wanted.loss) < 0.001


@pytest.mark.parametrize("input_", ["picture", "tensor"])
@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_prepared_pixels_are_asked_from_where_they_enter_and_several_batches_at_once(files, name, input_, monkeypatch):
    """A whole `picture` file would resize once more: its graph is begun at its pixels. Answers are the file's."""
    model = open_exported(files[name, input_])
    pixels = np.random.default_rng(0).integers(0, 256, (7, *model.card.preprocess.size, 1), np.uint8)
    batches = [pixels[:3], pixels[3:6], pixels[6:]]
    wanted = np.concatenate([ExportedClassifier(model)(batch) for batch in batches])

    def never(*_: object) -> None:
        raise AssertionError("it was resized once more")

    begun = {"onnx": "OnnxRuntimeClassifier", "openvino": "OpenVinoClassifier"}[name]
    with monkeypatch.context() as patch:
        if input_ == "picture":
            patch.setattr("resnetkit.deployment.exports.classifier.on_canvas", never)
        for lanes in (Lanes(1, 1), Lanes(2, 1)):
            classifier = classifier_of(model, lanes)
            assert type(classifier).__name__ == (
                "ExportedClassifier" if (name, input_) == ("onnx", "tensor") else begun
            )
            assert classifier.description == model.description
            assert np.abs(np.concatenate(list(classifier.stream(iter(batches)))) - wanted).max() < 1e-5
            assert np.abs(classifier(pixels) - wanted).max() < 1e-5
    monkeypatch.setattr("resnetkit.deployment.exports.cutting.find_spec", lambda package: None)
    if name == "onnx":  # ONNX Runtime alone cannot begin inside a graph, but it has its lanes
        whole = classifier_of(model, Lanes(2, 1))
        assert isinstance(whole, ExportedClassifier)
        assert np.abs(np.concatenate(list(whole.stream(iter(batches)))) - wanted).max() < 1e-5


def test_a_file_is_predicted_and_scored_with_a_core_for_each_batch(files, pictures, monkeypatch):
    seen = []

    def noted(model, lanes):
        seen.append(lanes)
        return classifier_of(model, lanes)

    monkeypatch.setattr("resnetkit.deployment.exports.classifier.classifier_of", noted)
    file = files["onnx", "picture"]
    assert len(list(rk.predict(file, pictures, batch_size=2))) == len(pictures)
    evaluate(file, "digits", split="val")
    assert len(list(rk.predict(file, pictures))) == len(pictures)
    assert seen == [Lanes.of("throughput"), Lanes.of("throughput"), Lanes.of("latency")]


def test_evaluate_finds_the_part_that_was_held_out(digits_run, files):
    file = files["onnx", "picture"]
    assert evaluate(file, "digits", split="val").scores.n == evaluate(digits_run, "digits", split="val").scores.n == 144
    assert evaluate(file, "digits", split="val", tta="flip").scores.top1 > 0.3


@pytest.mark.parametrize("input_", ["picture", "tensor"])
@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_predicting_imports_no_torch(files, pictures, name, input_):
    script = (
        "import sys\nfrom resnetkit.cli import main\n"
        f"try:\n    main(['predict', {str(files[name, input_])!r}, *{pictures!r}, '--jsonl'])\n"
        "except SystemExit as left:\n    assert left.code == 0\n"
        "seen = {'torch', 'nncf', 'openvino_telemetry', 'sklearn'} & {k for k, v in sys.modules.items() if v}\n"
        "assert not seen, seen\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["source"] for row in rows] == pictures


def test_benchmark_measures_the_file_as_it_is(files, capsys):
    row, lanes = benchmark(files["onnx", "picture"], batches=(3,), rounds=1, seconds=0.02).results
    assert (row.mode, lanes.mode) == ("latency", "throughput")
    assert (row.backend, row.precision, row.batch, row.top1_agreement) == ("onnxruntime", "float32", 3, 1.0)
    assert row.images_per_second > 0
    assert row.limit_share is not None
    assert row.limit_share > 0
    assert {each.precision for each in benchmark(
        files["onnx", "tensor"], batches=(1,), precisions=("bf16", "float32"), rounds=1, seconds=0.01
    ).results} == {"float32"}  # fmt: skip
    with pytest.raises(SystemExit) as left:
        main(["benchmark", str(files["openvino", "picture"]), "--rounds", "1", "--batch-size", "1"])
    assert left.value.code == 0
    assert "float32" in capsys.readouterr().out


def test_a_file_that_has_left_its_network_is_measured_alone(files, tmp_path):
    alone = tmp_path / "model.onnx"
    alone.write_bytes(files["onnx", "picture"].read_bytes())
    result = benchmark(alone, batches=(1,), rounds=1, seconds=0.01)
    assert result.macs is None
    assert {(row.top1_agreement, row.limit_share) for row in result.results} == {(None, None)}


def test_agreement_of_a_file_is_with_its_own_network(files, digits_run, tmp_path):
    """On the digits themselves; a file whose weights were changed says something else than its network."""
    import onnx
    from onnx import numpy_helper

    whole = files["onnx", "picture"]
    changed = whole.parent / "changed.onnx"  # as far from the model file as the file it was made of
    model = onnx.load(whole)
    (weight,) = (entry for entry in model.graph.initializer if len(entry.dims) == 2 and 10 in entry.dims)
    weight.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weight), weight.name))
    onnx.save(model, changed)
    for file, low, high in ((whole, 1.0, 1.0), (changed, 0.0, 0.5)):
        for row in benchmark(file, data="digits", batches=(32,), rounds=1, seconds=0.01).results:
            assert low <= row.top1_agreement <= high


def test_what_was_settled_at_export_is_not_asked_again(files, pictures):
    file = files["onnx", "picture"]
    for asked in ({"backend": "openvino"}, {"precision": "bf16"}, {"device": "cuda"}):
        with pytest.raises(InvalidArgument, match="leave out"):
            rk.Predictor(file, **asked)
    for asked in ({"backends": ("openvino",)}, {"precisions": ("bf16",)}, {"precisions": ("int8",)}):
        with pytest.raises(InvalidArgument, match="leave out"):
            benchmark(file, **asked)
    with pytest.raises(InvalidArgument, match="when exporting"):
        rk.Predictor(file, stated=Stated(image_size=64))
    names = tuple("abcdefghij")
    assert rk.Predictor(file, stated=Stated(class_names=names))(pictures[0]).class_names == names
    with pytest.raises(InvalidArgument, match="2 class names"):
        rk.Predictor(file, stated=Stated(class_names=("a", "b")))


@pytest.mark.parametrize(("name", "extra"), [("onnx", "onnx"), ("openvino", "openvino")])
def test_a_missing_runtime_names_its_extra(files, name, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, {"onnx": "onnxruntime", "openvino": "openvino"}[name], None)
    with pytest.raises(MissingExtra, match=rf'pip install "resnetkit\[{extra}\]"'):
        rk.Predictor(files[name, "picture"])


@pytest.mark.parametrize("name", FORMATS)
def test_truncated_and_missing_files_are_refused(files, tmp_path, name):
    whole = files[name, "picture"]
    cut = tmp_path / whole.name
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    if name == "openvino":
        cut.with_suffix(".bin").write_bytes(whole.with_suffix(".bin").read_bytes())
    for verb in (rk.Predictor, lambda file: evaluate(file, "digits"), benchmark):
        with pytest.raises(CheckpointError):
            verb(cut)
        with pytest.raises(CheckpointError, match="there is no file"):
            verb(tmp_path / "none" / whole.name)


def test_files_of_other_programs_are_refused(files, tmp_path):
    import onnx

    model = onnx.load(files["onnx", "picture"])
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "model.onnx")
    text = files["openvino", "picture"].read_text(encoding="utf-8")
    (tmp_path / "model.xml").write_text(text.replace("<resnetkit ", "<other ", 1), encoding="utf-8")
    (tmp_path / "model.bin").write_bytes(files["openvino", "picture"].with_suffix(".bin").read_bytes())
    for name in ("model.onnx", "model.xml"):
        with pytest.raises(CheckpointError, match="does not say what it is"):
            rk.Predictor(tmp_path / name)
        assert open_exported(files["onnx", "picture"]).card.num_classes == 10
