"""Weights that mirror each other, and the networks in which an image and its mirror image then get the same answer."""

import copy
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from resnetkit.api import budgeting
from resnetkit.api.finding import find_lr
from resnetkit.api.training import resume, train
from resnetkit.catalog.architectures import architecture
from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.catalog.recipe import Recipe
from resnetkit.catalog.rows import Architecture, Residual
from resnetkit.deployment.opening import open_model
from resnetkit.errors import InvalidArgument, RunError
from resnetkit.models import Network, build
from resnetkit.tasks.objective import Objective
from resnetkit.training.learner import Learner
from resnetkit.training.plan import Plan
from resnetkit.training.progress import Stepped
from resnetkit.training.step import add_gradients
from resnetkit.training.symmetry import Symmetry, has_mirrored_halves

ROW = Residual(
    "basic", (1, 1, 1), (8, 12, 16), stem="conv3", stem_width=8, antialias="avg", shortcut="avg_conv"
)  # fmt: skip
"""halves its maps by averages throughout"""


def a_network(row: Architecture = ROW) -> Network:
    torch.manual_seed(0)
    return build(row, num_classes=3).to(memory_format=torch.channels_last)


def images(size: int = 16) -> Tensor:
    return torch.randint(0, 256, (6, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def answers(network: Network, size: int = 16) -> tuple[Tensor, Tensor]:
    """In float64, to images and to their mirror images."""
    network, x = copy.deepcopy(network).double().eval(), images(size).double() / 255
    return network(x), network(x.flip(3))


def learnt(recipe: Recipe, row: Architecture = ROW) -> Network:
    learner = Learner(a_network(row), recipe)
    for step in range(4):
        add_gradients(
            learner.network, learner.optimiser, images(), torch.tensor([0, 1, 2, 0, 1, 2]),
            preprocess=Preprocess.for_size(16), objective=Objective("cross_entropy"), precision="float32",
            forward=learner.forward,
        )  # fmt: skip
        learner.optimiser.step(0.1)
        learner.stepped(step)
    return learner.network


@pytest.mark.parametrize(
    ("recipe", "row"),
    [
        (Recipe(kernels="torch"), ROW),
        (Recipe(kernels="torch", optimiser="adamw"), ROW),
        (Recipe(kernels="torch"), replace(ROW, attention="se")),
        (Recipe(kernels="torch"), replace(ROW, norm="group", widths=(32, 32, 64), stem_width=32)),
        (Recipe(kernels="torch"), replace(ROW, block="bottleneck", widths=(16, 32, 48))),
    ],
)
def test_after_some_steps_mirror_images_get_the_same_answer(recipe: Recipe, row: Architecture):
    ours, theirs = answers(learnt(replace(recipe, mirrored_weights=True), row))
    assert torch.allclose(ours, theirs, rtol=1e-9)
    assert ours.std(dim=0).max() > 1e-3, "and not each image the same"
    ours, theirs = answers(learnt(recipe, row))
    assert (ours - theirs).abs().max() > 1e-3


class TwoConvolutions(torch.nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            torch.nn.Conv2d(3, 8, 3, padding=1, bias=False), torch.nn.ReLU(),
            torch.nn.Conv2d(8, 4, 3, padding=1, bias=False), torch.nn.ReLU(),
            torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 3, bias=False),
        )  # fmt: skip
        self.double()

    def get_classifier(self) -> torch.nn.Module:
        return self[-1]


def test_a_step_is_that_of_weights_that_are_shared():
    """Two convolutions and a classifier whose second half is written out here as the first half's mirror image."""
    x, wanted = images().double() / 255, torch.tensor([0, 1, 2, 0, 1, 2])
    torch.manual_seed(2)
    shapes = ((4, 3, 3, 3), (2, 8, 3, 3), (3, 2))
    pixels, kernels, classes = (torch.randn(shape, dtype=torch.float64) for shape in shapes)

    def loss(pixels: Tensor, kernels: Tensor, classes: Tensor) -> Tensor:
        first = torch.cat([pixels, pixels.flip(3)])
        swapped = torch.cat([kernels[:, 4:], kernels[:, :4]], dim=1)
        second = torch.cat([kernels, swapped.flip(3)])
        maps = F.conv2d(F.conv2d(x, first, padding=1).relu(), second, padding=1).relu()
        return F.cross_entropy(maps.mean((2, 3)) @ torch.cat([classes, classes], dim=1).T, wanted)

    shared = [tensor.clone().requires_grad_() for tensor in (pixels, kernels, classes)]
    loss(*shared).backward()

    plain = TwoConvolutions()
    with torch.no_grad():
        plain[0].weight[:4], plain[2].weight[:2], plain[6].weight[:, :2] = pixels, kernels, classes
    symmetry = Symmetry(plain)
    F.cross_entropy(plain(x), wanted).backward()
    with torch.no_grad():
        for module in (plain[0], plain[2], plain[6]):
            module.weight -= 0.5 * module.weight.grad
    symmetry.keep()
    # A shared weight gets the gradients of both its places, where the mean of two has half of each.
    for now, before in zip((plain[0].weight[:4], plain[2].weight[:2], plain[6].weight[:, :2]), shared, strict=True):
        assert torch.allclose(now, before - 0.25 * before.grad, rtol=1e-12)


def test_what_is_symmetric_already_stays_bit_for_bit():
    network = learnt(Recipe(mirrored_weights=True, kernels="torch"))
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    Symmetry(network).keep()
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


def test_random_weights_keep_their_variance():
    network = a_network(architecture("resnet8_w40"))
    before = {key: tensor.std().item() for key, tensor in network.state_dict().items() if tensor.ndim == 4}
    Symmetry(network)
    for key, deviation in before.items():
        assert network.state_dict()[key].std().item() == pytest.approx(deviation, rel=0.2), key


@pytest.mark.parametrize(
    ("row", "can"),
    [
        *((architecture(name), True) for name in ("resnet8_w40", "resnet20_b", "resnet18", "resnet50d", "seresnet50")),
        *((architecture(name), False) for name in ("resnet20", "resnext50_32x4d", "preact_resnet110", "vgg11")),
        (replace(ROW, attention="eca"), False),  # sees channels beside each other
        (replace(ROW, widths=(8, 9, 16)), False),  # no two halves
        (replace(ROW, stem_width=7), False),
    ],
)
def test_which_networks_have_mirrored_halves(row: Architecture, can: bool):
    assert has_mirrored_halves(row) == can
    if isinstance(row, Residual):
        shortcut = row.shortcut if row.shortcut == "pad" else "avg_conv"
        network = build(replace(row, stem="conv3", antialias="avg", shortcut=shortcut), num_classes=3).eval()
        for tensor in network.parameters():
            if tensor.ndim == 1:  # residuals that begin as zero would hide what they do
                torch.nn.init.uniform_(tensor, 0.5, 1.5)
        Symmetry(network)
        ours, theirs = answers(network, size=64)
        assert torch.allclose(ours, theirs, rtol=1e-9) == can


@pytest.fixture
def few(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), np.uint8)
    np.savez(tmp_path / "few.npz", train_images=pixels, train_labels=np.arange(24)[:, None] % 2)
    return tmp_path / "few.npz"


