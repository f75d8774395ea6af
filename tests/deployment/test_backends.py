"""One network in every runtime gives one answer; what is slower here is never chosen; nothing is kept by halves."""

import os
import pwd
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import resnetkit
from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.data.places import cache_folder
from resnetkit.deployment import devices
from resnetkit.deployment.backends.artefacts import any_note, kept, key
from resnetkit.deployment.backends.lanes import Lanes, Mode
from resnetkit.deployment.building import Backend, build
from resnetkit.deployment.choosing import Work, choose
from resnetkit.deployment.opening import OpenedModel, open_model
from resnetkit.deployment.predictor import Failure, Prediction, Predictor
from resnetkit.deployment.probing import (
    EXACT,
    Bound,
    Choice,
    builder,
    candidates,
    probe,
    remember,
    remembered,
    worth_a_probe,
)  # fmt: skip
from resnetkit.deployment.stated import Stated
from resnetkit.errors import InvalidArgument, MissingExtra, WriteFailed
from resnetkit.tasks.bf16 import SLOW, has_native_bf16

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


def as_here() -> dict[str, str]:
    """The package that this process tests, wherever another may be installed."""
    return {**os.environ, "PYTHONPATH": str(Path(resnetkit.__file__).parents[1])}


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
    assert classifier.description.endswith("torch compiled")


@pytest.fixture
def sizes_compiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Of the batches for which torch compiles a network; its own first compiler stands in for the slow one."""
    sizes: list[int] = []

    def compiled(network: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., object]:
        (images,) = (each for each in inputs if each.dim() == 4 and not isinstance(each, torch.nn.Parameter))
        sizes.append(len(images))
        return network.forward

    plain = torch.compile
    monkeypatch.setattr(torch, "compile", lambda network, **_: plain(network, dynamic=False, backend=compiled))
    yield sizes
    torch.compiler.reset()


def test_it_is_compiled_for_what_is_asked_alone(
    opened: OpenedModel, pixels: np.ndarray, exact: np.ndarray, sizes_compiled: list[int]
) -> None:
    one = choose(opened, backend="compile").classifier
    assert sizes_compiled == []
    np.testing.assert_allclose(one(pixels[:1]), exact[:1], atol=1e-5)
    assert sizes_compiled == [1]
    batches = [pixels[start : start + 20] for start in range(0, 48, 20)]  # the last one is smaller
    answers = np.concatenate(list(choose(opened, backend="compile").classifier.stream(batches)))
    np.testing.assert_allclose(answers, exact, atol=1e-5)
    assert sizes_compiled == [1, 20]


@pytest.fixture
def no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import torch._inductor.config as inductor

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # where nothing is compiled yet
    with inductor.patch({"cpp.cxx": (None, str(tmp_path / "no-such-compiler"))}):
        yield
    torch.compiler.reset()


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_it_computes_uncompiled_and_says_so(
    opened: OpenedModel, pixels: np.ndarray, exact: np.ndarray
) -> None:
    said: list[str] = []
    classifier = choose(opened, backend="compile", say=said.append).classifier
    assert said == []
    np.testing.assert_allclose(classifier(pixels), exact, atol=1e-5)
    np.testing.assert_allclose(classifier(pixels), exact, atol=1e-5)
    assert ["cannot compile" in text for text in said] == [True]
    assert classifier.description.endswith("float32 · torch")


@pytest.mark.usefixtures("no_compiler")
def test_evaluate_says_it_too(digits_run: Path) -> None:
    result = resnetkit.evaluate(digits_run, "digits", backend="compile")
    assert ["cannot compile" in note for note in result.notes] == [True]


def test_evaluate_says_that_bf16_is_slow_here(digits_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    result = resnetkit.evaluate(digits_run, "digits", backend="torch", precision="bf16", device="cpu")
    assert SLOW in result.notes


def test_converted_once_and_made_anew_where_it_was_damaged(
    opened: OpenedModel, pixels: np.ndarray, exact: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESNETKIT_CACHE", str(tmp_path / "cache"))
    lanes = Lanes.of("latency", cores=1)
    build(opened, "openvino", "float32", lanes)
    (folder,) = (tmp_path / "cache" / "converted").iterdir()
    made = (folder / "model.bin").stat().st_mtime_ns
    build(opened, "openvino", "float32", lanes)
    assert (folder / "model.bin").stat().st_mtime_ns == made
    (folder / "model.xml").write_text("<net")
    np.testing.assert_allclose(build(opened, "openvino", "float32", lanes)(pixels), exact, atol=1e-5)
    assert [path.name for path in (tmp_path / "cache" / "converted").iterdir()] == [folder.name]


@pytest.mark.usefixtures("operators_read_once")
def test_a_damaged_onnx_model_is_made_anew(
    opened: OpenedModel, pixels: np.ndarray, exact: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zeros are what a power cut leaves; reading such a file gives no error."""
    monkeypatch.setenv("RESNETKIT_CACHE", str(tmp_path))
    build(opened, "onnxruntime", "float32", Lanes.of("latency"))
    (model,) = tmp_path.rglob("model.onnx")
    content = model.read_bytes()
    quarter = len(content) // 4
    model.write_bytes(content[:quarter] + bytes(quarter) + content[2 * quarter :])
    np.testing.assert_allclose(build(opened, "onnxruntime", "float32", Lanes.of("latency"))(pixels), exact, atol=1e-5)
    assert model.read_bytes() == content


