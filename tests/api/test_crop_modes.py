"""A recipe's crop mode is what happens: in the model file, by evaluate and predict, and in an exported file."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import resnetkit as rk
from resnetkit.api import evaluating
from resnetkit.api.choosing import show_recipe
from resnetkit.api.training import train
from resnetkit.catalog.preprocessing import IMAGENET_MEAN, Preprocess
from resnetkit.cli import main
from resnetkit.data.opening import open_data
from resnetkit.deployment.exports.opened import open_exported
from resnetkit.errors import InvalidArgument

pytestmark = pytest.mark.usefixtures("operators_read_once")

MODES = ("centre", "squash", "pad")
SIDE = 32


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wide and tall pictures, other at their ends than in their middle: each mode sees something else of them."""
    folder = tmp_path_factory.mktemp("crop") / "photos"
    random = np.random.default_rng(0)
    for kind, level in (("dark", 70), ("light", 180)):
        (folder / kind).mkdir(parents=True)
        for index in range(10):
            pixels = random.normal(level, 40, (16, 5, 3)).clip(0, 255).astype(np.uint8)
            tall = Image.fromarray(pixels).resize((40, 128), Image.Resampling.BICUBIC)
            (tall if index % 2 else tall.rotate(90, expand=True)).save(folder / kind / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def runs(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    settings = {"model": "resnet20", "image_size": SIDE, "epochs": 1, "batch_size": 8, "precision": "float32"}
    return {mode: train(photos, crop_mode=mode, output=folder / mode, **settings).run for mode in MODES}


def by_pillow(path: Path, mode: str) -> np.ndarray:
    """The picture as Pillow alone makes it fit."""
    image = Image.open(path)
    width, height = image.size
    if mode == "squash":
        return np.array(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    scale = SIDE / (min if mode == "centre" else max)(width, height)
    image = image.resize((int(width * scale), int(height * scale)), Image.Resampling.BILINEAR)
    left, top = (SIDE - image.width) // 2, (SIDE - image.height) // 2
    canvas = Image.new("RGB", (SIDE, SIDE), tuple(round(255 * value) for value in IMAGENET_MEAN))
    canvas.paste(image, (left, top))
    return np.array(canvas)


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The pixels that evaluate hands to a model, as they pass by."""
    seen: list[np.ndarray] = []
    answers_to = evaluating.probabilities

    def listen(classifier, batches, *others):
        def passing():
            for batch in batches:
                seen.extend(batch.pixels.copy())
                yield batch

        return answers_to(classifier, passing(), *others)

    monkeypatch.setattr(evaluating, "probabilities", listen)
    return seen


def distances(seen: list[np.ndarray], photos: Path) -> dict[str, int]:
    """By mode the largest difference in grey levels between what was seen and what Pillow makes."""
    source = open_data(photos).split("all")
    names = [source.name(index) for index in range(len(source))]
    assert len(seen) == len(names) == 20
    return {
        mode: max(
            int(np.abs(pixels.astype(int) - by_pillow(photos / name, mode)).max())
            for pixels, name in zip(seen, names, strict=True)
        )
        for mode in MODES
    }


@pytest.mark.parametrize("mode", MODES)
def test_evaluate_sees_what_pillow_makes(
    mode: str, runs: dict[str, Path], photos: Path, evaluated: list[np.ndarray]
) -> None:
    assert rk.load(runs[mode]).preprocess.crop_mode == mode
    rk.evaluate(runs[mode], photos, split="all")
    found = distances(evaluated, photos)
    assert found.pop(mode) <= 1
    assert min(found.values()) > 30, "the pictures tell the modes apart"


@pytest.mark.parametrize("mode", MODES)
def test_predict_and_an_exported_file_follow(mode: str, runs: dict[str, Path], photos: Path, tmp_path: Path) -> None:
    exported = rk.export(runs[mode], tmp_path / "model.onnx").path
    inside = open_exported(exported)
    assert inside.card.preprocess.crop_mode == mode
    network, row = rk.load(runs[mode]).eval(), rk.load(runs[mode]).preprocess
    mean, std = torch.tensor(row.mean), torch.tensor(row.std)
    own, from_file = rk.Predictor(runs[mode]), rk.Predictor(exported)
    for path in sorted(photos.glob("*/[0-3].png")):
        x = (torch.from_numpy(by_pillow(path, mode)) / 255 - mean) / std
        with torch.no_grad():
            wanted = network(x.permute(2, 0, 1)[None]).softmax(1).numpy()
        answers = [
            np.array([[each.score for each in sorted(answer.top(2), key=lambda each: each.label)]])
            for answer in (own(path), from_file(path))
        ]
        answers.append(inside.probabilities(np.array(Image.open(path))[None]))
        for answer in answers:
            assert np.abs(answer - wanted).max() < 0.01, path.name


def test_a_foreign_checkpoint_is_told(
    runs: dict[str, Path], photos: Path, tmp_path: Path, evaluated: list[np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(rk.load(runs["centre"]).state_dict(), tmp_path / "foreign.pth")
    words = ["--architecture", "resnet20", "--image-size", str(SIDE), "--split", "all", "--json"]
    for mode in MODES:
        with pytest.raises(SystemExit) as left:
            main(["evaluate", str(tmp_path / "foreign.pth"), str(photos), "--crop-mode", mode, *words])
        assert (left.value.code, json.loads(capsys.readouterr().out)["n"]) == (0, 20)
        assert distances(evaluated, photos)[mode] <= 1
        evaluated.clear()


def test_the_recipe_keeps_it(runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = train(recipe=runs["squash"] / "recipe.yaml", output=tmp_path / "again").run
    assert rk.load(again).preprocess == rk.load(runs["squash"]).preprocess
    with pytest.raises(SystemExit):
        main(["train", "--recipe", "scratch", "--crop-mode", "pad", "--show-recipe"])
    assert "\ncrop_mode: pad\n" in capsys.readouterr().out


@pytest.fixture(scope="module")
def own(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has seen photos in a way of its own."""
    words = {"crop_mode": "centre", "crop_share": 0.7, "interpolation": "bicubic", "image_size": 72, "epochs": 1}
    output = tmp_path_factory.mktemp("own") / "run"
    return train(photos, model="resnet20", output=output, batch_size=8, precision="float32", **words).run


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ({}, ("centre", 0.7, "bicubic")),
        ({"recipe": "torchvision-v2"}, ("centre", 0.7, "bicubic")),
        ({"crop_share": 0.9, "crop_mode": "squash"}, ("squash", 0.9, "bicubic")),
        ({"recipe": "crop_share: 0.8\n"}, ("centre", 0.8, "bicubic")),
        ({"recipe": "interpolation: bilinear\n", "crop_mode": "pad"}, ("pad", 0.7, "bilinear")),
    ],
)
def test_weights_go_on_seeing_pictures_as_they_did_unless_it_is_said(
    words: dict[str, object], wanted: tuple[str, float, str], own: Path, photos: Path, tmp_path: Path
) -> None:
    recipe = words.get("recipe")
    if isinstance(recipe, str) and ":" in recipe:
        (tmp_path / "mine.yaml").write_text(recipe)
        words = {**words, "recipe": tmp_path / "mine.yaml"}
    chosen = show_recipe(photos, model=own, **words).recipe
    assert (chosen.crop_mode, pytest.approx(chosen.crop_share, abs=0.01), chosen.interpolation) == wanted
    assert show_recipe(photos, model="resnet20", recipe="torchvision-v2").recipe.crop_share == 224 / 232


def test_the_model_that_is_trained_on_has_the_rows_of_the_first(own: Path, photos: Path, tmp_path: Path) -> None:
    words = {"image_size": 72, "epochs": 1, "batch_size": 8, "precision": "float32"}
    first = rk.load(own).preprocess
    assert first.resize == 102
    assert rk.load(train(photos, model=own, output=tmp_path / "second", **words).run).preprocess == first
    torch.save(rk.load(own).state_dict(), tmp_path / "foreign.pth")
    stranger = show_recipe(photos, model=tmp_path / "foreign.pth", recipe="torchvision-v2").recipe
    assert stranger.crop_share == 224 / 232, "a file that says nothing of it is no reason to leave the recipe"


def test_a_row_is_read_as_it_was_spelt_before_and_no_other_mode_is_known() -> None:
    row = Preprocess.for_size(SIDE)
    assert Preprocess.from_dict({**row.to_dict(), "crop_mode": "center"}) == row
    with pytest.raises(InvalidArgument, match="centre, squash, pad"):
        Preprocess.from_dict({**row.to_dict(), "crop_mode": "border"})