def asked(run: Path) -> bool | None:
    return Plan.read(run / "recipe.yaml").recipe.mirrored_weights


def test_a_recipe_that_leaves_it_open_has_it_where_it_can(few: Path, tmp_path: Path):
    settings = {"recipe": "fast", "epochs": 2}
    run = train(few, output=tmp_path / "can", **settings).run
    assert asked(run)
    network = open_model(run).network
    kernels, half = network.get_parameter("layer1.0.conv2.weight"), 20
    assert torch.equal(kernels[half:, half:], kernels[:half, :half].flip(3))
    assert torch.equal(kernels[half:, :half], kernels[:half, half:].flip(3))
    assert not asked(train(few, output=tmp_path / "other", model="resnet20", **settings).run)
    assert not asked(train(few, output=tmp_path / "unlike", flip=False, **settings).run)
    assert not asked(train(few, output=tmp_path / "tuned", model=run, **settings).run)
    assert not asked(train(few, output=tmp_path / "usual", epochs=1).run), "and other recipes have not"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"model": "resnet20"}, "must be a ResNet whose layers see all channels alike"),
        ({"model": "resnet8_w40", "flip": False}, "as --flip does"),
    ],
)
def test_where_they_cannot_be_had_they_are_refused(few: Path, tmp_path: Path, fields: dict[str, object], why: str):
    with pytest.raises(InvalidArgument, match=why):
        train(few, output=tmp_path / "run", epochs=1, mirrored_weights=True, **fields)
    run = train(few, output=tmp_path / "first", epochs=1, model="resnet8_w40").run
    with pytest.raises(InvalidArgument, match="train from random ones"):
        train(few, output=tmp_path / "run", epochs=1, mirrored_weights=True, model=run)
    assert not (tmp_path / "run").exists()


