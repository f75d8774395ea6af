"""Training images/s of resnetkit's own step beside the tutorial's loop, alternating, as a median ratio of pairs.

    python benchmarks/training.py --yardstick ../shared/baselines/train_speed.py    # three cases, five pairs
    python benchmarks/training.py --yardstick … --case 18 128 32 --pairs 5

Each measurement is a process of its own on all cores. Both sides take random pixels, so that only the step is timed;
ours takes them as uint8, as the loader gives them, and normalises them in the step. Run it on a quiet machine.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

from pairs import compare, conditions, report

CASES = ((50, 16, 224), (18, 32, 224), (18, 128, 32))


def own_speed(depth: int, batch: int, size: int) -> tuple[float, str]:
    """Images/s of steps on a network of 10 classes, median step of at least 4 s, and the precision chosen."""
    import torch

    from resnetkit.api.networks import create_model
    from resnetkit.catalog.preprocessing import Preprocess
    from resnetkit.catalog.recipe import Recipe
    from resnetkit.data.memory import keep_freed_memory
    from resnetkit.tasks.objective import Objective
    from resnetkit.training.optimisation import Optimiser
    from resnetkit.training.precision import faster_precision
    from resnetkit.training.running import choose_kernels, forward_of
    from resnetkit.training.step import add_gradients

    keep_freed_memory()  # as the command does
    torch.manual_seed(0)
    network = create_model(f"resnet{depth}", num_classes=10).to(memory_format=torch.channels_last)
    images = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8).contiguous(
        memory_format=torch.channels_last
    )
    labels = torch.randint(0, 10, (batch,))
    preprocess, recipe = Preprocess.for_size(size), Recipe()
    objective = Objective(recipe.loss, smoothing=recipe.label_smoothing)
    kernels = choose_kernels(recipe.kernels, network)
    precision = faster_precision(network, images, labels, preprocess=preprocess, kernels=kernels)
    forward = forward_of(network, kernels)
    optimiser = Optimiser(network, recipe)
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < 7 or time.perf_counter() - start < 4:
        began = time.perf_counter()
        add_gradients(
            network, optimiser, images, labels,
            preprocess=preprocess, objective=objective, precision=precision, forward=forward,
        )  # fmt: skip
        optimiser.step(0.01)
        times.append(time.perf_counter() - began)
    return batch / statistics.median(times[2:]), precision


def case_result(yardstick: Path, case: tuple[int, int, int], pairs: int) -> dict[str, object]:
    """Ours and the yardstick in turn, `pairs` times."""
    words = [str(value) for value in case]
    print(f"depth, batch, size: {words}", flush=True)
    ours, theirs = [sys.executable, __file__, "--own", *words], [sys.executable, str(yardstick), *words]
    return {"network": f"resnet{case[0]}", "batch": case[1], "size": case[2], **compare(ours, theirs, pairs)}


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--yardstick", type=Path, help="the tutorial's loop: a script taking DEPTH BATCH SIZE")
    reader.add_argument("--case", type=int, nargs=3, metavar=("DEPTH", "BATCH", "SIZE"))
    reader.add_argument("--pairs", type=int, default=5)
    reader.add_argument("--own", type=int, nargs=3, metavar=("DEPTH", "BATCH", "SIZE"), help="only ours, once")
    reader.add_argument("--output", type=Path, help="write the results as JSON")
    words = reader.parse_args()
    if words.own:
        speed, precision = own_speed(*words.own)
        print(f"resnetkit resnet{words.own[0]} {words.own[2]}px batch {words.own[1]} {precision}: {speed:.1f} img/s")
        return
    if not words.yardstick:
        reader.error("--yardstick is needed: the script to measure against")
    cases = [tuple(words.case)] if words.case else CASES
    results = {**conditions(), "results": [case_result(words.yardstick, case, words.pairs) for case in cases]}
    report(results, words.output)


if __name__ == "__main__":
    main()
