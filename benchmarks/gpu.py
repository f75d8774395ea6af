"""Training images/s on a GPU: resnetkit's step, eager and compiled, beside a plain eager loop with autocast; and CIFAR,
from the processor's loader and with the data on the device.

    python benchmarks/gpu.py --cifar FILE.npz --output gpu.json

One call runs the whole set and writes JSON with hardware and versions. Where there is no GPU it says so and stops with
code 0; `--device cpu --depth 18 --batch 4 --size 64 --steps 2` only tries the script itself. The sides take turns in
one process, each with a network of its own; a figure is the median of `--pairs` turns of `--steps` steps.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from pairs import conditions, report
from resnetkit.api.loading import training_images
from resnetkit.api.networks import create_model
from resnetkit.catalog.preprocessing import Preprocess
from resnetkit.catalog.recipe import Recipe
from resnetkit.catalog.recipes import RECIPES
from resnetkit.data.opening import open_data
from resnetkit.tasks.objective import Objective
from resnetkit.training.optimisation import Optimiser
from resnetkit.training.running import forward_of
from resnetkit.training.step import add_gradients

Step = Callable[[], object]


def plain_step(arguments: argparse.Namespace) -> Step:
    """The loop that everybody writes: eager, channels-first, float32 weights under autocast, torch's SGD."""
    device = torch.device(arguments.device)
    network: nn.Module = create_model(f"resnet{arguments.depth}").to(device).train()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4, nesterov=True)
    images = torch.randn(arguments.batch, 3, arguments.size, arguments.size, device=device)
    labels = torch.randint(0, 1000, (arguments.batch,), device=device)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16):
            loss = F.cross_entropy(network(images), labels)
        torch.autograd.backward(loss)
        optimiser.step()
        loss.item()  # a loop that reports its loss waits for it

    return step


def own_step(arguments: argparse.Namespace, kernels: str) -> Step:
    """resnetkit's: uint8 images, normalised on the device, channels-last, bf16."""
    device = torch.device(arguments.device)
    network = create_model(f"resnet{arguments.depth}").to(device, memory_format=torch.channels_last)
    recipe, preprocess = Recipe(), Preprocess.for_size(arguments.size)
    optimiser, objective = Optimiser(network, recipe), Objective(recipe.loss, smoothing=recipe.label_smoothing)
    shape = (arguments.batch, 3, arguments.size, arguments.size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 1000, (arguments.batch,))
    forward = forward_of(network, "compiled" if kernels == "compiled" else "torch")

    def step() -> None:
        add_gradients(
            network, optimiser, images, labels,
            preprocess=preprocess, objective=objective, precision="bf16", forward=forward,
        )  # fmt: skip
        optimiser.step(0.01)

    return step


def finish(arguments: argparse.Namespace) -> None:
    """Wait for the device."""
    if arguments.device.startswith("cuda"):
        torch.cuda.synchronize()


def images_per_second(step: Step, arguments: argparse.Namespace) -> float:
    finish(arguments)
    began = time.perf_counter()
    for _ in range(arguments.steps):
        step()
    finish(arguments)
    return arguments.steps * arguments.batch / (time.perf_counter() - began)


def step_results(arguments: argparse.Namespace) -> dict[str, object]:
    steps = {"plain": plain_step(arguments)} | {kind: own_step(arguments, kind) for kind in ("torch", "compiled")}
    for step in steps.values():
        for _ in range(3):  # compiles, and lets cuDNN choose
            step()
    speeds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(arguments.pairs):
        for name, step in steps.items():
            speeds[name].append(images_per_second(step, arguments))
    ratios = {
        name: [own / plain for own, plain in zip(values, speeds["plain"], strict=True)]
        for name, values in speeds.items()
    }
    return {
        "network": f"resnet{arguments.depth}", "batch": arguments.batch, "size": arguments.size,
        "pairs": arguments.pairs, "steps": arguments.steps,
        "images_per_second": {name: round(statistics.median(values), 1) for name, values in speeds.items()},
        "ratio": {
            name: [round(value, 2) for value in (statistics.median(values), min(values), max(values))]
            for name, values in ratios.items()
        },
    }  # fmt: skip


def epochs_result(data: Path, batch: int, arguments: argparse.Namespace) -> dict[str, object]:
    """Images/s of the recipe `fast` at 32 px: of whole steps, and of making the images alone, by either loader."""
    device, named = torch.device(arguments.device), RECIPES["fast"].recipe
    source = open_data(data, val_share=0).split("train")
    recipe = replace(named, batch_size=batch, cutmix=0.0, early_sizes=(), early_until=(), flip=True)
    preprocess = Preprocess.for_size(32)
    network = create_model(str(recipe.model), num_classes=10).to(device, memory_format=torch.channels_last)
    optimiser, objective = Optimiser(network, recipe), Objective(recipe.loss, smoothing=recipe.label_smoothing)
    images = {
        name: training_images(recipe, preprocess, source, seed=0, workers=None, device=where)
        for name, where in (("processor", None), ("device", device))
    }

    def epoch(number: int, name: str, learns: bool) -> float:
        began = time.perf_counter()
        for batch in images[name].batches(number):
            if learns:
                add_gradients(
                    network, optimiser, batch.images, batch.labels,
                    preprocess=preprocess, objective=objective, precision="bf16",
                )  # fmt: skip
                optimiser.step(0.01)
        finish(arguments)
        return len(source) / (time.perf_counter() - began)

    speeds: dict[str, list[float]] = {}
    for number in range(arguments.pairs + 1):
        for name in images:
            for what, learns in (("made", False), ("learnt from", True)):
                speeds.setdefault(f"{what}, {name}", []).append(epoch(number, name, learns))
    # The first time pays for kernels being chosen.
    return {what: round(statistics.median(values[1:])) for what, values in speeds.items()}


def cifar_result(data: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """The whole command on CIFAR for `--minutes`, and its accuracy on the test part."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "resnetkit"]
        began = time.perf_counter()
        subprocess.run(
            [*command, "train", str(data), "--recipe", "fast", "--minutes", str(arguments.minutes),
             "--device", arguments.device, "--output", str(run)],
            check=True, stdout=sys.stderr,
        )  # fmt: skip
        seconds = time.perf_counter() - began
        done = subprocess.run(
            [*command, "evaluate", str(run), str(data), "--tta", "flip", "--device", arguments.device, "--json"],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        scores = json.loads(done.stdout)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return {
            "seconds": round(seconds, 1), "epochs": len(lines), "images_per_second": lines[-1]["images_per_second"],
            "waited": lines[-1]["waited"], **{key: scores[key] for key in ("n", "top1", "top1_ci95")},
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--depth", type=int, default=50)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--cifar", type=Path, help="an .npz in MedMNIST's layout")
    parser.add_argument("--minutes", type=float, default=2.0, help="of the training on --cifar")
    parser.add_argument("--output", type=Path, help="write the results as JSON")
    arguments = parser.parse_args()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        print("no GPU here: nothing measured")
        return
    on_gpu = arguments.device.startswith("cuda")
    results = {
        **conditions(),
        "device": torch.cuda.get_device_name(arguments.device) if on_gpu else "cpu",
        "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(),
        "step": step_results(arguments),
        "epochs": {
            batch: epochs_result(arguments.cifar, batch, arguments) for batch in (128, 1024) if arguments.cifar
        },
        "cifar": cifar_result(arguments.cifar, arguments) if arguments.cifar else None,
    }  # fmt: skip
    report(results, arguments.output)


if __name__ == "__main__":
    main()
