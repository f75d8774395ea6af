"""One network in every runtime gives one answer; what is slower here is never chosen; nothing is kept by halves."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.deployment.backends.lanes import Lanes, Mode
from resnetkit.deployment.building import Backend, build
from resnetkit.deployment.choosing import Work, choose
from resnetkit.deployment.opening import OpenedModel, open_model
from resnetkit.deployment.predictor import Failure, Prediction, Predictor
from resnetkit.deployment.probing import Bound, Choice, candidates, ever_chosen, probe, remember, remembered
from resnetkit.deployment.stated import Stated
from resnetkit.errors import InvalidArgument, MissingExtra
from resnetkit.tasks.bf16 import has_native_bf16

NATIVE = pytest.mark.skipif(not has_native_bf16(torch.device("cpu")), reason="this processor has no bf16")
QUICK: tuple[Backend, ...] = ("torch", "onnxruntime", "openvino")


@pytest.fixture(scope="module")
def opened(digits_run: Path) -> OpenedModel:
    return open_model(digits_run)


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    from sklearn.datasets import load_digits

    grey = (load_digits().images[:48, :, :, None] * 15.9375).astype(np.uint8)
    return np.ascontiguousarray(grey)


@pytest.fixture(scope="module")
def pixels(opened: OpenedModel, digits: np.ndarray) -> np.ndarray:
    return digits if opened.preprocess.channels == 1 else digits.repeat(3, axis=3)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("RESNETKIT_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def exact(opened: OpenedModel, pixels: np.ndarray) -> np.ndarray:
    return opened.classifier()(pixels)


def test_a_bare_architecture_says_that_its_weights_are_random() -> None:
    (note,) = open_model("resnet20").notes
    assert "its weights are random" in note


def test_what_is_stated_holds_for_a_model_file_and_a_run(digits_run: Path) -> None:
    names = tuple("abcdefghij")
    for spec in (digits_run, digits_run / "model.safetensors"):
        card = open_model(spec, Stated(class_names=names, crop_mode="squash")).card
        assert (card.class_names, card.preprocess.crop_mode) == (names, "squash")
    with pytest.raises(InvalidArgument, match="2 class names"):
        open_model(digits_run, Stated(class_names=("a", "b")))


@pytest.mark.parametrize("mode", ["latency", "throughput"])
@pytest.mark.parametrize("backend", QUICK)
def test_every_runtime_gives_the_same(
    opened: OpenedModel, pixels: np.ndarray, exact: np.ndarray, backend: Backend, mode: Mode
) -> None:
    classifier = build(opened, backend, "float32", Lanes.of(mode, cores=2))
    assert classifier.class_names == tuple("0123456789")
    for answers in (classifier(pixels), np.concatenate([classifier(pixels[i : i + 1]) for i in range(len(pixels))])):
        assert answers.dtype == np.float32
        np.testing.assert_allclose(answers, exact, atol=1e-5)
    batches = [pixels[start : start + 5] for start in range(0, 48, 5)]  # the last one is smaller
    streamed = list(classifier.stream(iter(batches)))
    assert [len(answers) for answers in streamed] == [len(batch) for batch in batches]
    np.testing.assert_allclose(np.concatenate(streamed), exact, atol=1e-5)
    assert list(classifier.stream(iter(()))) == []


def test_a_stream_may_grow_and_shrink(opened: OpenedModel, pixels: np.ndarray, exact: np.ndarray) -> None:
    classifier = build(opened, "openvino", "float32", Lanes.of("throughput", cores=2))
    sizes = [1, 3, 2, 7, 7, 1, 4]
    ends = np.cumsum(sizes)
    batches = [pixels[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    np.testing.assert_allclose(np.concatenate(list(classifier.stream(batches))), exact[: ends[-1]], atol=1e-5)


@pytest.mark.parametrize("backend", ["torch", pytest.param("openvino", marks=NATIVE)])
def test_bf16_says_the_same_within_the_bound(
    opened: OpenedModel, pixels: np.ndarray, exact: np.ndarray, backend: Backend
) -> None:
    answers = build(opened, backend, "bf16", Lanes.of("latency", cores=1))(pixels)
    assert Bound(agreement=0.95, difference=0.1).holds(answers, exact)


@pytest.mark.slow
def test_compiled_it_gives_the_same(opened: OpenedModel, pixels: np.ndarray, exact: np.ndarray) -> None:
    classifier = build(opened, "compile", "float32", Lanes.of("latency"))
    np.testing.assert_allclose(classifier(pixels), exact, atol=1e-5)
    assert classifier.note is None


def test_without_a_compiler_it_computes_uncompiled_and_says_so(
    opened: OpenedModel, pixels: np.ndarray, exact: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch._inductor.config as inductor

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # where nothing is compiled yet
    with inductor.patch({"cpp.cxx": (None, str(tmp_path / "no-such-compiler"))}):
        ready = choose(opened, backend="compile", batch_size=len(pixels))
    np.testing.assert_allclose(ready.classifier(pixels), exact, atol=1e-5)
    assert sum("cannot compile" in note for note in ready.notes) == 1
    torch.compiler.reset()


def test_converted_once_and_made_anew_where_it_was_damaged(
    opened: OpenedModel, pixels: np.ndarray, exact: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESNETKIT_CACHE", str(tmp_path / "cache"))
    lanes = Lanes.of("latency", cores=1)
    build(opened, "openvino", "float32", lanes)
    (kept,) = (tmp_path / "cache" / "converted").iterdir()
    made = (kept / "model.bin").stat().st_mtime_ns
    build(opened, "openvino", "float32", lanes)
    assert (kept / "model.bin").stat().st_mtime_ns == made
    (kept / "model.xml").write_text("<net")
    np.testing.assert_allclose(build(opened, "openvino", "float32", lanes)(pixels), exact, atol=1e-5)
    assert [path.name for path in (tmp_path / "cache" / "converted").iterdir()] == [kept.name]


def test_other_weights_are_another_conversion(opened: OpenedModel, pixels: np.ndarray, exact: np.ndarray) -> None:
    other = open_model(opened.source or "")
    with torch.no_grad():
        next(other.network.parameters()).mul_(0.5)
    assert np.abs(build(other, "openvino", "float32", Lanes.of("latency"))(pixels) - exact).max() > 1e-3


def test_without_a_place_to_keep_anything_it_still_answers(
    opened: OpenedModel, pixels: np.ndarray, exact: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RESNETKIT_CACHE", str(tmp_path / "file" / "cache"))
    answers = build(opened, "onnxruntime", "float32", Lanes.of("latency"))(pixels)
    np.testing.assert_allclose(answers, exact, atol=1e-5)
    choices = candidates("auto", "float32")
    name, _ = remembered(opened, choices, mode="latency", batch_size=1)
    remember(name, choices[0])
    assert remembered(opened, choices, mode="latency", batch_size=1)[1] is None


@pytest.mark.parametrize(("package", "backend"), [("openvino", "openvino"), ("onnxruntime", "onnxruntime")])
def test_a_missing_package_names_the_extra(
    opened: OpenedModel, package: str, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=r'pip install "resnetkit\[(onnx|openvino)\]"'):
        build(opened, backend, "float32", Lanes.of("latency"))


def test_what_a_runtime_cannot_compute_is_said(opened: OpenedModel) -> None:
    with pytest.raises(InvalidArgument, match="int8 comes from calibration"):
        choose(opened, backend="openvino", precision="int8")
    with pytest.raises(InvalidArgument, match="computes this network in float32"):
        choose(opened, backend="onnxruntime", precision="bf16")
    with pytest.raises(InvalidArgument, match="choose auto, torch"):
        choose(opened, backend="tensorrt")


def test_a_probe_takes_what_is_quickest_and_remembers_it(opened: OpenedModel, pixels: np.ndarray) -> None:
    choices = candidates("auto", "float32")
    assert {choice.backend for choice in choices} == {"torch", "onnxruntime", "openvino"}
    found = probe(opened, choices, pixels, mode="latency", images=10**9, bound=Bound())
    assert found is not None
    name, before = remembered(opened, choices, mode="latency", batch_size=48)
    assert before is None
    remember(name, found[0])
    assert remembered(opened, choices, mode="latency", batch_size=48)[1] == found[0]
    assert remembered(opened, choices, mode="throughput", batch_size=48)[1] is None


def test_much_work_is_probed_once(opened: OpenedModel, pixels: np.ndarray) -> None:
    asked = []

    def sample(_: Preprocess) -> np.ndarray:
        asked.append(1)
        return pixels

    much = Work(10**9, sample)
    first = choose(opened, work=much, batch_size=40).classifier.description
    again = choose(opened, work=much, batch_size=40).classifier.description
    assert (again, len(asked)) == (first, 1)


def test_little_work_is_not_worth_a_probe(opened: OpenedModel, pixels: np.ndarray) -> None:
    assert probe(opened, candidates("auto", "auto"), pixels, mode="latency", images=48, bound=Bound()) is None
    assert "torch" not in choose(opened, backend="openvino").classifier.description
    work = Work(48, lambda _: pixels)
    assert choose(opened, work=work).classifier.description.endswith("float32 · cpu")


def test_an_answer_outside_the_bound_is_never_chosen(opened: OpenedModel, pixels: np.ndarray) -> None:
    tight = Bound(agreement=1.0, difference=1e-6)
    found = probe(opened, candidates("openvino", "auto"), pixels, mode="latency", images=10**9, bound=tight)
    assert found is None or found[0] == Choice("openvino", "float32")
    with pytest.raises(InvalidArgument, match="--precision float32"):
        probe(opened, candidates("torch", "bf16"), pixels, mode="latency", images=10**9, bound=tight)


def test_a_processor_without_bf16_is_not_made_to_compute_in_it(opened: OpenedModel) -> None:
    """bf16 is emulated there, which is slower: nothing tries it unasked, and a probe that is made to sees it."""
    code = """
