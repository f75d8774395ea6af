"""A run goes on with what it began with, or says what is different."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors import safe_open

from resnetkit.api.training import resume, train
from resnetkit.data.opening import open_data, with_validation
from resnetkit.errors import InvalidArgument, RunError
from resnetkit.training.snapshot import _read, _write


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for name, grey in (("cat", 60), ("dog", 180)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(12):
            pixels = np.clip(random.normal(grey, 40, (16, 16, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{number}.png")
    return tmp_path / "pictures"


@pytest.fixture
def run(tmp_path: Path, pictures: Path) -> Path:
    return train(pictures, output=tmp_path / "run", epochs=2, batch_size=8, deterministic=True).run


def _position(snapshot: Path) -> dict[str, Any]:
    with safe_open(snapshot, framework="pt") as file:
        position: dict[str, Any] = json.loads(file.metadata()["position"])
        return position


def _stand(snapshot: Path, **values: Any) -> None:
    """Rewrite where a snapshot says that its run stands."""
    tensors, position = _read(snapshot)
    _write(snapshot.parent, tensors, replace(position, **values))


def epochs(run: Path) -> list[int]:
    return [json.loads(line)["epoch"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_what_is_different_about_the_images_is_said(run: Path, pictures: Path):
    (pictures / "cat" / "0.png").rename(pictures / "cat" / "new.png")
    (pictures / "dog" / "3.png").unlink()
    with pytest.raises(RunError) as refused:
        resume(run)
    assert all(words in str(refused.value) for words in ("new.png", "3.png", "added", "gone", "--force"))
    assert resume(run, force=True).epochs == 2


def test_a_picture_that_was_replaced_under_its_name_is_noticed(run: Path, pictures: Path):
    Image.new("RGB", (64, 64), (1, 2, 3)).save(pictures / "cat" / "0.png")
    with pytest.raises(RunError, match=r"train: 1 image replaced by others \(cat/0\.png\)"):
        resume(run)


def test_other_images_choose_the_best_anew_and_say_what_was_learnt_from(run: Path, pictures: Path):
    """The held-out images are drawn by their place among all, so a new first one moves some that were learnt from."""
    held = with_validation(open_data(pictures, val_share=0), 0, 0.1).split("val")
    before = {held.name(index) for index in range(len(held))}
    Image.new("RGB", (16, 16), (60, 60, 60)).save(pictures / "cat" / "00.png")
    dataset = with_validation(open_data(pictures, val_share=0), 0, 0.1).split("val")
    learnt = {dataset.name(index) for index in range(len(dataset))} - before - {"cat/00.png"}
    assert learnt, "the case that is tested"
    said: list[str] = []
    snapshot = max((run / "checkpoint").glob("step-*.safetensors"))
    _stand(snapshot, best_epoch=0, best_score=2.0)  # better than all that can come
    result = resume(run, force=True, epochs=3, listener=lambda event: said.append(getattr(event, "text", "")))
    assert result.best_score is not None
    assert result.best_score <= 1
    assert any(f"warning: {len(learnt)} of the {len(dataset)} images" in text for text in said), said


def test_what_was_slowed_down_begins_anew_when_it_is_changed(run: Path):
    snapshot = max((run / "checkpoint").glob("step-*.safetensors"))
    _stand(snapshot, rate=1 / 27, rollbacks=3, skipped=2)
    resume(run, force=True, epochs=3, lr=0.01)
    after = _position(max((run / "checkpoint").glob("step-*.safetensors")))
    assert (after["rate"], after["rollbacks"], after["skipped"]) == (1.0, 0, 0)
    assert (after["epoch"], after["progress"]) == (3, 1.0)


def test_more_epochs_take_the_place_of_a_time(tmp_path: Path, pictures: Path):
    run = train(pictures, output=tmp_path / "run", minutes=0.02, batch_size=8, deterministic=True).run
    done = epochs(run)[-1]
    assert resume(run, force=True, epochs=done + 2).epochs == done + 2
    assert resume(run).epochs == done + 2, "and is so from then on"


def test_the_split_is_not_edited(run: Path):
    path = run / "recipe.yaml"
    path.write_text(path.read_text().replace("split_seed: 0", "split_seed: 1"))
    with pytest.raises(RunError, match=r"data\.split_seed: 0 → 1.*train anew"):
        resume(run, force=True)


def test_a_run_goes_on_on_another_device(run: Path):
    for path in (run / "recipe.yaml", run / "checkpoint" / "recipe.yaml"):
        path.write_text(path.read_text().replace("device: cpu", "device: cuda:7"))
    with pytest.raises(InvalidArgument, match="cuda:7 cannot be used here"):
        resume(run)
    assert resume(run, device="cpu").epochs == 2


def test_a_renamed_class_is_said(run: Path, pictures: Path):
    (pictures / "dog").rename(pictures / "wolf")
    with pytest.raises(RunError, match=r"class added: wolf; class gone: dog"):
        resume(run)


def test_other_pixels_under_the_same_names_are_noticed_in_an_array(tmp_path: Path):
    def write(shade: int) -> None:
        images = np.random.default_rng(0).integers(0, 256, (24, 8, 8), dtype=np.uint8)
        images[::2, 0] = shade
        np.savez(tmp_path / "data.npz", train_images=images, train_labels=np.arange(24)[:, None] % 2)

    write(20)
    train(tmp_path / "data.npz", output=tmp_path / "run", epochs=1, batch_size=8, deterministic=True)
    write(30)
    with pytest.raises(RunError, match="others than before"):
        resume(tmp_path / "run")


def test_an_edited_recipe_is_refused_with_the_difference_and_continued_by_force(run: Path):
    path = run / "recipe.yaml"
    text = path.read_text()
    assert "epochs: 2" in text
    path.write_text(text.replace("epochs: 2", "epochs: 4"))
    with pytest.raises(RunError, match=r"epochs: 2 → 4\. Put it back"):
        resume(run)
    before = (run / "metrics.jsonl").read_text()
    assert resume(run, force=True).epochs == 4
    assert (run / "metrics.jsonl").read_text().startswith(before), "what was trained stays trained"
    assert epochs(run) == [1, 2, 3, 4]
    assert resume(run).epochs == 4, "what was forced once is the run's recipe from then on"


def test_fields_given_beside_are_a_changed_recipe_too(run: Path):
    with pytest.raises(RunError, match=r"batch_size: 8 → 4.*optimiser: sgd → adamw"):
        resume(run, epochs=3, batch_size=4, optimiser="adamw", ema_decay=0.9)
    assert resume(run, force=True, epochs=3, batch_size=4, optimiser="adamw", ema_decay=0.9, lr=0.001).epochs == 3
    assert epochs(run) == [1, 2, 3]
    assert yaml.safe_load((run / "recipe.yaml").read_text())["recipe"]["optimiser"] == "adamw"


def test_what_a_checkpoint_does_not_fit_is_refused_even_by_force(run: Path, pictures: Path):
    with pytest.raises(RunError, match=r"image_size.*--model"):
        resume(run, force=True, image_size=32)
    with pytest.raises(RunError, match=r"crop_mode: centre → pad.*--model"):
        resume(run, force=True, crop_mode="pad")
    with pytest.raises(RunError, match=r"val_share: 0\.1 → 0\.25.*train anew"):
        resume(run, force=True, val_share=0.25)
    (pictures / "bird").mkdir()
    for number in range(6):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(pictures / "bird" / f"{number}.png")
    with pytest.raises(RunError, match=r"class added: bird.*2 → 3 classes.*--model"):
        resume(run, force=True)


def test_a_run_from_before_the_share_to_hold_out_was_the_recipes(tmp_path: Path, pictures: Path):
    run = train(pictures, output=tmp_path / "run", epochs=1, batch_size=8, val_share=0.25, deterministic=True).run
    path = run / "recipe.yaml"
    values = yaml.safe_load(path.read_text())
    del values["recipe"]["val_share"]
    for each in (path, run / "checkpoint" / "recipe.yaml"):
        each.write_text(yaml.safe_dump(values, sort_keys=False))
    assert resume(run).val_n == 6
    assert resume(run, val_share=0.25).val_n == 6
    with pytest.raises(RunError, match=r"val_share: 0\.25 → 0\.1"):
        resume(run, val_share=0.1)
    assert train(recipe=path, output=tmp_path / "again").val_n == 6


def test_a_field_that_no_recipe_has_is_named_first(run: Path):
    with pytest.raises(InvalidArgument, match="epoch"):
        resume(run, epoch=3)


@pytest.mark.parametrize("field", ["batch_size: null", "lr: null", "precision: auto", "kernels: auto"])
def test_what_a_run_decided_as_it_began_is_not_left_open_again(run: Path, field: str):
    path, name = run / "recipe.yaml", field.split(":")[0]
    lines = path.read_text().splitlines()
    path.write_text("\n".join(f"  {field}" if line.startswith(f"  {name}:") else line for line in lines))
    with pytest.raises(RunError, match=f"{name}.* → (None|auto): a run decides that as it begins; give a value"):
        resume(run, force=True)


@pytest.mark.parametrize(("name", "value"), [("data", "photos"), ("row", "resnet18")])
def test_a_recipe_that_is_none_any_more_is_said(run: Path, name: str, value: str):
    values = yaml.safe_load((run / "recipe.yaml").read_text())
    (values if name == "data" else values["model"])[name] = value
    (run / "recipe.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(RunError, match="was it edited"):
        resume(run)
