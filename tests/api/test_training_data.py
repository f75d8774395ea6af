"""What training does with its data: the cache beside the files."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import resnetkit as rk
from resnetkit.api.training import resume, train
from resnetkit.catalog.preprocessing import IMAGENET_MEAN
from resnetkit.errors import BrokenFiles, RunError
from resnetkit.training.progress import Began, EpochEnded, Event, Preparing


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two kinds of pictures, each larger than the cache keeps."""
    monkeypatch.setenv("RESNETKIT_CACHE", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    for kind, level in (("dark", 60), ("light", 190)):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for index in range(12):
            pixels = (level + random.integers(0, 60, (40, 50, 3))).astype(np.uint8)
            Image.fromarray(pixels).resize((400, 300)).save(tmp_path / "photos" / kind / f"{index}.jpg")
    return tmp_path / "photos"


def losses(run: Path) -> list[tuple[float, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["train_loss"], line["val_loss"]) for line in lines]


def test_cached_training_decodes_once_and_repeats(photos: Path, tmp_path: Path) -> None:
    settings = {"epochs": 2, "model": "resnet20", "image_size": 32, "deterministic": True, "workers": 1}
    heard: list[Event] = []
    runs = []
    for number, cache in enumerate((False, True, True)):
        result = train(photos, cache=cache, output=tmp_path / f"run{number}", listener=heard.append, **settings)
        runs.append(losses(result.run))
        heard.append(EpochEnded)  # a mark between the runs
    marks = [index for index, event in enumerate(heard) if event is EpochEnded]
    plain, first, second = (heard[a:b] for a, b in zip([0, *marks], marks, strict=False))
    counts = [
        [event.done for event in part if isinstance(event, Preparing) and "cache" in event.doing]
        for part in (plain, first, second)
    ]
    assert counts == [[], list(range(1, 25)), []]
    assert runs[1] == runs[2]
    assert runs[0][0] == pytest.approx(runs[1][0], abs=0.1)
    assert runs[0] != runs[1]
    shares = [event.waited for event in heard if isinstance(event, EpochEnded)]
    assert len(shares) == 6
    assert all(0 <= share <= 1 for share in shares)


def test_a_cached_run_is_resumed_and_run_again_with_its_cache(photos: Path, tmp_path: Path) -> None:
    settings = {"model": "resnet20", "image_size": 32, "deterministic": True}
    whole = train(photos, cache=True, output=tmp_path / "whole", epochs=2, **settings)

    def stop(event: Event) -> None:
        if isinstance(event, EpochEnded):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(photos, cache=True, output=tmp_path / "cut", epochs=2, **settings, listener=stop)
    resume(tmp_path / "cut")
    assert losses(tmp_path / "cut")[-1] == losses(whole.run)[-1]
    again = train(recipe=whole.run / "recipe.yaml", output=tmp_path / "again")
    assert losses(again.run) == losses(whole.run)


def test_a_broken_file_stops_a_cached_run_too(photos: Path, tmp_path: Path) -> None:
    (photos / "dark" / "3.jpg").write_bytes(b"\xff\xd8\xff and no more")
    settings = {"cache": True, "epochs": 1, "model": "resnet20", "image_size": 32, "output": tmp_path / "run"}
    with pytest.raises(BrokenFiles, match=r"dark/3\.jpg"):
        train(photos, **settings)
    train(photos, skip_broken=True, **settings)


def test_pixels_are_scaled_by_the_images_own_numbers_where_a_recipe_says_so(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    shades = random.normal((30, 60, 90), (5, 10, 20), (24, 20, 20, 3)).clip(0, 255).astype(np.uint8)
    np.savez(tmp_path / "data.npz", train_images=shades, train_labels=np.arange(24) % 2)
    settings = {"epochs": 1, "batch_size": 8, "deterministic": True}
    run = train(tmp_path / "data.npz", normalise_by="data", output=tmp_path / "run", **settings).run
    row = rk.load(run).preprocess
    assert row.mean == pytest.approx((shades / 255).mean(axis=(0, 1, 2)), abs=1e-4)
    assert row.std == pytest.approx((shades / 255).std(axis=(0, 1, 2)), abs=1e-4)
    again = train(recipe=run / "recipe.yaml", output=tmp_path / "again").run
    assert losses(again) == losses(run)
    with pytest.raises(RunError, match=r"normalise_by: data → usual"):
        resume(run, force=True, normalise_by="usual")
    usual = train(tmp_path / "data.npz", output=tmp_path / "usual", **settings).run
    assert rk.load(usual).preprocess.mean == IMAGENET_MEAN


@pytest.mark.parametrize("balance", ["loss", "sampler"])
def test_balancing_changes_what_is_learnt_and_repeats(photos: Path, tmp_path: Path, balance: str) -> None:
    for index in range(4, 12):
        (photos / "dark" / f"{index}.jpg").unlink()
    settings = {"epochs": 1, "model": "resnet20", "image_size": 32, "deterministic": True}
    heard: list[Event] = []
    plain = train(photos, output=tmp_path / "plain", listener=heard.append, **settings)
    (began,) = (event for event in heard if isinstance(event, Began))
    assert began.class_images == (3, 11)  # one of each is held out
    runs = [train(photos, balance=balance, output=tmp_path / name, **settings).run for name in ("one", "two")]
    assert losses(runs[0]) == losses(runs[1]) != losses(plain.run)