import numpy as np
from resnetkit.deployment.opening import open_model
from resnetkit.deployment.choosing import choose
from resnetkit.deployment.probing import Bound, Choice, candidates, probe
from resnetkit.deployment.stated import Stated
opened = open_model("resnet18", Stated(image_size=96))
pixels = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), np.uint8)
choices = (Choice("torch", "float32"), Choice("torch", "bf16"), Choice("openvino", "bf16"))
print(probe(opened, choices, pixels, mode="latency", images=10**9, bound=Bound(0, 1))[0].precision)
print({choice.precision for choice in candidates("auto", "auto")})
print(choose(opened, backend="torch", precision="bf16").notes)
choose(opened, backend="openvino", precision="bf16")
"""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    chosen, tried, notes = done.stdout.splitlines()[-3:]
    assert (chosen, tried) == ("float32", "{'float32'}")
    assert "no bf16 of its own" in notes
    assert "openvino computes this network in float32 here, not in bf16: use --precision float32" in done.stderr


@NATIVE
def test_what_was_quickest_with_bf16_is_not_taken_for_a_processor_without(
    opened: OpenedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A choice holds for the instruction set it was made on, as a conversion holds for its versions."""
    choices = candidates("auto", "auto")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    name, _ = remembered(opened, choices, mode="latency", batch_size=7)
    assert not ever_chosen("latency", 7)
    remember(name, Choice("openvino", "bf16"))
    assert ever_chosen("latency", 7)
    assert not ever_chosen("throughput", 7)
    assert remembered(opened, choices, mode="latency", batch_size=7)[1] == Choice("openvino", "bf16")
    assert choose(opened, precision="auto", batch_size=7).classifier.description.endswith("bf16 · OpenVINO")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert remembered(opened, choices, mode="latency", batch_size=7)[1] is None
    assert choose(opened, precision="auto", batch_size=7).classifier.description.endswith("float32 · cpu")


def test_int8_is_never_chosen_unasked() -> None:
    """It comes from calibration alone, whatever the processor; a file of it says if it gains nothing here."""
    for precision in ("float32", "bf16", "auto"):
        assert "int8" not in {choice.precision for choice in candidates("auto", precision)}


@pytest.mark.parametrize("backend", QUICK)
def test_ten_thousand_pictures_stream_with_few_of_them_in_hand(
    opened: OpenedModel, digits: np.ndarray, backend: Backend
) -> None:
    predictor = Predictor(opened, backend=backend, mode="throughput", batch_size=64)
    expected = [predictor(digit).top(1)[0].label for digit in digits]
    read = 0

    def pictures():
        nonlocal read
        for index in range(10_000):
            read += 1
            yield b"no picture" if index % 1000 == 999 else digits[index % 48]

    wrong = 0
    for count, answer in enumerate(predictor.stream(pictures(), workers=2), start=1):
        assert read - count < 64 * (Lanes.of("throughput").streams + 5)
        assert isinstance(answer, Failure) == (count % 1000 == 0)
        wrong += isinstance(answer, Prediction) and answer.top(1)[0].label != expected[(count - 1) % 48]
    assert (count, wrong) == (10_000, 0)
