"""What a GPU gives is what the processor gives. Skipped where there is none; `python -m pytest tests/devices` there."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import resnetkit as rk
from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.catalog.recipe import Recipe
from resnetkit.data.augmentation import PadAndCrop, train_transform
from resnetkit.data.colour_jitter import ColourJitter
from resnetkit.data.loader import Loader
from resnetkit.data.resident import ResidentLoader, fits
from resnetkit.data.sources import ArraySource
from resnetkit.data.transforms import EvalTransform
from resnetkit.tasks.classifier import TorchClassifier
from resnetkit.tasks.objective import Objective
from resnetkit.training.learner import Learner
from resnetkit.training.optimisation import Optimiser
from resnetkit.training.running import forward_of
from resnetkit.training.step import add_gradients

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

ROWS = ("resnet18", "resnet50", "resnext50_32x4d", "seresnext50_32x4d", "resnet50d", "densenet121", "vgg11_bn")


def trained_a_little(name: str) -> torch.nn.Module:
    """A network whose batch norms have seen something, so that its activations are of a usual size."""
    torch.manual_seed(0)
    network = rk.create_model(name, num_classes=10).train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(8, 3, 64, 64))
    return network.eval()


@pytest.mark.parametrize("name", ROWS)
def test_float32_on_a_gpu_is_the_processors_answer(name: str):
    network = trained_a_little(name)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    facts = {"num_classes": 10, "class_names": None, "preprocess": Preprocess.for_size(64)}
    by_cpu = TorchClassifier(network, **facts)(pixels)
    by_gpu = TorchClassifier(network.to("cuda"), **facts)(pixels)
    assert np.abs(by_cpu - by_gpu).max() < 1e-4 * by_cpu.max()
    in_bf16 = TorchClassifier(network, precision="bf16", **facts)(pixels)
    assert 0 < np.abs(by_cpu - in_bf16).max() < 0.05


def test_images_made_on_a_gpu_are_the_loaders_to_the_last_bit():
    rng = np.random.default_rng(0)
    n = 20_000
    source = ArraySource(
        rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, n), None, 10, rng.permutation(n)
    )
    preprocess = Preprocess.for_size(24)
    loader = Loader(source, train_transform(PadAndCrop(), preprocess, [ColourJitter()]), 128, shuffle_seed=1)
    assert fits(loader, torch.device("cuda"))
    resident = ResidentLoader(loader, EvalTransform(preprocess), torch.device("cuda"))
    for ours, theirs in zip(resident.batches(1), loader.batches(1), strict=True):
        assert ours.images.is_cuda
        assert torch.equal(ours.images.cpu(), theirs.images)
        assert torch.equal(ours.labels.cpu(), theirs.labels)


@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of what it calls itself, and of whole float32
@pytest.mark.parametrize("kernels", ["torch", "compiled"])
def test_a_step_on_a_gpu_has_the_processors_gradients(kernels: str):
    images = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(16) % 10
    gradients = {}
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        for device in ("cpu", "cuda"):
            torch.manual_seed(0)
            network = rk.create_model("resnet20", num_classes=10).to(device, memory_format=torch.channels_last)
            forward = forward_of(network, kernels if device == "cuda" else "torch")
            recipe = Recipe()
            add_gradients(
                network, Optimiser(network, recipe), images, labels, preprocess=Preprocess.for_size(32),
                objective=Objective(recipe.loss), precision="float32", forward=forward,
            )  # fmt: skip
            gradients[device] = [parameter.grad.cpu() for parameter in network.parameters()]
    finally:
        torch.backends.cudnn.allow_tf32 = before
    for cpu, gpu in zip(gradients["cpu"], gradients["cuda"], strict=True):
        assert (cpu - gpu).norm() <= 2e-3 * cpu.norm() + 1e-6


def test_a_run_trains_scores_and_is_read_on_either_device(tmp_path: Path):
    result = rk.train("digits", device="cuda", epochs=12, batch_size=128, output=tmp_path / "run")
    assert result.best_top1 > 0.9
    scores = [rk.evaluate(result.run, "digits", device=device).scores for device in ("cpu", "cuda")]
    assert scores[0].n == scores[1].n == 360
    assert scores[0].top1 > 0.9
    assert scores[0].top1 == scores[1].top1
    assert abs(scores[0].loss - scores[1].loss) < 1e-4


def test_interrupted_on_a_gpu_and_resumed_it_ends_bit_for_bit_as_if_never_stopped(tmp_path: Path):
    # A process of its own, as cuBLAS decides how it adds when it is first used; enough epochs to be caught at work.
    flags = ["--epochs", "60", "--batch-size", "256", "--device", "cuda", "--checkpoint-steps", "2", "--deterministic"]
    command = [sys.executable, "-m", "resnetkit", "train"]
    run, whole = tmp_path / "run", tmp_path / "whole"
    undisturbed = subprocess.run([*command, "digits", *flags, "--output", whole], capture_output=True, text=True)
    assert undisturbed.returncode == 0, undisturbed.stderr
    process = subprocess.Popen([*command, "digits", *flags, "--output", run], stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not [*(run / "checkpoint").glob("step-0000000[4-9]*")]:
        pass
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 143, errors
    resumed = subprocess.run([*command, "--resume", run], capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr
    ours, theirs = rk.load(run).state_dict(), rk.load(whole).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("kind", ["sgd", "adamw", "lamb", "muon"])
def test_a_learner_written_to_a_file_goes_on_on_a_gpu(kind: str):
    images = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8)
    recipe = Recipe(optimiser=kind, ema_decay=0.9, precision="float32", kernels="torch")
    ends = []
    for broken_off in (False, True):
        torch.manual_seed(0)
        learner = Learner(rk.create_model("resnet20", num_classes=10).to("cuda"), recipe)
        for step in range(4):
            if step == 2 and broken_off:
                state = {key: tensor.cpu() for key, tensor in learner.state().items()}
                learner = Learner(rk.create_model("resnet20", num_classes=10).to("cuda"), recipe)
                learner.restore(state)
            add_gradients(
                learner.network, learner.optimiser, images, torch.arange(8), preprocess=Preprocess.for_size(16),
                objective=Objective(recipe.loss), precision="float32",
            )  # fmt: skip
            learner.optimiser.step(0.01)
            learner.stepped(step)
        ends.append(learner.state())
    for key, value in ends[0].items():
        torch.testing.assert_close(ends[1][key], value, rtol=1e-3, atol=1e-4, msg=key)


def test_the_largest_batch_is_found_by_trying(tmp_path: Path):
    result = rk.train("digits", device="cuda", epochs=1, batch_size="auto", output=tmp_path / "run")
    assert "batch_size:" in (result.run / "recipe.yaml").read_text()
    assert result.epochs == 1


def test_out_of_memory_on_a_gpu_computes_a_batch_in_pieces(tmp_path: Path):
    said: list[str] = []
    torch.cuda.empty_cache()
    # Of 80 GB about 1.5: the context is outside of it.
    torch.cuda.set_per_process_memory_fraction(1.5e9 / torch.cuda.get_device_properties(0).total_memory)
    try:
        result = rk.train(
            "digits", model="resnet50", device="cuda", epochs=1, batch_size=256, image_size=96,
            output=tmp_path / "run", listener=lambda event: said.append(str(event)),
        )  # fmt: skip
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert result.epochs == 1
    assert any("out of memory" in line for line in said), said


def test_a_folder_is_predicted_on_a_gpu_as_on_the_processor(tmp_path: Path):
    from PIL import Image

    run = rk.train("digits", device="cuda", epochs=2, batch_size=128, output=tmp_path / "run").run
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(5):
        Image.fromarray(rng.integers(0, 256, (12, 9 + index, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    command = [sys.executable, "-m", "resnetkit", "predict", run, folder, "--json", "--device"]
    environment = {**os.environ, "RESNETKIT_HOME": str(tmp_path / "home")}
    texts = [
        subprocess.run([*command, device], capture_output=True, text=True, env=environment, check=True).stdout
        for device in ("cpu", "cuda")
    ]
    assert texts[0].count("label") == texts[1].count("label") > 0


def test_a_rate_is_found_on_a_gpu():
    assert 1e-4 < rk.find_lr("digits", device="cuda", batch_size=128).suggestion < 10
