"""One picture, four ways of giving it, one answer."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import resnetkit as rk
from resnetkit.api.predicting import _sample
from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.data.opening import open_data
from resnetkit.deployment.predictor import Failure, Prediction
from resnetkit.errors import InvalidArgument, UndecodableImage

NEEDLESS = (
    "accelerate", "matplotlib", "nncf", "onnx", "onnxruntime", "onnxscript", "openvino", "pandas", "scipy", "sklearn",
    "sympy", "torchmetrics", "yaml",
    "torch._dynamo", "torch._inductor", "torch.distributed.algorithms._checkpoint", "torch.onnx",
    "resnetkit.checkpoints.adopt", "resnetkit.checkpoints.fetch", "resnetkit.evaluation", "resnetkit.training",
)  # fmt: skip
"""what others of the verbs need: importing them all takes longer than torch"""


@pytest.fixture(scope="module")
def predictor(digits_run: Path) -> rk.Predictor:
    return rk.Predictor(digits_run)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    from sklearn.datasets import load_digits

    path = tmp_path / "four.png"
    Image.fromarray((load_digits().images[4] * 15.9375).astype(np.uint8)).convert("RGB").save(path)
    return path


def test_a_path_bytes_a_pillow_image_and_an_array_give_the_same(predictor: rk.Predictor, picture: Path):
    with Image.open(picture) as image:
        array = np.array(image)
        answers = [predictor(given) for given in (picture, str(picture), picture.read_bytes(), image, array)]
    assert {answer.top(1)[0].label for answer in answers} == {"4"}
    for answer in answers[1:]:
        assert np.array_equal(answer.probabilities, answers[0].probabilities)


def test_probabilities_add_up_and_come_in_order(predictor: rk.Predictor, picture: Path):
    answer = predictor(picture)
    assert answer.probabilities.sum() == pytest.approx(1.0, abs=1e-5)
    scores = [each.score for each in answer.top(10)]
    assert scores == sorted(scores, reverse=True)
    assert len(answer.top(99)) == 10
    with pytest.raises(InvalidArgument):
        answer.top(0)


@pytest.mark.parametrize(
    "array", [np.zeros((8, 8, 3), np.float32), np.zeros((8, 8, 4), np.uint8), np.zeros((0, 8, 3), np.uint8)]
)
def test_what_is_no_picture_is_refused(predictor: rk.Predictor, array: np.ndarray):
    with pytest.raises(UndecodableImage, match="uint8, H×W×3"):
        predictor(array)


def test_a_stream_keeps_order_and_goes_on_after_a_broken_picture(
    predictor: rk.Predictor, picture: Path, tmp_path: Path
):
    (tmp_path / "broken.jpg").write_text("no picture")
    wanted = [picture, tmp_path / "broken.jpg", tmp_path / "absent.jpg", picture] * 11
    answers = list(predictor.stream(wanted))
    assert [answer.source for answer in answers] == [str(path) for path in wanted]
    assert [isinstance(answer, Failure) for answer in answers] == [False, True, True, False] * 11
    assert all(answer.top(1)[0].label == "4" for answer in answers if isinstance(answer, Prediction))


@pytest.mark.parametrize(("broken", "batch_size"), [(17, 16), (5, 1)])
def test_first_pictures_that_are_all_broken_stop_nothing(
    broken: int, batch_size: int, digits_run: Path, picture: Path, tmp_path: Path
):
    wanted = [str(tmp_path / f"absent{index}.jpg") for index in range(broken)] + [str(picture)]
    answers = list(rk.predict(digits_run, wanted, batch_size=batch_size))
    assert [answer.source for answer in answers] == wanted
    assert [isinstance(answer, Failure) for answer in answers] == [True] * broken + [False]
    assert _sample(wanted[:-1], 4, Preprocess.for_size(8)) is None


def test_a_folder_gives_what_training_would_read_of_it(digits_run: Path, picture: Path, tmp_path: Path):
    with Image.open(picture) as image:
        grey = image.convert("L")
    written = ("a.JPEG", "b.bmp", "c.dib", "d.jfif", "e.pbm", "f.pgm", "g.tiff", "h.webp", "i.avif", "j.jp2", "k.gif")
    for label in "45":
        folder = tmp_path / "photos" / label
        folder.mkdir(parents=True)
        for name in written:
            grey.convert("1" if name.endswith(".pbm") else "L").save(folder / name)
        (folder / "notes.txt").write_text("no picture")
    training = open_data(tmp_path / "photos").split("all")
    read = [training.name(index) for index in range(len(training))]
    answers = list(rk.predict(digits_run, [tmp_path / "photos"]))
    assert all(isinstance(answer, Prediction) for answer in answers)
    found = [Path(answer.source).relative_to(tmp_path / "photos").as_posix() for answer in answers]
    assert sorted(found) == sorted(read)
    assert len(found) == 2 * len(written)


@pytest.mark.parametrize("words", [(), ("--tta", "flip")])
def test_a_first_prediction_imports_no_more_than_it_needs(digits_run: Path, picture: Path, words: tuple[str, ...]):
    script = (
        "import sys\nfrom resnetkit.cli import main\n"
        f"try:\n    main(['predict', {str(digits_run)!r}, {str(picture)!r}, '--jsonl', *{words!r}])\n"
        "except SystemExit as left:\n    assert left.code == 0\n"
        "print(*sys.modules)\n"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    answer, loaded = out.splitlines()
    assert '"label": "4"' in answer
    assert "torch" in loaded.split()
    assert set(NEEDLESS) & set(loaded.split()) == set()


def test_load_gives_the_network_with_its_card(digits_run: Path):
    network = rk.load(digits_run / "model.safetensors")
    assert network.class_names == tuple("0123456789")
    assert network.preprocess.size == (8, 8)
    assert not network.training


def test_opening_a_bare_architecture_leaves_the_callers_numbers_by_chance_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    weights = [rk.load("resnet20").fc.weight for _ in range(2)]
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(*weights), "they are the same each time"