def test_what_was_begun_by_a_killed_process_goes_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNETKIT_CACHE", str(tmp_path))
    old, young = (tmp_path / "converted" / f".part-{name}" for name in ("old", "young"))
    for part in (old, young):
        part.mkdir(parents=True)
        (part / "model.onnx").write_text("half")
    os.utime(old, (time.time() - 48 * 3600,) * 2)
    made = kept("converted/text", lambda: "whole", lambda text, place: (place / "text").write_text(text), text_of)
    assert made == text_of(tmp_path / "converted" / "text") == "whole"
    assert young.exists()
    assert not old.exists()


def text_of(place: Path) -> str:
    return (place / "text").read_text()


def test_on_a_full_disk_it_still_answers(digits_run: Path, tmp_path: Path) -> None:
    """A limit on file size stops the write in the middle, as a full disk does."""
    code = f"""
import resource
import numpy as np
from resnetkit.deployment.backends.lanes import Lanes
from resnetkit.deployment.building import build
from resnetkit.deployment.opening import open_model
opened = open_model({str(digits_run)!r})
pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, opened.preprocess.channels), np.uint8)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for backend in ("onnxruntime", "openvino"):
    answers = build(opened, backend, "float32", Lanes.of("latency"))(pixels)
    assert np.abs(answers - opened.classifier()(pixels)).max() < 1e-5
"""
    environment = {**as_here(), "RESNETKIT_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "converted").iterdir()) == []


def test_other_answers_are_another_conversion(opened: OpenedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    several = replace(opened.card, task="multilabel")
    assert key(opened.network, several) != key(opened.network, opened.card)
    before = key(opened.network, opened.card)
    monkeypatch.setattr("resnetkit.deployment.backends.artefacts.__version__", "99")
    assert key(opened.network, opened.card) != before


def test_a_cache_that_may_not_be_searched_stops_no_prediction(
    digits_run: Path, digits: np.ndarray, tmp_path: Path, without_privileges: Callable[[], None]
) -> None:
    from PIL import Image

    picture = tmp_path / "picture.png"
    Image.fromarray(digits[0, :, :, 0]).save(picture)
    closed = tmp_path / "cache"
    (closed / "chosen").mkdir(parents=True)
    closed.chmod(0)
    for words in ([], ["--backend", "openvino"]):
        done = subprocess.run(
            [sys.executable, "-m", "resnetkit", "predict", digits_run, picture, "--jsonl", *words],
            env={**as_here(), "RESNETKIT_CACHE": str(closed)}, capture_output=True, text=True, check=False,
            preexec_fn=without_privileges,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def test_without_a_home_the_named_cache_is_used_and_without_both_none(
    opened: OpenedModel, pixels: np.ndarray, exact: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(_: int) -> None:
        raise KeyError("uid not found")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert any_note("converted") is False
    monkeypatch.delenv("RESNETKIT_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(WriteFailed, match="name one with RESNETKIT_CACHE"):
        cache_folder()
    assert any_note("converted") is False
    answers = build(opened, "openvino", "float32", Lanes.of("latency"))(pixels)
    np.testing.assert_allclose(answers, exact, atol=1e-5)


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
    remember(opened, choices, choices[0], mode="latency", batch_size=1)
    assert remembered(opened, choices, mode="latency", batch_size=1) is None


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
    found = probe(builder(opened, Lanes.of("latency")), choices, pixels, mode="latency", bound=Bound())
    assert remembered(opened, choices, mode="latency", batch_size=48) is None
    remember(opened, choices, found, mode="latency", batch_size=48)
    assert remembered(opened, choices, mode="latency", batch_size=48) == found
    assert remembered(opened, choices, mode="throughput", batch_size=48) is None


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
    assert "torch" not in choose(opened, backend="openvino").classifier.description
    asked = []
    work = Work(48, lambda _: asked.append(1))
    assert choose(opened, work=work).classifier.description.endswith("float32 · cpu")
    assert asked == [], "not even pictures are read for it"


def test_a_single_image_tells_that_there_is_little_work(opened: OpenedModel) -> None:
    sizes: list[int] = []

    class Counting:
        preprocess = opened.preprocess

        def stream(self, batches):
            for pixels in batches:
                sizes.append(len(pixels))
                yield from built(EXACT).stream([pixels])

    built = builder(opened, Lanes.of("latency"))
    assert not worth_a_probe(Counting(), 48, batch_size=16)
    assert set(sizes) == {1}
    assert worth_a_probe(Counting(), 10**9, batch_size=16)
    assert set(sizes) == {1, 16}


def test_where_no_picture_can_be_read_torch_goes_on(opened: OpenedModel) -> None:
    classifier = choose(opened, work=Work(10**9, lambda _: None), batch_size=39).classifier
    assert classifier.description.endswith("float32 · cpu")


def test_torchs_compiler_is_never_chosen_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("openvino", "onnxruntime"):
        monkeypatch.setitem(sys.modules, package, None)
    assert candidates("auto", "float32") == (EXACT,)


def test_where_there_is_a_gpu_another_runtime_means_the_processor(
    digits_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(open_model(digits_run), backend="onnxruntime")  # kept, as torch cannot export where a GPU is only pretended
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    description = choose(open_model(digits_run), backend="onnxruntime").classifier.description
    assert description.endswith("ONNX Runtime")
    with pytest.raises(InvalidArgument, match="choose auto, torch"):
        choose(open_model(digits_run), backend="tensorrt")
    # A device other than the processor that every machine has, though nothing can be read from it.
    monkeypatch.setattr(devices, "best_device", lambda named: named or "cuda")
    with pytest.raises(InvalidArgument, match="openvino computes on the CPU: leave out --device meta"):
        choose(open_model(digits_run), backend="openvino", device="meta")
    with pytest.raises(InvalidArgument, match="int8 comes from calibration"):
        choose(open_model(digits_run), precision="int8", device="meta")


def test_an_answer_outside_the_bound_is_never_chosen(opened: OpenedModel, pixels: np.ndarray) -> None:
    tight = Bound(agreement=1.0, difference=1e-5)
    built = builder(opened, Lanes.of("latency"))
    found = probe(built, candidates("openvino", "auto"), pixels, mode="latency", bound=tight)
    assert found == Choice("openvino", "float32")
    with pytest.raises(InvalidArgument, match="--precision float32"):
        probe(built, candidates("torch", "bf16"), pixels, mode="latency", bound=tight)


def test_a_processor_without_bf16_is_not_made_to_compute_in_it(opened: OpenedModel) -> None:
    """bf16 is emulated there, which is slower: nothing tries it unasked, and a probe that is made to sees it."""
    code = """
import numpy as np
from resnetkit.deployment.opening import open_model
from resnetkit.deployment.choosing import choose
from resnetkit.deployment.backends.lanes import Lanes
from resnetkit.deployment.probing import Bound, Choice, builder, candidates, probe
from resnetkit.deployment.stated import Stated
opened = open_model("resnet18", Stated(image_size=96))
pixels = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), np.uint8)
choices = (Choice("torch", "float32"), Choice("torch", "bf16"), Choice("openvino", "bf16"))
built = builder(opened, Lanes.of("latency"))
print(probe(built, choices, pixels, mode="latency", bound=Bound(0, 1)).precision)
print({choice.precision for choice in candidates("auto", "auto")})
print(choose(opened, backend="torch", precision="bf16").notes)
choose(opened, backend="openvino", precision="bf16")
"""
    environment = {**as_here(), "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"}
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
    assert remembered(opened, choices, mode="latency", batch_size=7) is None
    remember(opened, choices, Choice("openvino", "bf16"), mode="latency", batch_size=7)
    assert remembered(opened, choices, mode="latency", batch_size=7) == Choice("openvino", "bf16")
    assert remembered(opened, choices, mode="throughput", batch_size=7) is None
    assert choose(opened, precision="auto", batch_size=7).classifier.description.endswith("bf16 · OpenVINO")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert remembered(opened, choices, mode="latency", batch_size=7) is None
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