def test_a_larger_network_has_them_too_if_it_can(few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(budgeting, "PASSES_FOR_LARGER", 0)

    def run(model: str, larger: str, **fields: object) -> tuple[str | None, bool | None]:
        said = {"recipe": Recipe(model=model, larger_models=(larger,), mirrored_weights=None), "minutes": 0.05}
        folder = train(few, output=tmp_path / f"{model}-{larger}", **said, **fields).run
        return Plan.read(folder / "recipe.yaml").model.name, asked(folder)

    assert run("resnet20", "resnet8_w40") == ("resnet8_w40", True)
    assert run("resnet8_w40", "resnet20") == ("resnet20", False)
    with pytest.raises(InvalidArgument, match="--no-mirrored-weights"):
        run("resnet8_w40", "resnet32", mirrored_weights=True)


def test_a_run_that_was_killed_goes_on_as_if_it_never_was(few: Path, tmp_path: Path):
    settings = {"recipe": "fast", "epochs": 2, "ema_decay": 0.5, "deterministic": True, "device": "cpu"}
    steps: list[object] = []

    def killed(news: object) -> None:
        if isinstance(news, Stepped):
            steps.append(news)
            if len(steps) == 2:
                raise KeyboardInterrupt

    whole = train(few, output=tmp_path / "whole", **settings).run
    with pytest.raises(KeyboardInterrupt):
        train(few, output=tmp_path / "killed", checkpoint_steps=1, listener=killed, **settings)
    assert resume(tmp_path / "killed").epochs == 2
    ours, theirs = (open_model(run).network.state_dict() for run in (whole, tmp_path / "killed"))
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())
    assert torch.equal(ours["conv1.weight"][16:], ours["conv1.weight"][:16].flip(3)), "the average too"


def test_the_rates_are_tried_with_them(few: Path, monkeypatch: pytest.MonkeyPatch):
    kept: list[object] = []
    monkeypatch.setattr(Symmetry, "keep", lambda symmetry: kept.append(symmetry))
    with suppress(RunError):  # noise teaches nothing
        find_lr(few, recipe="fast", model="resnet8_w40")
    assert len(kept) > 10


def test_a_run_without_them_cannot_go_on_with_them(few: Path, tmp_path: Path):
    run = train(few, output=tmp_path / "run", epochs=1, model="resnet8_w40").run
    with pytest.raises(RunError, match=r"mirrored_weights: False → True.*train anew"):
        resume(run, mirrored_weights=True, force=True)
    run = train(few, output=tmp_path / "with", epochs=1, model="resnet8_w40", mirrored_weights=True).run
    assert not asked(resume(run, mirrored_weights=False, epochs=2, force=True).run)
